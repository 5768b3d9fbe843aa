package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a child under test.
type process struct {
	cmd  *exec.Cmd
	base string
	// data is its folder, gone with it.
	data string
	done chan struct{}
}

// start runs this program again with args and waits until ready answers 200. The URL of the database goes through the
// environment: it may hold a password.
func start(ctx context.Context, databaseURL, ready string, errs io.Writer, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := listener.Addr().String()
	listener.Close()
	p := &process{base: "http://" + addr, done: make(chan struct{})}
	if p.data, err = os.MkdirTemp("", "kiln-bench-"); err != nil {
		return nil, err
	}
	p.cmd = exec.CommandContext(ctx, self, append(args, "--addr="+addr, "--log-level=warn")...)
	p.cmd.Stderr = errs
	p.cmd.Env = append(os.Environ(), "KILN_DATABASE_URL="+databaseURL, "KILN_BENCH_DATABASE_URL="+databaseURL, "KILN_DATA_DIR="+p.data, "KILN_SECRET_KEY=a bench keeps no secrets")
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.cmd.Wait(); close(p.done) }()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if resp, err := http.Get(p.base + ready); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p, nil
			}
		}
		select {
		case <-p.done:
			return nil, errors.New("the server under test ended: " + strings.Join(args[:1], " "))
		case <-time.After(20 * time.Millisecond):
		}
	}
	p.stop()
	return nil, fmt.Errorf("the server under test does not get ready: %s", args[0])
}

func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.done
	os.RemoveAll(p.data)
}

// cpu is the processor time that the process has used. Zero where there is no /proc.
func (p *process) cpu() time.Duration { return cpuOf(p.cmd.Process.Pid) }

func cpuOf(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on Linux
}

// rss is the memory of the process in MiB: now, and at most so far.
func (p *process) rss() (now, peak float64) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch name {
		case "VmRSS":
			now = kib / 1024
		case "VmHWM":
			peak = kib / 1024
		}
	}
	return now, peak
}
