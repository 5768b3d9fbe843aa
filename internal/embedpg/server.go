package embedpg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	role     = "kiln" // the cluster's superuser and the only role in it
	database = "kiln"
	port     = "5432" // only part of the socket's name: nothing listens on TCP
)

// Options say where the cluster lives and how to run it. Only DataDir is required.
type Options struct {
	// DataDir is the data folder; it is made if absent. One process at a time may use it.
	DataDir string
	// BinDir is the folder with postgres and initdb; "" looks for the newest usable ones on the machine.
	BinDir string
	// Fetch allows the binaries to be downloaded when none are found. FetchURL is the Maven repository to ask,
	// "" for Maven Central; CacheDir is where they are kept, "" for the user's cache folder.
	Fetch    bool
	FetchURL string
	CacheDir string
	// User is the account that runs the server when this process is root; "" takes postgres, else nobody.
	User string
	// Settings are added to Kiln's own and win over them.
	Settings map[string]string
	// Disposable trades safety for speed: nothing is synced to disk. For tests.
	Disposable bool
	// Logger hears of what takes time; nil for silence.
	Logger *slog.Logger
}

var discard = slog.New(slog.DiscardHandler)

// Server is a running PostgreSQL server.
type Server struct {
	opts    Options
	log     *slog.Logger
	bin     binaries
	account account
	dir     string // absolute path of the data folder
	cluster string // of the cluster in it
	socket  string // folder of the socket
	lock    *os.File

	process *os.Process
	done    chan struct{} // closed once the process has ended
	exit    error         // why, valid after done

	stop    sync.Once
	stopErr error
}

// Start brings up the server on o.DataDir and returns once it answers. The first start makes the cluster; a start after
// a crash may take as long as recovery does, which only ctx bounds.
//
// Errors: *InUseError when another process has the data folder; otherwise a sentence that says what to do.
func Start(ctx context.Context, o Options) (*Server, error) {
	s := &Server{opts: o, log: o.Logger}
	if s.log == nil {
		s.log = discard
	}
	if err := s.start(ctx); err != nil {
		s.release()
		return nil, fmt.Errorf("embedded PostgreSQL: %w", err)
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	var err error
	if s.account, err = chooseAccount(s.opts.User); err != nil {
		return err
	}
	if s.dir, err = makeDataDir(s.opts.DataDir, s.account); err != nil {
		return err
	}
	if s.lock, err = lockDataDir(ctx, s.dir); err != nil {
		return err
	}
	s.cluster = filepath.Join(s.dir, "postgres")
	left, err := stopLeftover(ctx, s.cluster, s.log)
	if err != nil {
		return err
	}
	if s.bin, err = s.findBinaries(ctx); err != nil {
		return err
	}
	if err := s.ensureCluster(ctx); err != nil {
		return err
	}
	if err := s.configure(ctx); err != nil {
		return err
	}
	if s.socket, err = socketDir(s.dir, s.account); err != nil {
		return err
	}
	if err := s.runOver(ctx, left); err != nil {
		return err
	}
	if err := s.ensureDatabase(ctx); err != nil {
		s.Stop(context.WithoutCancel(ctx))
		return err
	}
	return nil
}

// Restart brings the server up again after Done has told that it ended by itself. URL stays what it is; Done is another
// channel afterwards. It is not for use at the same time as Stop.
func (s *Server) Restart(ctx context.Context) error {
	left, err := stopLeftover(ctx, s.cluster, s.log)
	if err == nil {
		err = s.runOver(ctx, left)
	}
	if err != nil {
		return fmt.Errorf("embedded PostgreSQL: %w", err)
	}
	return nil
}

// runOver is run, perhaps over what a server left that was killed: its processes go away by themselves, but not at
// once, and until then nothing starts.
func (s *Server) runOver(ctx context.Context, left bool) error {
	for patience := time.Now().Add(10 * time.Second); ; {
		err := s.run(ctx, filepath.Join(s.dir, "postgres.log"))
		if err == nil || !left || ctx.Err() != nil || time.Now().After(patience) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// run starts the server process and waits until it accepts connections or ends.
func (s *Server) run(ctx context.Context, logPath string) error {
	out, start, err := openLog(logPath)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd, release, err := s.command(ctx, "postgres", "-D", dataDirArg,
		// These must hold whatever the configuration files say.
		"-c", "listen_addresses=", "-c", "unix_socket_directories="+s.socket, "-c", "port="+port,
		"-c", "unix_socket_permissions=0700", "-c", "logging_collector=off", "-c", "log_destination=stderr")
	if err != nil {
		return err
	}
	defer release()
	cmd.Stdout, cmd.Stderr = out, out
	// Its own session: an interrupt typed at the terminal is for Kiln, which stops the database last. And the signal
	// that ends it with Kiln.
	dieWithParent(cmd.SysProcAttr)
	cmd.SysProcAttr.Setsid = true
	cmd.Cancel = nil

	done := make(chan struct{})
	s.done = done
	started := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when the thread that forked ends, so that thread stays ours until
		// the server is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			s.exit = cmd.Wait()
			close(done)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	s.process = cmd.Process

	began, tell := time.Now(), time.NewTicker(5*time.Second)
	defer tell.Stop()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-s.done:
			return fmt.Errorf("the server did not start (%v); %s says:\n%s", s.exit, logPath, logSince(logPath, start))
		case <-ctx.Done():
			s.end(context.WithoutCancel(ctx))
			return ctx.Err()
		case <-tell.C:
			s.log.Info("PostgreSQL is still starting (after a crash it recovers first)", "seconds", int(time.Since(began).Seconds()))
		case <-look.C:
			if p, err := readPidFile(s.cluster); err == nil && p.pid == cmd.Process.Pid && p.status == "ready" {
				return nil
			}
		}
	}
}

// ensureDatabase proves that the server answers, and makes the database on the first start.
func (s *Server) ensureDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.URL())
	if err == nil {
		return conn.Close(ctx)
	}
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "3D000" { // invalid_catalog_name
		return fmt.Errorf("connect: %w", err)
	}
	conn, err = pgx.Connect(ctx, socketURL(s.socket, "postgres"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "CREATE DATABASE "+database)
	return err
}

