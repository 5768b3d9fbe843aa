package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestSearch_that_takes_too_long asks for what PostgreSQL works on for many seconds: parts of texts that begin at every
// letter of every text and break off eighty letters later. It must end after the time that a statement may take, be
// refused as too costly, and leave the connection as good as before.
func TestSearch_that_takes_too_long(t *testing.T) {
	t.Parallel()
	url := startedDB(t)
	origin, stop := serve(t, "--database-url="+url, "--pool-size=4", "--statement-timeout=2s")
	text := "aab" + strings.Repeat("a", 490)
	var entries []string
	for n := range 300 { // the same text is looked into once
		entries = append(entries, fmt.Sprintf(`{"request":{"method":"POST","url":"Patient"},"resource":{"resourceType":"Patient","name":[{"family":"%s%d"}]}}`, text, n))
	}
	body := `{"resourceType":"Bundle","type":"transaction","entry":[` + strings.Join(entries, ",") + `]}`
	if a := send(t.Context(), "POST", origin+"/fhir", body); a.err != nil || a.status != http.StatusOK {
		t.Fatalf("the patients: %d %v %v", a.status, a.err, a.body)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	sessions := func() []int {
		rows, _ := conn.Query(t.Context(), `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'kiln' ORDER BY pid`)
		pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
		if err != nil {
			t.Fatal(err)
		}
		return pids
	}
	before := sessions()
	var parts []string
	for n := range 200 {
		parts = append(parts, strings.Repeat("a", 40+n)+"b")
	}
	a := send(t.Context(), "GET", origin+"/fhir/Patient?family:contains="+strings.Join(parts, ","), "")
	issue := fmt.Sprint(a.body["issue"])
	if a.err != nil || a.status != http.StatusUnprocessableEntity || !strings.Contains(issue, "code:too-costly") || strings.Contains(issue, "aaaa") {
		t.Errorf("the slow search: %d %v %v", a.status, a.err, a.body)
	}
	// What the server asks for itself may run just now, and a session that has ended its statement says so a moment later.
	type statement struct {
		PID   int
		Since time.Time
		SQL   string
	}
	running := func() []statement {
		rows, _ := conn.Query(t.Context(), `SELECT pid, query_start, left(query, 300) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND state = 'active' AND pid <> pg_backend_pid()`)
		found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[statement])
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	left := running()
	for end := time.Now().Add(10 * time.Second); len(left) > 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		now := running()
		left = slices.DeleteFunc(left, func(s statement) bool {
			return !slices.ContainsFunc(now, func(n statement) bool { return n.PID == s.PID && n.Since.Equal(s.Since) })
		})
	}
	if len(left) > 0 {
		t.Errorf("still run: %v", left)
	}
	together(8, func(int) {
		if a := send(t.Context(), "GET", origin+"/fhir/Patient?family="+text[:20]+"&_count=3", ""); a.err != nil || a.status != http.StatusOK || len(a.body["entry"].([]any)) != 3 {
			t.Errorf("afterwards: %d %v %v", a.status, a.err, a.body)
		}
	})
	after := sessions()
	for _, pid := range before {
		if !slices.Contains(after, pid) {
			t.Errorf("the session %d is gone", pid)
		}
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestSearch_of_slow_statements asks for what takes several statements, each of which may take as long as it does, and all together not. The last
// is broken off when their time is over, well before that of the request: the search was too costly, and the server not too busy.
func TestSearch_of_slow_statements(t *testing.T) {
	t.Parallel()
	url := startedDB(t)
	origin, stop := serve(t, "--database-url="+url, "--pool-size=4", "--statement-timeout=5s", "--request-timeout=7500ms", "--audit=off")
	body := `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"PUT","url":"Patient/p"},"resource":{"resourceType":"Patient","id":"p","name":[{"family":"slow"}]}}]}`
	if a := send(t.Context(), "POST", origin+"/fhir", body); a.err != nil || a.status != http.StatusOK {
		t.Fatalf("the patient: %d %v %v", a.status, a.err, a.body)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	// Each look at the index takes four seconds: so the second has one left.
	if _, err := conn.Exec(t.Context(), `ALTER TABLE search_index RENAME TO search_index_rows;
		CREATE VIEW search_index AS SELECT * FROM search_index_rows WHERE (SELECT pg_sleep(4) IS NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	for _, search := range []string{"Patient?family:contains=slow&_revinclude=Observation:subject&_revinclude=Condition:subject", "Patient/p/$everything"} {
		a := send(t.Context(), "GET", origin+"/fhir/"+search, "")
		if issue := fmt.Sprint(a.body["issue"]); a.err != nil || a.status != http.StatusUnprocessableEntity || !strings.Contains(issue, "code:too-costly") {
			t.Errorf("%s: %d %v %v", search, a.status, a.err, a.body)
		}
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
