package storage_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"kiln/internal/kilntest"
	"kiln/storage"
)

// opener is a connection to a database where two tokens of one practitioner open three patients.
type opener struct {
	*pgx.Conn
	t   *testing.T
	url string
}

func openedThrice(t *testing.T) *opener {
	t.Helper()
	o := connectAs(t, kilntest.DB(t))
	o.do("INSERT INTO oauth_grant (id, requested, scope, context) SELECT 'g' || n, '', '', '{}' FROM generate_series(1, 2) n")
	o.do("INSERT INTO oauth_token (hash, kind, grant_id, scope, request, expires) SELECT sha256(n::text::bytea), 'A', 'g' || n, '', '{}', now() + interval '1 day' FROM generate_series(1, 2) n")
	o.do("INSERT INTO treatment SELECT n, 0, 7, n, '-infinity', 'infinity', '-infinity', 'infinity', true FROM generate_series(1, 3) n")
	o.do("SELECT treatment_opens(hash, 7, n) FROM oauth_token, generate_series(1, 3) n")
	if n := o.count("SELECT count(*) FROM opened"); n != 6 {
		t.Fatalf("%d rows", n)
	}
	return o
}

func connectAs(t *testing.T, url string) *opener {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return &opener{conn, t, url}
}

func (o *opener) do(sql string) {
	o.t.Helper()
	if _, err := o.Exec(o.t.Context(), sql); err != nil {
		o.t.Fatalf("%s: %v", sql, err)
	}
}

func (o *opener) count(sql string) (n int) {
	o.t.Helper()
	if err := o.QueryRow(o.t.Context(), sql).Scan(&n); err != nil {
		o.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// A token is revoked while somebody who changes a treatment has not ended the transaction, which may take long and never end; and what has been begun then ends.
func TestOpened_waits_for_no_treatment_to_end(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"an end":       "DELETE FROM treatment WHERE source = 1",
		"other times":  "UPDATE treatment SET high = now() WHERE source = 1",
		"a Consent":    "INSERT INTO consent_rule VALUES (9, 1, true, 1, '-infinity', 'infinity')",
		"another name": "UPDATE treatment SET actor = 8 WHERE source = 1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changing := openedThrice(t)
			revoking := connectAs(t, changing.url)
			revoking.do("SET lock_timeout = '5s'")
			changing.do("BEGIN")
			changing.do(change)
			revoking.do("DELETE FROM oauth_grant WHERE id = 'g1'")
			if n := revoking.count("SELECT count(*) FROM opened"); n != 3 {
				t.Errorf("%d rows while the change is not yet there", n)
			}
			revoking.do("SELECT treatment_opens(sha256('2'), 7, 1)")
			changing.do("COMMIT")
			if n := revoking.count("SELECT count(*) FROM opened WHERE patient = 1"); n != 0 {
				t.Errorf("%d rows of who is no longer treated, or has a Consent", n)
			}
			if n := revoking.count(unfitOpened); n != 0 {
				t.Errorf("%d rows are there wrongly", n)
			}
		})
	}
}

// Whatever the transaction has read last, it ends what is opened: also in the role that may not touch the table.
func TestOpened_ends_in_any_role(t *testing.T) {
	t.Parallel()
	o := openedThrice(t)
	o.do("BEGIN")
	o.do("DELETE FROM treatment WHERE source = 1")
	o.do("SELECT set_config('role', 'kiln_access', true), set_config('search_path', 'visible, public', true)")
	o.do("COMMIT")
	if n := o.count("SELECT count(*) FROM opened WHERE patient = 1"); n != 0 {
		t.Errorf("%d rows", n)
	}
	o.do("BEGIN")
	o.do("SELECT set_config('role', 'kiln_access', true)")
	var refused *pgconn.PgError
	if _, err := o.Exec(t.Context(), "DELETE FROM public.opened"); !errors.As(err, &refused) || !strings.HasPrefix(refused.Code, "42") {
		t.Errorf("the role empties the table: %v", err)
	}
	o.do("ROLLBACK")
}

// Who revokes a token and who changes two treatments may each have a row that the other needs next. Whichever of them PostgreSQL then refuses, the token is revoked.
func TestOpened_rings_keep_nobody_from_revoking(t *testing.T) {
	t.Parallel()
	for name, within := range map[string]bool{"alone": false, "within a transaction": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changing := openedThrice(t)
			changing.do("SET deadlock_timeout = '1h'") // so the other is refused
			others := connectAs(t, changing.url)
			s := openWith(t, storage.Options{URL: changing.url})
			others.do("BEGIN")
			others.do("SELECT FROM opened WHERE token = sha256('1') AND patient = 2 FOR UPDATE")
			changing.do("BEGIN")
			changing.do("SET CONSTRAINTS treatment_closes IMMEDIATE")
			changing.do("DELETE FROM treatment WHERE source = 3")
			revoked, ended := make(chan error, 1), make(chan error, 1)
			go func() {
				revoked <- func() error {
					if !within {
						return s.Identity().Revoke(t.Context(), "g1")
					}
					ctx, err := s.Identity().Begin(t.Context())
					if err != nil {
						return err
					}
					defer s.Identity().Rollback(ctx)
					if err := s.Identity().Revoke(ctx, "g1"); err != nil {
						return err
					}
					return s.Identity().Commit(ctx)
				}()
			}()
			waits := func(n int) {
				t.Helper()
				for others.count("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())") < n {
					if err := t.Context().Err(); err != nil {
						t.Fatal(err)
					}
				}
			}
			waits(1) // it has the row of the first patient, and waits for that of the second
			go func() { _, err := changing.Exec(t.Context(), "DELETE FROM treatment WHERE source = 1"); ended <- err }()
			waits(2)
			others.do("COMMIT")
			if err := <-ended; err != nil {
				t.Fatalf("changing: %v", err)
			}
			changing.do("COMMIT")
			if err := <-revoked; err != nil {
				t.Errorf("revoking: %v", err)
			}
			if n := others.count("SELECT (SELECT count(*) FROM oauth_grant WHERE id = 'g1') + (SELECT count(*) FROM opened WHERE token = sha256('1'))"); n != 0 {
				t.Errorf("%d rows", n)
			}
		})
	}
}
