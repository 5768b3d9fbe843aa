package embedpg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// helperEnv makes the test binary a small Kiln: it starts the server on the data folder it names, prints the URL and
// waits to be killed.
const helperEnv = "KILN_EMBEDPG_HELPER"

func TestMain(m *testing.M) {
	dir := os.Getenv(helperEnv)
	if dir == "" {
		code := m.Run()
		if originalDir != "" {
			os.RemoveAll(originalDir)
		}
		os.Exit(code)
	}
	s, err := Start(context.Background(), Options{DataDir: dir, Disposable: true, Settings: map[string]string{"synchronous_commit": "on"}})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(s.URL())
	select {}
}

// dataDir returns a data folder that the account of a root user may reach.
func dataDir(t *testing.T) string {
	t.Helper()
	parent := t.TempDir()
	for dir := parent; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(parent, "data")
}

// madeDir is dataDir with a cluster in it already: a copy of one that is made once, since making one takes the longest.
func madeDir(t *testing.T) string {
	t.Helper()
	original, err := original()
	if err != nil {
		t.Fatal(err)
	}
	dir := dataDir(t)
	if err := os.Mkdir(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", filepath.Join(original, "postgres"), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

var original = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kiln-embedpg-")
	if err != nil {
		return "", err
	}
	originalDir = dir
	s, err := Start(context.Background(), Options{DataDir: dir, Disposable: true})
	if err != nil {
		return "", err
	}
	return dir, s.Stop(context.Background())
})

// originalDir is what TestMain removes.
var originalDir string

func start(t *testing.T, o Options) *Server {
	t.Helper()
	began := time.Now()
	o.Disposable = true
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("started PostgreSQL %s in %v", s.Version(), time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() { s.Stop(context.Background()) })
	return s
}

func exec1(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var out *string
	if err := conn.QueryRow(t.Context(), sql).Scan(&out); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatalf("%s: %v", sql, err)
	}
	if out == nil {
		return ""
	}
	return *out
}

func TestStart_keeps_data_between_runs(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	s := start(t, Options{DataDir: dir})
	exec1(t, s.URL(), "CREATE TABLE note AS SELECT 'kept' AS text")
	for sql, want := range map[string]string{
		"SELECT lower('ÄÖŁΣ')":                      "äöłσ",
		"SELECT ('Z' < 'a')::text":                  "true",
		"SHOW server_encoding":                      "UTF8",
		"SHOW data_checksums":                       "on",
		"SHOW listen_addresses":                     "",
		"SHOW jit":                                  "off",
		"SHOW deadlock_timeout":                     "200ms",
		"SELECT current_user || current_database()": "kilnkiln",
	} {
		if got := exec1(t, s.URL(), sql); got != want {
			t.Errorf("%s = %q, want %q", sql, got, want)
		}
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	if url, ok := Running(dir); ok {
		t.Errorf("Running says %q after Stop", url)
	}
	again := start(t, Options{DataDir: dir})
	if got := exec1(t, again.URL(), "SELECT text FROM note"); got != "kept" {
		t.Errorf("after a restart: %q", got)
	}
}

func TestStart_refuses_a_data_folder_in_use(t *testing.T) {
	t.Parallel()
	dir := madeDir(t)
	s := start(t, Options{DataDir: dir})
	_, err := Start(t.Context(), Options{DataDir: dir})
	var inUse *InUseError
	if !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
		t.Fatalf("second Start: %v", err)
	}
	if url, ok := Running(dir); !ok || url != s.URL() {
		t.Errorf("Running = %q, %v, want %q", url, ok, s.URL())
	}
	exec1(t, s.URL(), "SELECT 'still there'")
}

// helper starts a small Kiln on dir and returns it with the URL of its server.
func helper(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	url, err := bufio.NewReader(out).ReadString('\n')
	if url = strings.TrimSpace(url); err != nil || !strings.HasPrefix(url, "postgres://") {
		t.Fatalf("helper: %q, %v", url, err)
	}
	return cmd, url
}

