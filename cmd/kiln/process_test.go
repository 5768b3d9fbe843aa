package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test binary a kiln when its arguments are those of one: what kiln bench starts, which runs itself
// once more, and what launch starts. Anything else would run the tests again, which would start it again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		main()
	}
	dir, err := scratch()
	if err == nil { // who names no data folder must not get one among the sources
		err = os.Setenv("KILN_DATA_DIR", filepath.Join(dir, "data"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// process is a kiln in a process of its own, which can be killed.
type process struct {
	cmd    *exec.Cmd
	origin string // of a kiln serve
	stderr strings.Builder
	exited chan struct{}
}

// launch runs a command line. change may adjust the process before it starts.
func launch(t *testing.T, args []string, change ...func(*exec.Cmd)) (p *process, stdout io.Reader) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p = &process{cmd: exec.Command(self, args...), exited: make(chan struct{})}
	p.cmd.Stderr = &p.stderr
	reader, writer := io.Pipe()
	p.cmd.Stdout = writer
	for _, c := range change {
		c(p.cmd)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		writer.Close()
		close(p.exited)
	}()
	t.Cleanup(func() { p.end(syscall.SIGKILL) })
	return p, reader
}

// launchServe runs kiln serve and returns when it serves. It asks for no access tokens unless args say so.
func launchServe(t *testing.T, args []string, change ...func(*exec.Cmd)) *process {
	t.Helper()
	p, stdout := launch(t, append([]string{"serve", "--addr=127.0.0.1:0", "--log-level=error", "--auth=off"}, args...), change...)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	match := readyLine.FindStringSubmatch(line)
	if match == nil {
		t.Fatalf("serve said %q, %v, %s", line, err, p.stderr.String())
	}
	go io.Copy(io.Discard, stdout)
	p.origin = match[1]
	return p
}

// fixedAddr is an address for a server that does not tell its own. The kernel gives its port to nobody who asks for any port, so that
// it stays free until the server has it.
func fixedAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		if listener, err := net.Listen("tcp", addr); err == nil {
			listener.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

// end sends a signal and waits for the end. It gives the exit code, -1 after a signal.
func (p *process) end(signal syscall.Signal) int {
	_ = p.cmd.Process.Signal(signal)
	<-p.exited
	return p.cmd.ProcessState.ExitCode()
}

// reachable makes a data folder that the account of a root user may reach. It goes away once no PostgreSQL works in it:
// that of a Kiln which was killed ends a moment after it, and writes until then.
func reachable(t *testing.T) string {
	t.Helper()
	parent := t.TempDir()
	t.Cleanup(func() {
		for patience := time.Now().Add(30 * time.Second); worksIn(parent) && time.Now().Before(patience); {
			time.Sleep(moment)
		}
	})
	for dir := parent; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(parent, "data")
}

// worksIn says whether a process has its working folder within dir, as all of PostgreSQL's have, where there is a /proc.
func worksIn(dir string) bool {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	return slices.ContainsFunc(links, func(link string) bool {
		cwd, err := os.Readlink(link)
		return err == nil && strings.HasPrefix(cwd, dir+string(filepath.Separator))
	})
}

// answer is what a request got; err says that there was no whole answer.
type answer struct {
	status int
	header http.Header
	body   map[string]any
	err    error
}

func (a answer) id() string { id, _ := a.body["id"].(string); return id }

// send performs a request; the answer must be JSON.
func send(ctx context.Context, method, url, body string, headers ...string) answer {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/fhir+json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{err: err}
	}
	a := answer{status: resp.StatusCode, header: resp.Header}
	if len(text) > 0 {
		a.err = json.Unmarshal(text, &a.body)
	}
	return a
}

// clean says whether an answer under a failing database is one that a client can do something with.
func (a answer) clean() error {
	switch {
	case a.err != nil:
		return a.err
	case a.status < 300:
		return nil
	case a.status != http.StatusServiceUnavailable:
		return errors.New(http.StatusText(a.status))
	case a.header.Get("Retry-After") == "":
		return errors.New("503 without Retry-After")
	case a.body["resourceType"] != "OperationOutcome":
		return errors.New("503 without an OperationOutcome")
	}
	return nil
}

// together runs work for 0 to n-1 at the same time.
func together(n int, work func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { work(i) })
	}
	wg.Wait()
}

// until calls work again and again until ctx ends.
func until(ctx context.Context, work func(i int)) {
	for i := 0; ctx.Err() == nil; i++ {
		work(i)
	}
}

const moment = 10 * time.Millisecond
