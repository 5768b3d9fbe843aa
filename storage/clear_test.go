package storage_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"kiln/fhir/search"
	"kiln/internal/kilntest"
	"kiln/storage"
	"kiln/storage/identity"
)

// unfitOpened counts what opened says and is not so.
const unfitOpened = `
SELECT count(*) FROM opened o WHERE NOT EXISTS (SELECT FROM oauth_token t WHERE t.hash = o.token AND t.kind = 'A' AND t.expires = o.expires)
OR NOT EXISTS (SELECT FROM treatment k WHERE k.clear AND k.actor = o.actor AND k.patient = o.patient AND k.confirmed AND k.low <= now() AND k.high = o.until)
OR EXISTS (SELECT FROM consent_rule c WHERE c.patient = o.patient)`

// connected is a connection of its own to a database, which ends with the test.
func connected(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// TestClear_races writes Consents, treatments and tokens of a few patients, takes them away, changes them and has rows of treatment become clear and tokens
// open records, all at the same time: at no moment is a row clear whose patient has a Consent, or opened what is not. Whoever would wait in a ring begins again, as Store.Write does.
func TestClear_races(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	connect := func() *pgx.Conn { return connected(t, url) }
	const patients, rounds = 2, 120
	care := func(r *rand.Rand) string {
		return fmt.Sprintf("INSERT INTO treatment VALUES (%d, 0, %d, %d, '-infinity', 'infinity', '-infinity', 'infinity', true)", 1+r.IntN(4), 1+r.IntN(2), 1+r.IntN(patients))
	}
	token := func(r *rand.Rand) string { return fmt.Sprintf("sha256('%d')", r.IntN(2)) }
	if _, err := connect().Exec(t.Context(), "INSERT INTO oauth_grant (id, requested, scope, context) VALUES ('g', '', '', '{}')"); err != nil {
		t.Fatal(err)
	}
	works := map[string]func(r *rand.Rand) []string{
		"consents": func(r *rand.Rand) []string {
			source, patient := 1+r.IntN(1_000_000), 1+r.IntN(patients)
			return []string{"SELECT pg_sleep(0.008)", fmt.Sprintf("INSERT INTO consent_rule VALUES (%d, %d, true, 1, '-infinity', 'infinity')", source, patient),
				"COMMIT", "BEGIN", fmt.Sprintf("DELETE FROM consent_rule WHERE source = %d", source)}
		},
		"consents that move": func(r *rand.Rand) []string {
			source := 1 + r.IntN(1_000_000)
			return []string{fmt.Sprintf("INSERT INTO consent_rule VALUES (%d, 99, true, 1, '-infinity', 'infinity')", source),
				fmt.Sprintf("UPDATE consent_rule SET patient = %d WHERE source = %d", 1+r.IntN(patients), source),
				"COMMIT", "BEGIN", fmt.Sprintf("DELETE FROM consent_rule WHERE source = %d", source)}
		},
		"treatments": func(r *rand.Rand) []string {
			return []string{"SELECT pg_sleep(0.002)", fmt.Sprintf("DELETE FROM treatment WHERE source = %d", 1+r.IntN(4)), care(r)}
		},
		"treatments that move": func(r *rand.Rand) []string {
			return []string{care(r), fmt.Sprintf("UPDATE treatment SET patient = %d WHERE ctid = (SELECT ctid FROM treatment WHERE patient = %d LIMIT 1 FOR UPDATE SKIP LOCKED)", 1+r.IntN(patients), 1+r.IntN(patients))}
		},
		"treatments that end": func(r *rand.Rand) []string {
			return []string{care(r), fmt.Sprintf("UPDATE treatment SET high = now() + interval '%d hours' WHERE ctid = (SELECT ctid FROM treatment WHERE patient = %d LIMIT 1 FOR UPDATE SKIP LOCKED)", 1+r.IntN(9), 1+r.IntN(patients))}
		},
		"tokens": func(r *rand.Rand) []string {
			hash := token(r)
			return []string{"INSERT INTO oauth_token (hash, kind, grant_id, scope, request, expires) VALUES (" + hash + ", 'A', 'g', '', '{}', now() + interval '1 day') ON CONFLICT DO NOTHING", "COMMIT", "BEGIN",
				"SELECT pg_sleep(0.004)", fmt.Sprintf("UPDATE oauth_token SET expires = now() + interval '%d hours' WHERE hash = %s", 1+r.IntN(9), hash), "COMMIT", "BEGIN",
				"SELECT pg_sleep(0.004)", "DELETE FROM oauth_token WHERE hash = " + hash}
		},
		"clear": func(r *rand.Rand) []string {
			return []string{fmt.Sprintf("SELECT treatment_clears(%d, %d)", 1+r.IntN(2), 1+r.IntN(patients))}
		},
		"opens": func(r *rand.Rand) []string {
			return []string{fmt.Sprintf("SELECT treatment_opens(%s, %d, %d)", token(r), 1+r.IntN(2), 1+r.IntN(patients))}
		},
		"opens again": func(r *rand.Rand) []string {
			return []string{"SELECT pg_sleep(0.001)", fmt.Sprintf("SELECT treatment_opens(%s, %d, %d)", token(r), 1+r.IntN(2), 1+r.IntN(patients)),
				"COMMIT", "BEGIN", fmt.Sprintf("SELECT treatment_opens(%s, %d, %d)", token(r), 1+r.IntN(2), 1+r.IntN(patients))}
		},
	}
	var working sync.WaitGroup
	var rings atomic.Int32
	var seen atomic.Bool // there was something of everything to look at
	seed := uint64(0)
	for name, work := range works {
		conn := connect()
		seed++
		r := rand.New(rand.NewPCG(seed, 1))
		working.Go(func() {
			for i := 0; i < rounds || i < 50*rounds && !seen.Load(); i++ {
				if _, err := conn.Exec(t.Context(), "BEGIN"); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				for _, sql := range append(work(r), "COMMIT") {
					_, err := conn.Exec(t.Context(), sql)
					if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) && refused.Code == "40P01" {
						if _, err := conn.Exec(t.Context(), "ROLLBACK"); err != nil {
							t.Errorf("%s: ROLLBACK: %v", name, err)
							return
						}
						rings.Add(1)
						break
					}
					if err != nil {
						t.Errorf("%s: %s: %v", name, sql, err)
						return
					}
					if r.IntN(3) == 0 {
						time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
					}
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { working.Wait(); close(ended) }()
	conn, looked, clear, consents, open := connect(), 0, 0, 0, 0
	for over := false; !over; looked++ {
		select {
		case <-ended:
			over = true
		default:
		}
		var unfit, some, others int
		if err := conn.QueryRow(t.Context(), `
SELECT count(*) FILTER (WHERE EXISTS (SELECT FROM consent_rule c WHERE c.patient = k.patient)), count(*), (SELECT count(*) FROM consent_rule WHERE patient < 99)
FROM treatment k WHERE k.clear`).Scan(&unfit, &some, &others); err != nil {
			t.Fatal(err)
		}
		if unfit > 0 {
			t.Fatalf("%d of %d clear rows are of a patient who has a Consent", unfit, some)
		}
		clear, consents = clear+some, consents+others
		var wrong, opened int
		if err := conn.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM opened), ("+unfitOpened+")").Scan(&opened, &wrong); err != nil {
			t.Fatal(err)
		}
		if open += opened; wrong > 0 {
			t.Fatalf("%d of %d rows of opened are there wrongly", wrong, opened)
		}
		if clear > 0 && open > 0 && consents > 0 {
			seen.Store(true)
		}
	}
	if t.Logf("looked %d times, at %d clear rows, %d of opened and %d Consents; %d rings", looked, clear, open, consents, rings.Load()); clear == 0 || open == 0 || consents == 0 {
		t.Error("there was nothing to see")
	}
}

// What is written at another isolation level would not see what others have done.
func TestClear_is_for_read_committed(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), kilntest.DB(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "INSERT INTO treatment VALUES (1, 0, 1, 2, now(), now(), '-infinity', 'infinity', true)"); err != nil {
		t.Fatal(err)
	}
	refuses := func(what string, err error) {
		t.Helper()
		if refused := (*pgconn.PgError)(nil); !errors.As(err, &refused) || refused.Code != "P0001" {
			t.Errorf("%s: %v", what, err)
		}
	}
	err = pgx.BeginTxFunc(t.Context(), conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		var clears bool
		if err := tx.QueryRow(t.Context(), "SELECT treatment_clears(1, 2)").Scan(&clears); err != nil || clears {
			t.Errorf("clear: %v, %v", clears, err)
		}
		_, err := tx.Exec(t.Context(), "INSERT INTO consent_rule VALUES (1, 2, true, 1, '-infinity', 'infinity')")
		return err
	})
	refuses("a Consent", err)
	if _, err := conn.Exec(t.Context(), "SELECT treatment_clears(1, 2)"); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"DELETE FROM treatment", "UPDATE treatment SET high = now()"} {
		refuses(sql, pgx.BeginTxFunc(t.Context(), conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), sql)
			return err
		}))
	}
}

