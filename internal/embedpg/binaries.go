package embedpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// oldest is the first PostgreSQL that Kiln works with.
const oldest = 14

// binaries is a folder with PostgreSQL's programs.
type binaries struct {
	dir     string
	version string // such as 15.18
	major   int
}

// places are where distributions and installers put PostgreSQL, beside PATH.
var places = []string{
	"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu
	"/usr/pgsql-*/bin",                  // Red Hat, from the PostgreSQL project
	"/usr/libexec/postgresql*",          // Alpine
	"/usr/lib/postgresql*/bin",          // SUSE
	"/usr/local/pgsql*/bin",             // from source
	"/usr/local/*/bin",                  //
	"/opt/homebrew/opt/postgresql*/bin", // Homebrew
	"/usr/local/opt/postgresql*/bin",
	"/opt/local/lib/postgresql*/bin", // MacPorts
	"/Applications/Postgres.app/Contents/Versions/*/bin",
	"/Library/PostgreSQL/*/bin",
}

// findBinaries picks the newest usable PostgreSQL; an existing cluster needs the major version that made it.
func (s *Server) findBinaries(ctx context.Context) (binaries, error) {
	want, err := clusterMajor(s.cluster)
	if err != nil {
		return binaries{}, err
	}
	if s.opts.BinDir != "" {
		b, err := probe(ctx, s.opts.BinDir, s.account)
		switch {
		case err != nil:
			return b, fmt.Errorf("KILN_POSTGRES_DIR: %w", err)
		case want != 0 && b.major != want:
			return b, fmt.Errorf("KILN_POSTGRES_DIR: %s has PostgreSQL %d, but the data folder was made by PostgreSQL %d", b.dir, b.major, want)
		}
		return b, nil
	}
	var best binaries
	for _, dir := range candidates() {
		b, err := probe(ctx, dir, s.account)
		if err == nil && (want == 0 || b.major == want) && b.newer(best) {
			best = b
		}
	}
	if best.dir != "" {
		return best, nil
	}
	missing := fmt.Sprintf("PostgreSQL %d or newer", oldest)
	if want != 0 {
		missing = fmt.Sprintf("PostgreSQL %d, which made the data folder,", want)
	}
	advice := fmt.Sprintf("%s was not found on this machine.\n"+
		"Install it (Debian, Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server postgresql-contrib; macOS: brew install postgresql@17),\n"+
		"or name its folder in KILN_POSTGRES_DIR, or use a database elsewhere with KILN_DATABASE_URL", missing)
	if !s.opts.Fetch {
		return binaries{}, errors.New(advice)
	}
	b, err := s.fetch(ctx, want)
	if err != nil {
		return binaries{}, fmt.Errorf("%s.\nIt could not be fetched either: %w", advice, err)
	}
	return b, nil
}

func candidates() []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, pattern := range places {
		found, _ := filepath.Glob(filepath.Join(pattern, "postgres"))
		for _, path := range found {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	seen := map[string]bool{}
	unique := dirs[:0]
	for _, dir := range dirs {
		if !seen[dir] {
			seen[dir] = true
			unique = append(unique, dir)
		}
	}
	return unique
}

var versionPattern = regexp.MustCompile(`PostgreSQL\) (\d+)(\.\d+)?`)

// probe asks the programs in dir who they are. It fails for a version that is too old, a folder without initdb, and one
// that the account may not enter.
func probe(ctx context.Context, dir string, a account) (binaries, error) {
	b := binaries{dir: dir}
	for _, name := range []string{"postgres", "initdb"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return b, fmt.Errorf("%s is not a program", path)
		}
		if blocked := a.blockedBy(path); blocked != "" {
			return b, fmt.Errorf("the account %q, which runs the database, may not enter %s", a.name, blocked)
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version")
	cmd.Env = environment()
	out, err := cmd.Output()
	if err != nil {
		return b, fmt.Errorf("%s --version: %w", cmd.Path, err)
	}
	m := versionPattern.FindStringSubmatch(string(out))
	if m == nil {
		return b, fmt.Errorf("%s --version: cannot read %q", cmd.Path, strings.TrimSpace(string(out)))
	}
	b.version = m[1] + m[2]
	b.major, _ = strconv.Atoi(m[1])
	if b.major < oldest {
		return b, fmt.Errorf("%s is PostgreSQL %s; Kiln needs %d or newer", dir, b.version, oldest)
	}
	return b, nil
}

func (b binaries) newer(than binaries) bool {
	if b.major != than.major {
		return b.major > than.major
	}
	minor := func(v string) int {
		_, after, _ := strings.Cut(v, ".")
		n, _ := strconv.Atoi(after)
		return n
	}
	return than.dir == "" || minor(b.version) > minor(than.version)
}

// clusterMajor returns the major version that made the cluster, 0 if there is none yet.
func clusterMajor(cluster string) (int, error) {
	data, err := os.ReadFile(filepath.Join(cluster, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, fmt.Errorf("%s is not a PostgreSQL cluster", cluster)
	}
	return major, nil
}

// defaultCache is where fetched binaries are kept. Root's cache folder is closed to the account that runs them.
func defaultCache(a account) (string, error) {
	if a.drop && runtime.GOOS == "linux" {
		return "/var/cache/kiln/postgresql", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "kiln", "postgresql"), nil
}
