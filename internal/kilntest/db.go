package kilntest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/conformance"
	"kiln/migrations"
	"kiln/storage/terminology"
)

// DB returns the URL of a new database with the current schema and nothing in it. It is the test's own, so the test may
// run in parallel with any other; it is dropped when the test ends. Without a PostgreSQL server the test fails.
func DB(t testing.TB) string {
	t.Helper()
	return clone(t, prepared)
}

// Filled returns what makes databases that are like those of DB, and hold what fill has put in besides. fill is called
// for the first of them, with the URL of the database that all are copied from; it leaves no connection to that behind.
// content names what fill puts in: a template of that content that is there already is taken as it is.
func Filled(content func() (string, error), fill func(ctx context.Context, url string) error) func(testing.TB) string {
	template := sync.OnceValues(func() (*testServer, error) {
		name, err := content()
		if err != nil {
			return nil, err
		}
		return prepare(name, fill)
	})
	return func(t testing.TB) string {
		t.Helper()
		return clone(t, template)
	}
}

// TerminologyDB is like DB, and the official code systems, value sets and concept maps are loaded.
func TerminologyDB(t testing.TB) string {
	t.Helper()
	return withTerminology(t)
}

var withTerminology = Filled(func() (string, error) { return terminology.Form + " " + conformance.DefinitionsHash(), nil },
	func(ctx context.Context, url string) error {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		_, err = terminology.LoadOfficial(ctx, conn)
		return err
	})

func clone(t testing.TB, prepared func() (*testServer, error)) string {
	t.Helper()
	server, err := prepared()
	if err != nil {
		t.Fatalf("kilntest: %v", err)
	}
	name := databaseName(t.Name())
	if err := server.admin(t.Context(), "CREATE DATABASE "+name+" TEMPLATE "+server.template+server.strategy); err != nil {
		t.Fatalf("kilntest: %v", err)
	}
	t.Cleanup(func() {
		if err := server.admin(context.Background(), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Logf("kilntest: %v", err)
		}
	})
	return server.database(name)
}

// Copy returns the URL of a new database that holds what another one of this package holds. Nobody may be connected to
// that meanwhile.
func Copy(t testing.TB, of string) string {
	t.Helper()
	server, err := prepared()
	if err != nil {
		t.Fatalf("kilntest: %v", err)
	}
	source, err := url.Parse(of)
	if err != nil {
		t.Fatal("kilntest: not the URL of a database")
	}
	return clone(t, func() (*testServer, error) {
		return &testServer{url: server.url, template: strings.TrimPrefix(source.Path, "/"), strategy: server.strategy}, nil
	})
}

// EmptyDB is like DB without the schema: for tests of the migrations themselves.
func EmptyDB(t testing.TB) string {
	t.Helper()
	server, err := prepared()
	if err != nil {
		t.Fatalf("kilntest: %v", err)
	}
	name := databaseName(t.Name())
	if err := server.admin(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatalf("kilntest: %v", err)
	}
	t.Cleanup(func() { server.admin(context.Background(), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	return server.database(name)
}

// testServer is where the databases are made.
type testServer struct {
	url      url.URL // of a database to connect to for CREATE DATABASE
	template string
	// strategy has CREATE DATABASE copy files, which takes half the processor time of what is usual since PostgreSQL 15: to copy
	// each page through shared buffers and into the log. Older ones know only this way, and not the word.
	strategy string
}

// prepared finds or starts the server and makes the template, once for each test binary.
var prepared = sync.OnceValues(func() (*testServer, error) {
	return prepare("", func(context.Context, string) error { return nil })
})

// prepare makes a template of the migrations and of what fill puts into it; content names what that is.
func prepare(content string, fill func(ctx context.Context, url string) error) (*testServer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // others may be making it, on a busy machine
	defer cancel()
	text := os.Getenv("KILN_TEST_DATABASE_URL")
	if text == "" {
		var err error
		if text, err = sharedCluster(ctx); err != nil {
			return nil, err
		}
	}
	parsed, err := url.Parse(text)
	if err != nil || !strings.HasPrefix(parsed.Scheme, "postgres") {
		return nil, errors.New("KILN_TEST_DATABASE_URL is not a postgres:// URL") // its text may hold a password
	}
	s := &testServer{url: *parsed}
	return s, s.makeTemplate(ctx, content, fill)
}

func (s *testServer) database(name string) string {
	u := s.url
	u.Path = "/" + name
	return u.String()
}

func (s *testServer) admin(ctx context.Context, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute) // to copy files waits for a checkpoint of all databases
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url.String())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// makeTemplate makes the migrated database that the others are copied from, unless there is one for these migrations.
// The mark that it is whole is that it is a template, which is set last.
func (s *testServer) makeTemplate(ctx context.Context, content string, fill func(ctx context.Context, url string) error) error {
	names, contents, err := migrations.Files()
	if err != nil {
		return err
	}
	sum := sha256.New()
	if content != "" {
		fmt.Fprintln(sum, content)
	}
	for i, name := range names {
		fmt.Fprintf(sum, "%s %d\n", name, len(contents[i]))
		sum.Write(contents[i])
	}
	s.template = "kiln_template_" + hex.EncodeToString(sum.Sum(nil)[:8])

	conn, err := pgx.Connect(ctx, s.url.String())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock(hashtext($1))", s.template); err != nil {
		return err
	}
	var major int
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int / 10000").Scan(&major); err != nil {
		return err
	}
	if major >= 15 {
		s.strategy = " STRATEGY file_copy"
	}
	var whole bool
	err = conn.QueryRow(ctx, "SELECT datistemplate FROM pg_database WHERE datname = $1", s.template).Scan(&whole)
	if whole || err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	for _, sql := range []string{"DROP DATABASE IF EXISTS " + s.template + " WITH (FORCE)", "CREATE DATABASE " + s.template} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	if _, err := migrations.Up(ctx, s.database(s.template)); err != nil {
		return err
	}
	if err := fill(ctx, s.database(s.template)); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "ALTER DATABASE "+s.template+" IS_TEMPLATE true ALLOW_CONNECTIONS false")
	return err
}

// databaseName makes a name that is new and says which test it is for.
func databaseName(test string) string {
	clean := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, strings.ToLower(test))
	return fmt.Sprintf("t_%.40s_%s", clean, strings.ToLower(rand.Text()[:12]))
}
