package embedpg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pidFile is what a postmaster says of itself in postmaster.pid.
// PostgreSQL, src/include/utils/pidfile.h: one fact a line, the status in the eighth.
type pidFile struct {
	pid    int
	socket string
	status string // starting, stopping, ready, standby; "" at first
}

func readPidFile(cluster string) (pidFile, error) {
	data, err := os.ReadFile(filepath.Join(cluster, "postmaster.pid"))
	if err != nil {
		return pidFile{}, err
	}
	lines := strings.Split(string(data), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil {
		return pidFile{}, err
	}
	p := pidFile{pid: pid}
	if len(lines) > 4 {
		p.socket = lines[4]
	}
	if len(lines) > 7 {
		p.status = strings.TrimSpace(lines[7])
	}
	return p, nil
}

// stopLeftover ends a server that an earlier Kiln left on the cluster, and removes the pid file of a dead one whose
// number another process has now (a container's processes get the same few numbers at each start). The caller holds the
// lock of the data folder, so no other Kiln owns that server. left says that there were leftovers.
func stopLeftover(ctx context.Context, cluster string, log *slog.Logger) (left bool, err error) {
	p, err := readPidFile(cluster)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return true, nil // torn: PostgreSQL says what it thinks of it
	}
	is, sure := isPostmaster(p.pid, cluster)
	if !is {
		if sure {
			os.Remove(filepath.Join(cluster, "postmaster.pid"))
		}
		return true, nil
	}
	log.Info("stopping the PostgreSQL server that an earlier Kiln left behind", "pid", p.pid)
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, 30 * time.Second}, {syscall.SIGQUIT, 10 * time.Second}} {
		if err := syscall.Kill(p.pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return true, fmt.Errorf("stop the server left behind (process %d): %w", p.pid, err)
		}
		for end := time.Now().Add(step.wait); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if is, _ := isPostmaster(p.pid, cluster); !is {
				return true, nil
			}
			if ctx.Err() != nil {
				return true, ctx.Err()
			}
		}
	}
	return true, fmt.Errorf("a PostgreSQL server from an earlier run (process %d) does not stop: end it by hand", p.pid)
}
