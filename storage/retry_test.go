package storage

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/kilntest"
	"kiln/storage/identity"
	"kiln/storage/terminology"
)

// mortal is a pool of full connections, and the function that ends them all.
func mortal(t *testing.T, url string, of ...*pgxpool.Pool) (kill func()) {
	t.Helper()
	admin, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin.Close(context.Background()) })
	return func() {
		t.Helper()
		for _, pool := range of {
			var held []*pgxpool.Conn
			for free := int(pool.Stat().MaxConns() - pool.Stat().AcquiredConns()); len(held) < free; {
				conn, err := pool.Acquire(t.Context())
				if err != nil {
					t.Error(err)
					break
				}
				if conn.Ping(t.Context()) != nil { // it was killed before
					conn.Release()
					continue
				}
				held = append(held, conn)
			}
			for _, conn := range held {
				conn.Release()
			}
		}
		// A pool looks after connections that have been idle for a second: until then they must be gone.
		for left := -1; left != 0; {
			if err := admin.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`).Scan(&left); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	url := kilntest.EmptyDB(t)
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 3
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	kill, r := mortal(t, url, pool), reader{pool}
	// send runs statements, and returns what they said.
	send := func(statements ...string) (said []int64, err error) {
		batch := &pgx.Batch{}
		for _, sql := range statements {
			batch.Queue(sql).Query(func(rows pgx.Rows) error {
				for rows.Next() {
					var n int64
					if err := rows.Scan(&n); err != nil {
						return err
					}
					said = append(said, n)
				}
				return rows.Err()
			})
		}
		return said, r.Send(t.Context(), batch)
	}
	one := func(sql string) (n int64, err error) { return n, r.QueryRow(t.Context(), sql).Scan(&n) }

	t.Run("what_meets_only_dead_connections_is_answered", func(t *testing.T) {
		kill()
		if n, err := one(`SELECT 7::bigint`); n != 7 || err != nil {
			t.Error(n, err)
		}
		kill()
		if said, err := send(`SELECT 1::bigint`, `SELECT 2::bigint`); len(said) != 2 || err != nil {
			t.Error(said, err)
		}
	})
	t.Run("no_rows_are_no_reason", func(t *testing.T) {
		if _, err := one(`SELECT 1::bigint WHERE false`); !errors.Is(err, pgx.ErrNoRows) {
			t.Error(err)
		}
	})
	if _, err := pool.Exec(t.Context(), `CREATE SEQUENCE tries`); err != nil {
		t.Fatal(err)
	}
	tries := func() (n int64) {
		t.Helper()
		if err := pool.QueryRow(t.Context(), `SELECT nextval('tries')`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if _, err := pool.Exec(t.Context(), `SELECT setval('tries', 1, false)`); err != nil {
			t.Fatal(err)
		}
		return n - 1
	}
	const fatal = `SELECT nextval('tries') + pg_terminate_backend(pg_backend_pid())::int + length(pg_sleep(10)::text)`
	t.Run("what_kills_connections_itself_ends", func(t *testing.T) {
		if _, err := one(fatal); !dead(err) || fhir.KindOf(translate(err)) != fhir.Transient {
			t.Error(err)
		}
		if n := tries(); n != 4 {
			t.Errorf("%d tries", n)
		}
		if _, err := send(fatal); !dead(err) {
			t.Error(err)
		}
		if n := tries(); n != 4 {
			t.Errorf("%d tries", n)
		}
	})
	// So many rows that PostgreSQL sends some before it ends.
	const midway = `SELECT i + 0 * CASE WHEN i = 20000 THEN pg_terminate_backend(pg_backend_pid())::int ELSE 0 END::bigint FROM generate_series(1, 30000) i`
	t.Run("what_has_given_rows_is_not_sent_again", func(t *testing.T) {
		rows, err := r.Query(t.Context(), midway)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var n int64
		for last := int64(0); rows.Next(); last = n {
			if err := rows.Scan(&n); err != nil || n != last+1 {
				t.Fatalf("%d after %d: %v", n, last, err)
			}
		}
		if err := rows.Err(); n == 0 || !dead(err) {
			t.Errorf("after %d rows: %v", n, err)
		}
		said, err := send(midway)
		if len(said) == 0 || !dead(err) {
			t.Errorf("after %d rows: %v", len(said), err)
		}
		for i, n := range said {
			if n != int64(i+1) {
				t.Fatalf("row %d is %d", i, n)
			}
		}
		if said, err := send(`SELECT 1::bigint`, midway); len(said) == 0 || said[0] != 1 || !dead(err) {
			t.Errorf("after %d rows: %v", len(said), err)
		}
	})
}

func TestStore_when_connections_are_ended(t *testing.T) {
	t.Parallel()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	url := kilntest.DB(t)
	s, err := Open(t.Context(), Options{URL: url, Base: "http://localhost/fhir", Registry: registry, PoolSize: 6, Unrestricted: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	kill := mortal(t, url, s.pool, s.guarded)
	prepared := func(id string) *Prepared {
		t.Helper()
		n, err := fhir.ParseJSON([]byte(`{"resourceType":"Patient","id":"` + id + `","birthDate":"1990-01-01"}`))
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Prepare(n)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	write := func(id string, before func(*Tx) error) (runs int, err error) {
		return runs, s.Write(t.Context(), func(tx *Tx) error {
			runs++
			if err := before(tx); err != nil {
				return err
			}
			tx.Insert(prepared(id), MethodUpdate)
			return nil
		})
	}
	look := func(tx *Tx) error {
		_, err := tx.Lock(t.Context(), Key{"Patient", "c"})
		return err
	}
	if _, err := write("a", look); err != nil {
		t.Fatal(err)
	}
	access, err := s.Access(&search.Restriction{Caller: "p", Record: "a", Rules: []search.Rule{{Types: []string{"Patient"}, Reach: search.ReachOwn}}})
	if err != nil {
		t.Fatal(err)
	}
	token := make([]byte, 32)
	if err := s.Identity().EnsureGrant(t.Context(), &identity.Grant{ID: "g", Context: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Identity().AddToken(t.Context(), &identity.Token{Hash: token, Kind: identity.Access, Grant: "g", Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	proven := func(ctx context.Context) context.Context { return WithProof(ctx, NewProof(token, time.Now())) }
	of := func(ctx context.Context) func() error {
		return func() error {
			v, err := s.Read(ctx, "Patient", "a")
			if err == nil && v == nil {
				return errors.New("nothing")
			}
			return err
		}
	}
	for name, read := range map[string]func() error{
		"read":                              of(t.Context()),
		"read_of_a_user":                    of(WithAccess(t.Context(), access)),
		"read_of_a_user_with_a_token":       of(proven(WithAccess(t.Context(), access))),
		"read_of_who_sees_all_with_a_token": of(proven(t.Context())),
		"history": func() error {
			p, err := s.History(t.Context(), HistoryQuery{Type: "Patient", Limit: 9})
			if err == nil && len(p.Versions) == 0 {
				return errors.New("nothing")
			}
			return err
		},
		"a_code": func() error {
			r, err := s.Terminology(t.Context(), nil, terminology.Options{})
			if err != nil {
				return err
			}
			if _, err := r.NeedSystem(t.Context(), "urn:none", ""); fhir.KindOf(err) != fhir.NotFound {
				return err
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			kill()
			if err := read(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("a_transaction_before_its_commit", func(t *testing.T) {
		s.pool.Reset() // of what was ended before and not met: both kinds together are more than a transaction meets
		first := true
		runs, err := write("c", func(tx *Tx) error {
			if err := look(tx); err != nil || !first {
				return err
			}
			first = false
			kill()
			return look(tx)
		})
		if err != nil || runs < 2 {
			t.Errorf("%d runs: %v", runs, err)
		}
	})
	if _, err := s.pool.Exec(t.Context(), `
CREATE FUNCTION end_session() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(10); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER end_session AFTER INSERT ON resource DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION end_session()`); err != nil {
		t.Fatal(err)
	}
	for name, before := range map[string]func(*Tx) error{"that_looked": look, "of_one_round_trip": func(*Tx) error { return nil }} {
		t.Run("a_commit_of_unknown_fate_"+name, func(t *testing.T) {
			runs, err := write("d", before)
			if fhir.KindOf(err) != fhir.Transient || runs != 1 || !strings.Contains(err.Error(), "stored or not") {
				t.Errorf("%d runs: %v", runs, err)
			}
		})
	}
}
