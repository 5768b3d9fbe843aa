package storage_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/conformance"
	"kiln/internal/kilntest"
	"kiln/storage"
)

// logged is a database with a log, and servers on it.
type logged struct {
	testing.TB
	url  string
	conn *pgx.Conn
}

func newLogged(t *testing.T) *logged {
	l := &logged{TB: t, url: kilntest.DB(t)}
	var err error
	if l.conn, err = pgx.Connect(t.Context(), l.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.conn.Close(t.Context()) })
	return l
}

func (l *logged) sql(sql string) {
	l.Helper()
	if _, err := l.conn.Exec(l.Context(), sql); err != nil {
		l.Fatal(err)
	}
}

// server opens a store that keeps its journal in a folder.
func (l *logged) server(folder string) *storage.Store {
	l.Helper()
	registry, err := conformance.R4()
	if err != nil {
		l.Fatal(err)
	}
	s, err := storage.Open(l.Context(), storage.Options{URL: l.url, Registry: registry, PoolSize: 2, AuditJournal: folder})
	if err != nil {
		l.Fatal(err)
	}
	return s
}

// acts are those of all entries, in their order, but for what the migrations have written.
func (l *logged) acts() []string {
	l.Helper()
	rows, err := l.conn.Query(l.Context(), "SELECT entry::json ->> 'a' FROM audit_line WHERE entry::json ->> 'a' <> 'policy' ORDER BY id, line")
	if err != nil {
		l.Fatal(err)
	}
	acts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		l.Fatal(err)
	}
	return acts
}

func (l *logged) want(acts ...string) {
	l.Helper()
	if got := l.acts(); !slices.Equal(got, acts) {
		l.Errorf("the log has %v, want %v", got, acts)
	}
}

func act(name string) storage.AuditEntry { return storage.AuditEntry{Recorded: time.Now(), Act: name} }

// batches are the files of a journal, by their paths.
func (l *logged) batches(folder string) []string {
	l.Helper()
	list, err := filepath.Glob(filepath.Join(folder, "*", "*"))
	if err != nil {
		l.Fatal(err)
	}
	return list
}

// lock keeps everybody from writing entries, until unlock.
func (l *logged) lock() (unlock func()) {
	l.sql("BEGIN")
	l.sql("LOCK TABLE audit_entry IN SHARE MODE")
	return func() { l.sql("COMMIT") }
}

// An entry is on disk before Audit returns, while the database cannot have it; what a process leaves behind, the next one
// carries over; and what both have carried stands in the log once.
func TestAuditJournal_of_a_process_that_died(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	folder, found := t.TempDir(), t.TempDir()
	s := l.server(folder)
	unlock := l.lock()
	var want []string
	until(t, "entries are in two files", func() bool {
		a, b := fmt.Sprint("a", len(want)), fmt.Sprint("b", len(want))
		if err := s.Audit(t.Context(), act(a), act(b)); err != nil {
			t.Fatal(err)
		}
		want = append(want, a, b)
		return !slices.ContainsFunc(l.batches(folder), func(path string) bool { info, err := os.Stat(path); return err != nil || info.Size() == 0 })
	})
	// What the next process would find now.
	if err := os.CopyFS(found, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	l.want()
	unlock()
	until(t, "all entries are in the database", func() bool { return len(l.acts()) == len(want) })
	l.want(want...)
	var several int
	if err := l.conn.QueryRow(t.Context(), "SELECT count(*) FROM audit_entry WHERE lines > 1").Scan(&several); err != nil || several == 0 || several > 2 {
		t.Errorf("%d entries of two files stand in %d rows, %v", len(want), several, err)
	}
	next := l.server(found)
	l.want(want...)
	for _, path := range l.batches(found) { // those of the next server itself
		if info, err := os.Stat(path); err != nil || info.Size() > 0 {
			t.Errorf("%s is left, %v", path, err)
		}
	}
	next.Close()
	s.Close()
	l.want(want...)
	if left := append(l.batches(folder), l.batches(found)...); len(left) > 0 {
		t.Errorf("closed journals hold %v", left)
	}
	var rows int
	if err := l.conn.QueryRow(t.Context(), "SELECT count(*) FROM audit_journal").Scan(&rows); err != nil || rows > 0 {
		t.Errorf("%d journals are remembered, %v", rows, err)
	}
}

// A line without its end was told to nobody.
func TestAuditJournal_line_without_end(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	folder := t.TempDir()
	l.server(folder).Close()
	dirs, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(dirs) != 1 {
		t.Fatal(dirs, err)
	}
	lines := "1700000000000000 {\"a\":\"one\"}\n1700000000000001 {\"a\":\"two\"}\n1700000000000002 {\"a\":\"th"
	if err := os.WriteFile(filepath.Join(dirs[0], "dead-7.log"), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	l.server(folder).Close()
	l.want("one", "two")
	if left := l.batches(folder); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

// Two servers may have one folder: neither takes what the other is about to carry.
func TestAuditJournal_of_two_servers(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	folder := t.TempDir()
	one := l.server(folder)
	unlock := l.lock()
	if err := one.Audit(t.Context(), act("one")); err != nil {
		t.Fatal(err)
	}
	two := l.server(folder)
	if err := two.Audit(t.Context(), act("two")); err != nil {
		t.Fatal(err)
	}
	unlock()
	var wg sync.WaitGroup
	wg.Go(one.Close)
	wg.Go(two.Close)
	wg.Wait()
	got := l.acts()
	slices.Sort(got)
	if !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("the log has %v", got)
	}
}

// While the database takes no entries, the journal soon takes none either; and what it took before is not lost.
func TestAuditJournal_without_its_database(t *testing.T) {
	t.Parallel()
	l := newLogged(t)
	s := l.server(t.TempDir())
	l.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'full'; END $$; CREATE TRIGGER refuse BEFORE INSERT ON audit_entry FOR EACH STATEMENT EXECUTE FUNCTION refuse()")
	var want []string
	until(t, "an entry is refused", func() bool {
		name := fmt.Sprint("e", len(want))
		if s.Audit(t.Context(), act(name)) != nil {
			return true
		}
		want = append(want, name)
		return false
	})
	if len(want) == 0 {
		t.Error("the first entry was refused, with a journal to keep it")
	}
	l.sql("DROP TRIGGER refuse ON audit_entry")
	until(t, "all are in the database", func() bool { return len(l.acts()) == len(want) })
	l.want(want...)
	if err := s.Audit(t.Context(), act("after")); err != nil {
		t.Error(err)
	}
	s.Close()
	l.want(append(want, "after")...)
}
