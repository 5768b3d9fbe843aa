package embedpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ensureCluster makes the cluster unless it is there. It is made beside its place and then renamed, so that a cluster
// in its place is always whole.
func (s *Server) ensureCluster(ctx context.Context) error {
	if major, err := clusterMajor(s.cluster); err != nil || major != 0 {
		if err != nil {
			return err
		}
		return s.account.ownAll(s.cluster)
	}
	if entries, err := os.ReadDir(s.cluster); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s holds something that is not a PostgreSQL cluster: move it away", s.cluster)
	}
	began := time.Now()
	fresh := s.cluster + ".new"
	if err := os.RemoveAll(fresh); err != nil { // an interrupted first start
		return err
	}
	var failure error
	for _, locale := range localeArgs(s.bin.major) {
		if err := os.Mkdir(fresh, 0o700); err != nil {
			return err
		}
		if err := s.account.own(fresh); err != nil {
			return err
		}
		args := []string{"-D", dataDirArg, "-U", role, "--encoding=UTF8", "--data-checksums",
			"--auth-local=trust", "--auth-host=reject", "--text-search-config=simple", "--no-instructions"}
		if s.opts.Disposable {
			args = append(args, "--no-sync")
		}
		cmd, release, err := s.commandIn(ctx, fresh, "initdb", append(args, locale...)...)
		if err != nil {
			return err
		}
		out, err := cmd.CombinedOutput()
		release()
		if err == nil {
			failure = nil
			break
		}
		if failure == nil {
			failure = fmt.Errorf("initdb: %w\n%s", err, bytes.TrimSpace(out))
		}
		os.RemoveAll(fresh)
	}
	if failure != nil {
		return failure
	}
	// The administrator's own settings go below this line, and win.
	if err := appendTo(filepath.Join(fresh, "postgresql.conf"), "\ninclude_if_exists = 'kiln.conf'  # Kiln's settings; put your own below this line\n"); err != nil {
		return err
	}
	os.Remove(s.cluster) // an empty folder may stand there
	if err := os.Rename(fresh, s.cluster); err != nil {
		return err
	}
	s.log.Info("made a new PostgreSQL cluster", "dir", s.cluster, "version", s.bin.version, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// localeArgs are the ways to say "compare bytes, but know the letters of all languages", best first.
func localeArgs(major int) [][]string {
	ways := [][]string{
		{"--locale=C", "--lc-ctype=C.UTF-8"},
		{"--locale=C", "--lc-ctype=en_US.UTF-8"},
		{"--locale=C"},
	}
	if major >= 17 {
		ways = slices.Insert(ways, 0, []string{"--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"})
	}
	return ways
}

// configure writes kiln.conf, and has PostgreSQL check it, when it is not what it should be.
func (s *Server) configure(ctx context.Context) error {
	path := filepath.Join(s.cluster, "kiln.conf")
	program := filepath.Join(s.bin.dir, "postgres")
	info, err := os.Stat(program)
	if err != nil {
		return err
	}
	var base strings.Builder
	fmt.Fprintf(&base, "# Written by Kiln. Your own settings belong in postgresql.conf, below its last line.\n# For %s, %d bytes of %s.\n",
		program, info.Size(), info.ModTime().UTC().Format(time.RFC3339))
	for _, line := range s.settings() {
		base.WriteString(line + "\n")
	}
	// The compressor is a build option of PostgreSQL. Where it lacks, the server would not start with it.
	compression := "default_toast_compression = lz4\n"
	if s.bin.major >= 15 {
		compression += "wal_compression = lz4\n"
	}
	have, err := os.ReadFile(path)
	if err == nil && (string(have) == base.String() || string(have) == base.String()+compression) {
		return nil
	}
	var failure error
	for _, content := range []string{base.String() + compression, base.String()} {
		if err := s.writeOwned(path, content); err != nil {
			return err
		}
		if failure = s.checkSettings(ctx); failure == nil {
			return nil
		}
	}
	os.Remove(path)
	return failure
}

func (s *Server) checkSettings(ctx context.Context) error {
	cmd, release, err := s.command(ctx, "postgres", "-D", dataDirArg, "-C", "max_connections")
	if err != nil {
		return err
	}
	defer release()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the PostgreSQL settings are not accepted: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// settings are the lines of kiln.conf but for compression: a server for one application on a machine it shares, with
// short transactions and solid state disks.
func (s *Server) settings() []string {
	memory := memoryBytes()
	// What is not touched takes no memory; what is read through the operating system's cache costs a call for each page.
	buffers := min(max(memory/8>>20, 128), 2048)
	if s.opts.Disposable {
		buffers = 128
	}
	lines := []string{
		"cluster_name = 'kiln'",
		"max_connections = 100",
		fmt.Sprintf("shared_buffers = %dMB", buffers),
		fmt.Sprintf("effective_cache_size = %dMB", max(memory/2>>20, 256)),
		"work_mem = 16MB",
		"maintenance_work_mem = 128MB",
		"random_page_cost = 1.1",
		"jit = off",
		"synchronous_commit = on",
		"fsync = on",
		"wal_buffers = 16MB",
		"max_wal_size = 2GB",
		"checkpoint_timeout = 15min",
		"checkpoint_completion_target = 0.9",
		"max_logical_replication_workers = 0",
		"deadlock_timeout = 200ms",
		"autovacuum_naptime = 20s",
		"autovacuum_vacuum_scale_factor = 0.05",
		"autovacuum_vacuum_insert_scale_factor = 0.05",
		"autovacuum_analyze_scale_factor = 0.02",
		"timezone = 'UTC'",
		"log_timezone = 'UTC'",
		// The log must not show patients: no statements, and no details, which quote the values of a violated key.
		"log_min_error_statement = panic",
		"log_error_verbosity = terse",
		"log_checkpoints = off",
	}
	if s.opts.Disposable {
		lines = append(lines, "fsync = off", "synchronous_commit = off", "full_page_writes = off", "wal_level = minimal", "max_wal_senders = 0")
	}
	names := make([]string, 0, len(s.opts.Settings))
	for name := range s.opts.Settings {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		lines = append(lines, fmt.Sprintf("%s = '%s'", name, strings.ReplaceAll(s.opts.Settings[name], "'", "''")))
	}
	return lines
}

// writeOwned replaces a file of the account in one step.
func (s *Server) writeOwned(path, content string) error {
	fresh := path + ".new"
	if err := os.WriteFile(fresh, []byte(content), 0o600); err != nil {
		return err
	}
	if err := s.account.own(fresh); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// memoryBytes is how much memory this process may count on: the machine's, or its control group's if less. Where it
// cannot be told it is 2 GiB.
func memoryBytes() int64 {
	memory := int64(2 << 30)
	if runtime.GOOS != "linux" {
		return memory
	}
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		if fields := strings.Fields(string(data)); len(fields) > 1 && fields[0] == "MemTotal:" {
			if kib, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
				memory = kib << 10
			}
		}
	}
	if data, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil {
			memory = min(memory, limit)
		}
	}
	return memory
}
