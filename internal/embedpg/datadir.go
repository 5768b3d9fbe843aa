package embedpg

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// InUseError says that another process has the data folder.
type InUseError struct {
	Dir string
	PID int // 0 when unknown
}

// Error tells the reader what to do.
func (e *InUseError) Error() string {
	who := "another Kiln"
	if e.PID != 0 {
		who += fmt.Sprintf(" (process %d)", e.PID)
	}
	return fmt.Sprintf("the data folder %s is in use by %s: stop that one, or give this one a KILN_DATA_DIR of its own", e.Dir, who)
}

// makeDataDir returns the absolute path of the data folder, made if absent.
func makeDataDir(dir string, a account) (string, error) {
	if dir == "" {
		return "", errors.New("no data folder given")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	mode := os.FileMode(0o700)
	if a.drop {
		mode = 0o711 // the account passes through to its own folders in it
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return "", fmt.Errorf("make the data folder: %w", err)
	}
	return dir, nil
}

// lockDataDir takes the data folder for this process. The kernel frees it when the process ends, however it ends.
func lockDataDir(ctx context.Context, dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "kiln.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	// A few tries: Running holds the lock for a moment.
	for try := 0; ; try++ {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock the data folder %s: %w", dir, err)
		}
		if try == 10 || ctx.Err() != nil {
			defer f.Close()
			return nil, &InUseError{Dir: dir, PID: pidIn(f)}
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.Truncate(0)
	f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return f, nil
}

// lockHolder says whether a process has the data folder, and which.
func lockHolder(dir string) (pid int, held bool) {
	f, err := os.Open(filepath.Join(dir, "kiln.lock"))
	if err != nil {
		return 0, false
	}
	defer f.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil {
		return 0, false
	}
	return pidIn(f), true
}

func pidIn(f *os.File) int {
	data := make([]byte, 20)
	n, _ := f.ReadAt(data, 0)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data[:n])))
	return pid
}

// maxSocketPath is what fits in sockaddr_un on every system: 104 bytes on macOS and the BSDs, 108 on Linux, with the
// final zero.
const maxSocketPath = 103

// socketDir returns a folder for the socket that only the account can enter: in the data folder or, when that path is
// too long for a socket or closed to the account, in the user's runtime folder or the folder for temporary files.
func socketDir(dataDir string, a account) (string, error) {
	dir := filepath.Join(dataDir, "run")
	if fits(dir) && a.blockedBy(dir) == "" {
		return dir, privateDir(dir, a)
	}
	h := fnv.New64a()
	io.WriteString(h, dataDir)
	name := fmt.Sprintf("kiln-%d-%x", a.uid, h.Sum64())
	for _, parent := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"} {
		dir := filepath.Join(parent, name)
		if !filepath.IsAbs(dir) || !fits(dir) || a.blockedBy(dir) != "" {
			continue
		}
		if err := privateDir(dir, a); err == nil {
			return dir, nil
		}
	}
	dir, err := os.MkdirTemp("/tmp", "kiln-") // somebody else took the name
	if err != nil {
		return "", fmt.Errorf("make a folder for the socket: %w", err)
	}
	return dir, a.own(dir)
}

func fits(dir string) bool { return len(dir)+len("/.s.PGSQL."+port) <= maxSocketPath }

// privateDir makes dir, or checks that an existing one is a folder of the account and closed to others.
func privateDir(dir string, a account) error {
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		return a.own(dir)
	}
	info, statErr := os.Lstat(dir)
	if statErr != nil {
		return err
	}
	owner, _ := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || owner == nil || (owner.Uid != a.uid && owner.Uid != uint32(os.Getuid())) {
		return fmt.Errorf("%s belongs to somebody else", dir)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	return a.own(dir)
}

// openLog opens the server's log for appending and tells where it ends. A log past 16 MiB is put aside first.
func openLog(path string) (*os.File, int64, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > 16<<20 {
		os.Rename(path, path+".1")
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, err
	}
	end, err := f.Seek(0, io.SeekEnd)
	return f, end, err
}

// logSince returns what was written after start, its last 2,000 bytes at most.
func logSince(path string, start int64) string {
	data, err := os.ReadFile(path)
	if err != nil || int64(len(data)) < start {
		return ""
	}
	data = data[start:]
	if len(data) > 2000 {
		data = data[len(data)-2000:]
	}
	return strings.TrimSpace(string(data))
}
