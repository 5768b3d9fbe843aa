package kilntest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"kiln/internal/embedpg"
)

// idle is how long the shared cluster outlives the last test binary that used it.
const idle = time.Minute

// supervisorEnv tells a test binary to be the supervisor of the shared cluster in the folder it names.
const supervisorEnv = "KILN_TEST_SUPERVISOR"

// init is the one way to have a test binary do something else than test, whichever package it was built from.
func init() {
	dir := os.Getenv(supervisorEnv)
	if dir == "" {
		return
	}
	os.Unsetenv(supervisorEnv)
	if err := supervise(dir); err != nil {
		fmt.Fprintln(os.Stderr, "kilntest supervisor:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// inUse holds the lock that says that this process uses the cluster, until it ends. A file that nothing refers to would
// be closed by the garbage collector, and the cluster would stop in the middle of a test of more than a minute.
//
//lint:ignore U1000 it is held for its side effect only
var inUse *os.File

// sharedCluster returns the URL of the cluster that the test binaries of this module share, and keeps it alive while
// this process lives. Two files tell who does what: a shared lock on users says "I use it"; the lock on starter is
// held by the one process that looks whether it runs and starts it.
func sharedCluster(ctx context.Context) (string, error) {
	dir, err := clusterDir()
	if err != nil {
		return "", err
	}
	if inUse, err = lockFile(filepath.Join(dir, "users"), syscall.LOCK_SH); err != nil {
		return "", err
	}
	starter, err := lockFile(filepath.Join(dir, "starter"), syscall.LOCK_EX)
	if err != nil {
		return "", err
	}
	defer starter.Close()
	if url, ok := running(dir); ok {
		return url, nil
	}
	exited, logPath, err := startSupervisor(dir)
	if err != nil {
		return "", fmt.Errorf("start the shared cluster: %w", err)
	}
	for {
		select {
		case <-exited:
			text, _ := os.ReadFile(logPath)
			return "", fmt.Errorf("the shared cluster did not start: %s", text)
		case <-ctx.Done():
			return "", fmt.Errorf("the shared cluster did not start: %w; see %s", ctx.Err(), logPath)
		case <-time.After(5 * time.Millisecond):
			if url, ok := running(dir); ok {
				return url, nil
			}
		}
	}
}

// running returns the URL of the cluster if there is one. The file ready says where its data are.
func running(dir string) (url string, ok bool) {
	data, err := os.ReadFile(filepath.Join(dir, "ready"))
	if err != nil || len(data) == 0 {
		return "", false
	}
	return embedpg.Running(string(data))
}

// startSupervisor runs this test binary again as the supervisor. It gets a session of its own and none of our files, so
// that nothing waits for it: neither the terminal nor go test, which waits for whoever has its output open.
func startSupervisor(dir string) (exited chan struct{}, logPath string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	os.Remove(filepath.Join(dir, "ready"))
	logPath = filepath.Join(dir, "supervisor.log")
	out, err := os.OpenFile(logPath, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, "", err
	}
	defer out.Close()
	cmd := exec.Command(self)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), supervisorEnv+"="+dir)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	exited = make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	return exited, logPath, nil
}

// supervise owns the cluster: it starts a new one and stops it when nobody uses it any more.
func supervise(dir string) error {
	inMemory := filepath.Join(memory, filepath.Base(dir))
	data := filepath.Join(dir, "data")
	for _, old := range []string{inMemory, data} {
		if err := os.RemoveAll(old); err != nil { // nothing of an earlier run is worth keeping
			return err
		}
	}
	if roomInMemory() && os.Mkdir(inMemory, 0o711) == nil {
		defer os.RemoveAll(inMemory)
		data = filepath.Join(inMemory, "data")
	}
	server, err := embedpg.Start(context.Background(), embedpg.Options{
		DataDir:    data,
		BinDir:     os.Getenv("KILN_POSTGRES_DIR"),
		Fetch:      true,
		Disposable: true,
		Settings:   map[string]string{"max_connections": "400", "autovacuum_naptime": "5min", "max_wal_size": "512MB"},
	})
	if err != nil {
		return err
	}
	defer func() {
		server.Stop(context.Background())
		os.RemoveAll(data)
	}()
	unfinished, ready := filepath.Join(dir, "ready.new"), filepath.Join(dir, "ready")
	if err := os.WriteFile(unfinished, []byte(data), 0o600); err != nil {
		return err
	}
	if err := os.Rename(unfinished, ready); err != nil {
		return err
	}
	path := filepath.Join(dir, "users")
	users, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	unused := time.Time{}
	for {
		select {
		case <-server.Done():
			return errors.New("the server ended")
		case <-time.After(time.Second):
		}
		if !sameFile(users, path) {
			return errors.New("the folder was removed")
		}
		if syscall.Flock(int(users.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			unused = time.Time{}
			continue
		}
		switch {
		case unused.IsZero():
			unused = time.Now()
		case time.Since(unused) > idle:
			return nil // still holding the lock: who comes now waits until the server is gone, and starts another
		}
		syscall.Flock(int(users.Fd()), syscall.LOCK_UN)
	}
}

// memory is a file system in memory, where there is one: a new database costs less than half there.
const memory = "/dev/shm"

// roomInMemory says whether the cluster may be there: the databases of a run take less than 2 GB at any time, and nobody
// else shall go short.
func roomInMemory() bool {
	var fs syscall.Statfs_t
	if syscall.Statfs(memory, &fs) != nil || uint64(fs.Bavail)*uint64(fs.Bsize) < 4<<30 {
		return false
	}
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(info)) {
		var kB uint64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kB); err == nil {
			return kB > 8<<20
		}
	}
	return false
}

// clusterDir returns the folder of the shared cluster: one for each user and each checkout of the module.
func clusterDir() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	h := fnv.New32a()
	io.WriteString(h, root)
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("kiln-test-%d-%08x", os.Getuid(), h.Sum32()))
	if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || !ok || int(stat.Uid) != os.Getuid() {
		return "", fmt.Errorf("%s belongs to somebody else", dir)
	}
	return dir, nil
}

// lockFile opens a file and waits for a lock on it, which lasts until the file is closed.
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = syscall.Flock(int(f.Fd()), how); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

func sameFile(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}