func TestStart_after_kill_9_of_kiln(t *testing.T) {
	t.Parallel()
	dir := madeDir(t)
	kiln, url := helper(t, dir)
	exec1(t, url, "CREATE TABLE note AS SELECT 'kept' AS text")
	before, err := readPidFile(filepath.Join(dir, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	kiln.Process.Kill()
	kiln.Wait()
	s := start(t, Options{DataDir: dir}) // at once, over what is left
	if got := exec1(t, s.URL(), "SELECT text FROM note"); got != "kept" {
		t.Errorf("after kill -9: %q", got)
	}
	if is, _ := isPostmaster(before.pid, filepath.Join(dir, "postgres")); is {
		t.Errorf("process %d of the killed Kiln still runs", before.pid)
	}
}

func TestKill_9_of_kiln_ends_the_server(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a process that its parent ended")
	}
	dir := madeDir(t)
	kiln, _ := helper(t, dir)
	p, err := readPidFile(filepath.Join(dir, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	kiln.Process.Kill()
	kiln.Wait()
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if is, _ := isPostmaster(p.pid, filepath.Join(dir, "postgres")); !is {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("process %d outlives its Kiln", p.pid)
		}
	}
}

func TestStart_after_kill_9_of_everything(t *testing.T) {
	t.Parallel()
	dir := madeDir(t)
	kiln, url := helper(t, dir)
	exec1(t, url, "CREATE TABLE note AS SELECT 'kept' AS text")
	p, err := readPidFile(filepath.Join(dir, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(p.pid, syscall.SIGKILL)
	kiln.Process.Kill()
	kiln.Wait()
	s := start(t, Options{DataDir: dir})
	if got := exec1(t, s.URL(), "SELECT text FROM note"); got != "kept" {
		t.Errorf("after kill -9: %q", got)
	}
}

func TestStart_over_a_pid_file_whose_number_is_reused(t *testing.T) {
	t.Parallel()
	dir := madeDir(t)
	s := start(t, Options{DataDir: dir})
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A process of the account that is no server: PostgreSQL alone would take it for one.
	cmd, release, err := s.command(t.Context(), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	sleep := exec.Command("sleep", "60")
	sleep.SysProcAttr = cmd.SysProcAttr
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { sleep.Process.Kill(); sleep.Wait() }()
	content := fmt.Sprintf("%d\n%s\n0\n5432\n%s\n\n  0 0\nready   \n", sleep.Process.Pid, s.cluster, s.socket)
	if err := s.writeOwned(filepath.Join(s.cluster, "postmaster.pid"), content); err != nil {
		t.Fatal(err)
	}
	start(t, Options{DataDir: dir})
}

func TestStart_with_a_long_path(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(dataDir(t), strings.Repeat("long-name/", 12), "data")
	s := start(t, Options{DataDir: dir})
	if !fits(s.socket) {
		t.Errorf("socket in %s", s.socket)
	}
	info, err := os.Stat(s.socket)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("socket folder: %v, %v", info.Mode(), err)
	}
	t.Cleanup(func() { os.RemoveAll(s.socket) })
}

func TestStart_as_root_drops_to_an_account(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	for _, c := range []struct{ name, user, dir string }{
		{"default", "", dataDir(t)},
		{"another_than_before", "nobody", madeDir(t)},
		{"closed_parent", "", filepath.Join(closedDir(t), "data")},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, Options{DataDir: c.dir, User: c.user})
			exec1(t, s.URL(), "SELECT 1::text")
			if runtime.GOOS == "linux" {
				info, err := os.Stat(fmt.Sprintf("/proc/%d", s.process.Pid))
				if err != nil {
					t.Fatal(err)
				}
				if uid := info.Sys().(*syscall.Stat_t).Uid; uid == 0 || uid != s.account.uid {
					t.Errorf("the server runs as %d", uid)
				}
			}
			if err := s.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			start(t, Options{DataDir: c.dir, User: c.user})
		})
	}
}

// closedDir returns a folder that only this process's user may enter.
func closedDir(t *testing.T) string {
	dir := filepath.Join(filepath.Dir(dataDir(t)), "closed")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestStart_recovers_from_an_interrupted_first_start(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	half := filepath.Join(dir, "postgres.new", "base")
	if err := os.MkdirAll(half, 0o755); err != nil {
		t.Fatal(err)
	}
	start(t, Options{DataDir: dir})
}

func TestStart_says_why_it_cannot(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	dir := dataDir(t)
	if _, err := Start(t.Context(), Options{DataDir: dir, BinDir: empty}); err == nil || !strings.Contains(err.Error(), "KILN_POSTGRES_DIR") {
		t.Errorf("no binaries: %v", err)
	}
	_, err := Start(t.Context(), Options{DataDir: dir, Disposable: true, Settings: map[string]string{"work_mem": "much"}})
	if err == nil || !strings.Contains(err.Error(), "work_mem") {
		t.Errorf("bad setting: %v", err)
	}
	os.RemoveAll(filepath.Join(dir, "postgres"))
	os.MkdirAll(filepath.Join(dir, "postgres"), 0o755)
	os.WriteFile(filepath.Join(dir, "postgres", "PG_VERSION"), []byte("9\n"), 0o644)
	if _, err := Start(t.Context(), Options{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "PostgreSQL 9, which made the data folder") {
		t.Errorf("other version: %v", err)
	}
}

func TestFetch(t *testing.T) {
	t.Parallel()
	jar, err := os.ReadFile("testdata/binaries.jar") // testdata/README.md says how it was made
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	repository := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".jar") {
			asked++
			w.Write(jar)
			return
		}
		http.NotFound(w, r)
	}))
	defer repository.Close()
	cache := filepath.Dir(dataDir(t))
	a, err := chooseAccount("")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{opts: Options{Fetch: true, FetchURL: repository.URL, CacheDir: cache}, account: a, log: discard}
	for range 2 {
		b, err := s.fetch(t.Context(), 0)
		if err != nil || b.major != 17 {
			t.Fatalf("fetch: %+v, %v", b, err)
		}
	}
	if asked != 1 {
		t.Errorf("downloaded %d times", asked)
	}
	repository.Close()
	if _, err := s.fetch(t.Context(), 16); err == nil {
		t.Error("no error without a repository")
	}
}