// URL is the connection string of the kiln database. It holds no secret: the socket's folder is private.
func (s *Server) URL() string { return socketURL(s.socket, database) }

// Done is closed when the server process has ended, whoever ended it.
func (s *Server) Done() <-chan struct{} { return s.done }

// Version is the version of the server, such as "15.18".
func (s *Server) Version() string { return s.bin.version }

// Stop ends the server with a fast shutdown: connections are closed, everything is written. When ctx ends first, the
// server is stopped at once and recovers at its next start. Stop may be called again; it returns the same.
func (s *Server) Stop(ctx context.Context) error {
	s.stop.Do(func() {
		s.stopErr = s.end(ctx)
		os.Remove(s.socket) // it is empty now, and may lie in the folder for temporary files
		s.release()
	})
	return s.stopErr
}

func (s *Server) end(ctx context.Context) error {
	if s.process == nil {
		return nil
	}
	s.process.Signal(syscall.SIGINT) // fast shutdown
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	s.process.Signal(syscall.SIGQUIT) // immediate shutdown
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
		s.process.Kill()
		<-s.done
	}
	return fmt.Errorf("embedded PostgreSQL: stopped the hard way, it will recover at the next start: %w", ctx.Err())
}

func (s *Server) release() {
	if s.lock != nil {
		s.lock.Close()
		s.lock = nil
	}
}

// Running returns the URL of the server that another process runs on dataDir, if one does and it is ready.
func Running(dataDir string) (url string, ok bool) {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return "", false
	}
	if _, held := lockHolder(dir); !held {
		return "", false
	}
	p, err := readPidFile(filepath.Join(dir, "postgres"))
	if err != nil || p.status != "ready" {
		return "", false
	}
	return socketURL(p.socket, database), true
}

func socketURL(dir, database string) string {
	q := url.Values{"host": {dir}, "port": {port}, "sslmode": {"disable"}}
	return (&url.URL{Scheme: "postgres", User: url.User(role), Path: "/" + database, RawQuery: q.Encode()}).String()
}

// dataDirArg stands for the cluster's path among the arguments of command.
const dataDirArg = "\x00cluster"

// command prepares one of PostgreSQL's programs, to run as the account and on the cluster. release must be called once
// the program was started.
//
// An account that may not enter the folders above the cluster (a root user's data folder below /root) still gets at
// it on Linux: through a file descriptor that this process opened. It is then told /proc/self/fd/3 for a path.
func (s *Server) command(ctx context.Context, name string, args ...string) (*exec.Cmd, func(), error) {
	return s.commandIn(ctx, s.cluster, name, args...)
}

func (s *Server) commandIn(ctx context.Context, cluster, name string, args ...string) (*exec.Cmd, func(), error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin.dir, name))
	cmd.Dir = "/"
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	release := func() {}
	if s.account.drop {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: s.account.uid, Gid: s.account.gid}
		if blocked := s.account.blockedBy(cluster); blocked != "" {
			if runtime.GOOS != "linux" {
				return nil, nil, fmt.Errorf("the account %q, which runs the database, may not enter %s: choose another KILN_DATA_DIR, or run Kiln as an ordinary user", s.account.name, blocked)
			}
			dir, err := os.Open(cluster)
			if err != nil {
				return nil, nil, err
			}
			release = func() { dir.Close() }
			cmd.ExtraFiles = []*os.File{dir}
			cluster = "/proc/self/fd/3"
		}
	}
	for _, arg := range args {
		if arg == dataDirArg {
			arg = cluster
		}
		cmd.Args = append(cmd.Args, arg)
	}
	return cmd, release, nil
}
