package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/internal/kilntest"
)

func TestVerifyAccess(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	file := filepath.Join(t.TempDir(), "some.ndjson")
	text := `{"resourceType":"Practitioner","id":"d"}
{"resourceType":"Patient","id":"a","name":[{"family":"Apple"}],"generalPractitioner":[{"reference":"Practitioner/d"}]}
{"resourceType":"Patient","id":"b","name":[{"family":"Berry"}],"link":[{"other":{"reference":"Patient/a"},"type":"seealso"}]}
{"resourceType":"Observation","id":"oa","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"1-8"}]},"subject":{"reference":"Patient/a"}}
{"resourceType":"Observation","id":"ob","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"1-8"}]},"subject":{"reference":"Patient/b"}}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := command(t, "import", "--database-url="+url, file); code != 0 {
		t.Fatal(out, errs)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	written := func() (n int64) { // versions, and the mark that histories leave
		if err := conn.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM resource_change) + (SELECT last_value FROM history_shown)").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := written()
	code, out, errs := command(t, "verify-access", "--database-url="+url, "--seed=7", "--callers=6", "--requests=30")
	if code != 0 || !strings.Contains(out, "Seed 7.") || !strings.Contains(out, "180 requests") || !strings.Contains(out, "rolled back: ") {
		t.Errorf("%d\n%s\n%s", code, out, errs)
	}
	if after := written(); after != before {
		t.Errorf("it wrote: %d, before %d", after, before)
	}
	// It asks with a token, tells the audit log of it, and leaves none behind.
	tokens := func() (n, told int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM oauth_token) + (SELECT count(*) FROM oauth_grant), (SELECT count(*) FROM audit_entry WHERE entry::text LIKE '%verify-access: %')").Scan(&n, &told); err != nil {
			t.Fatal(err)
		}
		return n, told
	}
	if n, told := tokens(); n != 0 || told != 2 || !regexp.MustCompile(`\n[1-9][0-9]+ of them with a token`).MatchString(out) {
		t.Errorf("%d tokens and grants are left, %d entries of the audit log\n%s", n, told, out)
	}
	if code, out, errs := command(t, "verify-access", "--database-url="+url, "--no-writes", "--callers=1", "--requests=5"); code != 0 || !strings.Contains(out, "\n0 of them with a token") {
		t.Errorf("%d\n%s\n%s", code, out, errs)
	}
	if _, told := tokens(); told != 2 {
		t.Errorf("--no-writes wrote: %d entries", told)
	}
	// Nor when it is interrupted.
	interrupted, interrupt := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		var out, errs strings.Builder
		ended <- run(interrupted, []string{"verify-access", "--database-url=" + url, "--callers=1000", "--requests=1000"}, &out, &errs)
	}()
	for n, _ := tokens(); n == 0; n, _ = tokens() {
		select {
		case code := <-ended:
			t.Fatalf("it ended with %d before it had a token", code)
		case <-time.After(5 * time.Millisecond):
		}
	}
	interrupt()
	if code := <-ended; code == 0 {
		t.Error("an interrupted look ended well")
	}
	if n, told := tokens(); n != 0 || told != 4 {
		t.Errorf("after it was interrupted %d tokens and grants are left, %d entries of the audit log", n, told)
	}
	// A hole in the rule is told of with a code that scripts see, and without anybody's name.
	if _, err := conn.Exec(t.Context(), "CREATE OR REPLACE VIEW visible.search_index AS SELECT x.* FROM public.search_index x"); err != nil {
		t.Fatal(err)
	}
	code, out, errs = command(t, "verify-access", "--database-url="+url, "--seed=7", "--callers=12", "--requests=60")
	if code != 1 || !strings.Contains(out, "reads show") || strings.Contains(out, "Apple") || strings.Contains(out, "Berry") {
		t.Errorf("%d\n%s\n%s", code, out, errs)
	}
}