// So Kiln's own transactions are of that level, also where the database has another for a default.
func TestClear_whatever_the_default_of_the_database(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$`); err != nil {
		t.Fatal(err)
	}
	s := openWith(t, storage.Options{URL: url})
	put(t, s, `{"resourceType":"Patient","id":"ben"}`)
	put(t, s, `{"resourceType":"Consent","id":"c","status":"active","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},
"category":[{"text":"x"}],"patient":{"reference":"Patient/ben"},"provision":{"type":"deny"}}`)
	var rules int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM consent_rule").Scan(&rules); err != nil || rules != 1 {
		t.Errorf("%d rules, %v", rules, err)
	}
}

// TestClear_is_found_on_demand reads as a practitioner: by the rule first, and then by the row of treatment that is clear from there on, until a Consent comes.
func TestClear_is_found_on_demand(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	s := openWith(t, storage.Options{URL: url})
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	put(t, s, `{"resourceType":"Patient","id":"ben"}`)
	put(t, s, `{"resourceType":"Condition","id":"c","code":{"text":"x"},"subject":{"reference":"Patient/ben"}}`)
	ben, dr := s.Hasher().Resource("Patient", "ben"), s.Hasher().Resource("Practitioner", "dr")
	hash := make([]byte, 32)
	if err := s.Identity().EnsureGrant(t.Context(), &identity.Grant{ID: "g", Context: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Identity().AddToken(t.Context(), &identity.Token{Hash: hash, Kind: identity.Access, Grant: "g", Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	do := func(sql string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	a, err := s.Access(&search.Restriction{Caller: "dr", Self: "Practitioner/dr", Roles: []string{"practitioner"}, Consent: true,
		Rules: []search.Rule{{Types: []string{"Condition"}, Reach: search.ReachTreated}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := storage.WithAccess(t.Context(), a)
	reads := func(when string, surely, then bool) {
		t.Helper()
		shown, _, err := s.ReadSurely(ctx, storage.NewProof(hash, time.Now()), "Condition", "c")
		if err != nil || shown != surely {
			t.Errorf("%s it is surely seen: %v, want %v, %v", when, shown, surely, err)
		}
		if v, err := s.Read(storage.WithProof(ctx, storage.NewProof(hash, time.Now())), "Condition", "c"); err != nil || (v != nil) != then {
			t.Errorf("%s it is seen: %v, want %v, %v", when, v != nil, then, err)
		}
	}
	const care = "INSERT INTO treatment (source, kind, actor, patient, since, until, low, high, clear) VALUES ($3, 2, $1, $2, now(), now() + interval '1 day', now(), now(), true)"
	reads("before the treatment", false, false)
	do(care, dr, ben, 1)
	reads("at first", false, true)
	reads("then", true, true)
	do("INSERT INTO consent_rule VALUES (7, $1, true, 1, '-infinity', 'infinity')", ben)
	reads("with a Consent", false, false)
	do("DELETE FROM consent_rule")
	s.ForgetClearing()
	reads("when it is over", false, true)
	reads("then again", true, true)
	do("UPDATE treatment SET high = now()")
	reads("when the treatment is over", false, false)
	do(care, dr, ben, 2)
	s.ForgetClearing()
	reads("with another", false, true)
	reads("and from there on", true, true)
	do("UPDATE treatment SET confirmed = false")
	reads("unconfirmed", false, false)
}

// A Consent makes the rows of its patient unclear, and reads few others for that, whatever is known of how many there are: at 20,000 clear rows an index that
// begins with the practitioner has more than a hundred pages.
func TestClear_of_one_patient_is_found_by_the_patient(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	connect := func() *pgx.Conn { return connected(t, url) }
	filling, conn := connect(), connect() // what a connection has read before counts, too
	do := func(on *pgx.Conn, sql string) {
		t.Helper()
		if _, err := on.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	do(filling, "INSERT INTO treatment SELECT g, 2, g % 300, g, now(), now(), '-infinity', 'infinity', true FROM generate_series(1, 20000) g")
	do(filling, "ANALYZE treatment")
	do(filling, "UPDATE treatment SET clear = true")
	var blocks, clear int
	do(conn, "BEGIN")
	do(conn, "INSERT INTO consent_rule VALUES (1, 7, true, 1, '-infinity', 'infinity')")
	if err := conn.QueryRow(t.Context(), `SELECT (SELECT sum(pg_stat_get_xact_blocks_fetched(indexrelid)) FROM pg_index WHERE indrelid = 'treatment'::regclass),
(SELECT count(*) FROM treatment WHERE clear)`).Scan(&blocks, &clear); err != nil {
		t.Fatal(err)
	}
	if blocks == 0 || blocks > 60 || clear != 19_999 {
		t.Errorf("a Consent read %d pages of indexes of treatment; %d rows are clear", blocks, clear)
	}
}
