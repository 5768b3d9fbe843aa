package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/internal/embedpg"
	"kiln/internal/kilntest"
)

// ledger is what clients were told: what must be there, whatever happens to the server.
type ledger struct {
	mu sync.Mutex
	// created holds the note of each observation acknowledged by its id, updated the number of the last update of each
	// patient that was acknowledged, tried the number of the last that was sent.
	created         map[string]string
	updated, tried  map[string]int
	groups          map[string]bool // transactions by their mark: whether they were acknowledged
	read            []string        // ids of the requests that read something and were answered
	answers, broken int
	acknowledged    int // of the answers
	faults          []string
}

func newLedger() *ledger {
	return &ledger{created: map[string]string{}, updated: map[string]int{}, tried: map[string]int{}, groups: map[string]bool{}}
}

// observation is a resource with a mark that can be searched for.
func observation(mark string) string {
	return `{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"urn:mark","code":"` + mark + `"}]},"note":[{"text":"` + mark + `"}]}`
}

// write has clients write until ctx ends: creates, updates of one resource each, and transactions.
func (l *ledger) write(ctx context.Context, origin, run string, clients int) {
	together(clients, func(c int) {
		until(ctx, func(i int) {
			mark := fmt.Sprintf("%s-%d-%d", run, c, i)
			var a answer
			switch i % 3 {
			case 0:
				a = send(context.Background(), "POST", origin+"/fhir/Observation", observation(mark))
				l.note(a, func() { l.created[a.id()] = mark })
			case 1:
				id := fmt.Sprintf("p%d", c)
				var n int
				l.note(answer{}, func() { l.tried[id]++; n = l.tried[id] })
				a = send(context.Background(), "PUT", origin+"/fhir/Patient/"+id, fmt.Sprintf(`{"resourceType":"Patient","id":"%s","multipleBirthInteger":%d}`, id, n))
				l.note(a, func() { l.updated[id] = n })
			case 2:
				entry := `{"request":{"method":"POST","url":"Observation"},"resource":` + observation(mark) + `}`
				l.note(answer{}, func() { l.groups[mark] = false })
				a = send(context.Background(), "POST", origin+"/fhir", `{"resourceType":"Bundle","type":"transaction","entry":[`+entry+`,`+entry+`,`+entry+`]}`)
				l.note(a, func() { l.groups[mark] = true })
			}
			if a.err != nil || a.status >= 300 {
				time.Sleep(moment)
			}
		})
	})
}

// reads has a client read until ctx ends, each time by another id of the request.
func (l *ledger) reads(ctx context.Context, origin, run string) {
	until(ctx, func(i int) {
		id := fmt.Sprintf("read-%s-%d", run, i)
		if a := send(context.Background(), "GET", origin+"/fhir/Patient/p0", "", "X-Request-Id: "+id); a.err == nil && a.status != 503 {
			l.note(answer{}, func() { l.read = append(l.read, id) })
		}
	})
}

// logged compares the reads of the ledger with the audit log.
func (l *ledger) logged(t *testing.T, data string) {
	t.Helper()
	url, running := embedpg.Running(data)
	conn, err := pgx.Connect(t.Context(), url)
	if !running || err != nil {
		t.Fatal(running, err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), "SELECT q, count(entry) FROM unnest($1::text[]) AS u(q) LEFT JOIN audit_line ON entry::json ->> 'q' = q GROUP BY q HAVING count(entry) <> 1", l.read)
	if err != nil {
		t.Fatal(err)
	}
	var id string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&id, &n}, func() error { t.Errorf("the log tells %d times of %s", n, id); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(l.read) == 0 {
		t.Error("nothing was read")
	}
	// Of each version one Provenance tells, which the audit worker makes.
	const told = `
WITH v AS (SELECT type, id, version FROM resource UNION ALL SELECT r.type, r.id, h.version FROM resource_history h JOIN resource r USING (rk)),
t AS (SELECT x ->> 'reference' AS target, count(*) AS n FROM resource, jsonb_array_elements(content -> 'target') x WHERE type = 'Provenance' GROUP BY 1)
SELECT count(*), count(*) FILTER (WHERE n IS DISTINCT FROM 1) FROM v LEFT JOIN t ON target = v.type || '/' || v.id || '/_history/' || v.version
WHERE v.type IN ('Observation', 'Patient')`
	var versions, untold int
	eventually(t, "a Provenance tells of each version", func() bool {
		if err := conn.QueryRow(t.Context(), told).Scan(&versions, &untold); err != nil {
			t.Fatal(err)
		}
		return untold == 0
	})
	if versions == 0 {
		t.Error("nothing was written")
	}
}

// note calls record for an answer that acknowledges, or for none.
func (l *ledger) note(a answer, record func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case a.status == 0 && a.err == nil:
		record()
		return
	case a.err != nil:
		l.broken++
		return
	case a.clean() != nil:
		l.faults = append(l.faults, fmt.Sprint(a.status, a.clean(), a.body))
	case a.status < 300:
		record()
		l.acknowledged++
	}
	l.answers++
}

// heard is how often clients were told so far that something was written, and that something was read.
func (l *ledger) heard() (writes, reads int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acknowledged, len(l.read)
}

// check compares the ledger with what a server has.
func (l *ledger) check(t *testing.T, origin string) {
	t.Helper()
	for _, f := range l.faults[:min(len(l.faults), 5)] {
		t.Error("a client was told ", f)
	}
	found := func(mark string) int {
		a := send(t.Context(), "GET", origin+"/fhir/Observation?_summary=count&code="+mark, "")
		total, _ := a.body["total"].(float64)
		if a.err != nil || a.status != 200 {
			t.Errorf("search: %+v", a)
		}
		return int(total)
	}
	for id, mark := range l.created {
		a := send(t.Context(), "GET", origin+"/fhir/Observation/"+id, "")
		if a.status != 200 || fmt.Sprint(a.body["note"]) != "[map[text:"+mark+"]]" {
			t.Fatalf("Observation/%s was acknowledged with %s: %+v", id, mark, a)
		}
		if n := found(mark); n != 1 {
			t.Errorf("%s is found %d times", mark, n)
		}
	}
	for id, tried := range l.tried {
		a := send(t.Context(), "GET", origin+"/fhir/Patient/"+id, "")
		n, _ := a.body["multipleBirthInteger"].(float64)
		if last := l.updated[id]; a.status == 404 && last == 0 {
			continue
		} else if a.status != 200 || int(n) < last || int(n) > tried {
			t.Errorf("Patient/%s: %d was acknowledged and %d sent, and it is %+v", id, last, tried, a)
		}
		h := send(t.Context(), "GET", origin+"/fhir/Patient/"+id+"/_history?_count=1", "")
		version := a.body["meta"].(map[string]any)["versionId"].(string)
		if total, _ := h.body["total"].(float64); strconv.Itoa(int(total)) != version {
			t.Errorf("Patient/%s is at version %s of %v", id, version, h.body["total"])
		}
	}
	done := 0
	for mark, acknowledged := range l.groups {
		switch n := found(mark); {
		case n != 0 && n != 3, n == 0 && acknowledged:
			t.Errorf("of the transaction %s (acknowledged: %t) there are %d resources", mark, acknowledged, n)
		case acknowledged:
			done++
		}
	}
	t.Logf("%d answers, %d requests without one; %d creates, %d transactions, %d patients hold", l.answers, l.broken, len(l.created), done, len(l.updated))
	if len(l.created)+done+len(l.updated) == 0 {
		t.Error("nothing was tested")
	}
}

// postmaster is the process of the PostgreSQL server on a data folder.
func postmaster(t *testing.T, data string) int {
	t.Helper()
	return another(t, data, 0)
}

// another is postmaster once that is another process than before.
func another(t *testing.T, data string, before int) (pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("there is a PostgreSQL server other than process %d", before), func() (there bool) {
		pid, there = findPostmaster(data)
		return there && pid != before
	})
	return pid
}

// findPostmaster is postmaster, if one is there just now.
func findPostmaster(data string) (pid int, there bool) {
	text, err := os.ReadFile(filepath.Join(data, "postgres", "postmaster.pid"))
	if err != nil {
		return 0, false
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err = strconv.Atoi(line)
	return pid, err == nil
}

func TestKill_9_loses_nothing_acknowledged(t *testing.T) {
	t.Parallel()
	data := startedFolder(t)
	l := newLedger()
	for round := range 3 {
		p := launchServe(t, []string{"--data-dir=" + data})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		run := fmt.Sprint("r", round)
		written, read := l.heard()
		go func() {
			defer close(done)
			var reading sync.WaitGroup
			reading.Go(func() { l.reads(ctx, p.origin, run) })
			l.write(ctx, p.origin, run, 6)
			reading.Wait()
		}()
		time.Sleep(time.Second)
		eventually(t, "clients are answered", func() bool {
			writes, reads := l.heard()
			return writes > written && reads > read
		})
		database := postmaster(t, data)
		_ = p.cmd.Process.Kill()
		if round == 1 { // and everything else with it, as when the machine goes down
			_ = syscall.Kill(database, syscall.SIGKILL)
		}
		<-p.exited
		stop()
		<-done
	}
	p := launchServe(t, []string{"--data-dir=" + data})
	l.logged(t, data)
	l.check(t, p.origin)
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, p.stderr.String())
	}
}

func TestDatabase_killed_under_load_comes_back(t *testing.T) {
	t.Parallel()
	data := startedFolder(t)
	p := launchServe(t, []string{"--data-dir=" + data})
	l := newLedger()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.write(ctx, p.origin, "d", 6) }()
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGQUIT, syscall.SIGINT} {
		time.Sleep(500 * time.Millisecond)
		before := postmaster(t, data)
		if err := syscall.Kill(before, signal); err != nil {
			t.Fatal(err)
		}
		eventually(t, fmt.Sprintf("it is back after signal %v", signal), func() bool {
			a := send(t.Context(), "GET", p.origin+"/fhir/Patient?_count=1", "")
			if err := a.clean(); err != nil {
				t.Errorf("after signal %v: %v %+v", signal, err, a)
			}
			pid, there := findPostmaster(data)
			return a.status == 200 && there && pid != before
		})
	}
	written, _ := l.heard()
	time.Sleep(300 * time.Millisecond)
	eventually(t, "clients can write again", func() bool { writes, _ := l.heard(); return writes > written })
	stop()
	<-done
	if l.broken > 0 {
		t.Errorf("%d requests got no answer", l.broken)
	}
	l.check(t, p.origin)
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, p.stderr.String())
	}
}

func TestConnections_killed_under_load_are_replaced(t *testing.T) {
	t.Parallel()
	url := startedDB(t)
	origin, stopServer := serve(t, "--database-url="+url, "--pool-size=4")
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	l := newLedger()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		var reading sync.WaitGroup
		reading.Go(func() {
			until(ctx, func(i int) { // readers, who must get what is there or be told to come again
				a := send(context.Background(), "GET", origin+"/fhir/Observation?_count=5&_sort=-_lastUpdated", "")
				if err := a.clean(); err != nil || a.status == 200 && a.body["resourceType"] != "Bundle" {
					t.Errorf("search: %v %+v", err, a)
				}
			})
		})
		l.write(ctx, origin, "c", 8)
		reading.Wait()
	}()
	killed := 0
	for range 25 {
		time.Sleep(40 * time.Millisecond)
		var n int
		err := conn.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'kiln'`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		killed += n
	}
	stop()
	<-done
	t.Logf("%d connections were killed", killed)
	if l.broken > 0 {
		t.Errorf("%d requests got no answer", l.broken)
	}
	l.check(t, origin)
	if code := stopServer(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// largeTransaction has n entries.
func largeTransaction(mark string, n int) string {
	entry := `{"request":{"method":"POST","url":"Observation"},"resource":` + observation(mark) + `}`
	return `{"resourceType":"Bundle","type":"transaction","entry":[` + strings.TrimSuffix(strings.Repeat(entry+",", n), ",") + `]}`
}

func TestSIGTERM_lets_requests_in_flight_finish(t *testing.T) {
	t.Parallel()
	data := startedFolder(t)
	p := launchServe(t, []string{"--data-dir=" + data})
	const clients, entries = 4, 1500
	l := newLedger()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	answers := make([]answer, clients)
	var answered atomic.Int32
	go func() {
		defer close(done)
		together(clients, func(i int) {
			answers[i] = send(context.Background(), "POST", p.origin+"/fhir", largeTransaction(fmt.Sprint("t", i), entries))
			answered.Add(1)
		})
	}()
	eventually(t, "the transactions are in flight", func() bool {
		already := int(answered.Load())
		_, after, found := strings.Cut(body(t, http.DefaultClient, "GET", p.origin+"/metrics", nil).text, "\nkiln_http_requests_in_flight ")
		number, _, _ := strings.Cut(after, "\n")
		n, err := strconv.Atoi(number)
		if !found || err != nil {
			t.Fatalf("in flight are %q, %v", number, err)
		}
		return n-1+already >= clients // the request for the metrics is one too
	})
	writing := make(chan struct{})
	go func() { defer close(writing); l.write(ctx, p.origin, "s", 2) }()
	eventually(t, "clients write beside them", func() bool { writes, _ := l.heard(); return writes > 0 })
	code := p.end(syscall.SIGTERM)
	<-done
	stop()
	<-writing
	if code != 0 {
		t.Errorf("exit code %d: %s", code, p.stderr.String())
	}
	for i, a := range answers {
		if a.err != nil || a.status != 200 {
			t.Errorf("transaction %d: %d %v", i, a.status, a.err)
		}
	}
	p = launchServe(t, []string{"--data-dir=" + data})
	for i := range answers {
		a := send(t.Context(), "GET", fmt.Sprintf("%s/fhir/Observation?_summary=count&code=t%d", p.origin, i), "")
		if a.body["total"] != float64(entries) {
			t.Errorf("of transaction %d there are %v", i, a.body["total"])
		}
	}
	l.check(t, p.origin)
	p.end(syscall.SIGTERM)
}

func TestServe_as_an_ordinary_user(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("every other test is one of an ordinary user here")
	}
	// nobody may run the test binary only from where everybody may look.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data := reachable(t)
	binary := filepath.Join(filepath.Dir(data), "kiln")
	if out, err := exec.Command("cp", self, binary).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const nobody = 65534
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(data, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	asNobody := func(cmd *exec.Cmd) {
		cmd.Path, cmd.Dir = binary, data
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	for range 2 {
		p := launchServe(t, []string{"--data-dir=" + data}, asNobody)
		if a := send(t.Context(), "PUT", p.origin+"/fhir/Patient/x", `{"resourceType":"Patient","id":"x"}`); a.status >= 300 || a.err != nil {
			t.Errorf("%+v", a)
		}
		if code := p.end(syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d: %s", code, p.stderr.String())
		}
	}
	// And then as root, over what the other user left.
	p := launchServe(t, []string{"--data-dir=" + data})
	if a := send(t.Context(), "GET", p.origin+"/fhir/Patient/x", ""); a.status != http.StatusOK {
		t.Errorf("%+v", a)
	}
	p.end(syscall.SIGTERM)
}

func TestImport_killed_goes_on(t *testing.T) {
	t.Parallel()
	dir := kilntest.SharedData(t, "synthea", "v2.7")
	url := kilntest.EmptyDB(t)
	args := []string{"import", "--database-url=" + url, "--log-level=error", dir}
	killed := 0
	for patience := 700 * time.Millisecond; ; patience *= 2 {
		p, stdout := launch(t, args)
		go io.Copy(io.Discard, stdout)
		select {
		case <-p.exited:
		case <-time.After(patience):
			_ = p.cmd.Process.Kill()
			<-p.exited
			killed++
			continue
		}
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Fatalf("exit code %d: %s", code, p.stderr.String())
		}
		break
	}
	t.Logf("killed %d times", killed)
	if killed == 0 {
		t.Error("it was never killed")
	}
	checkSynthea(t, url, "v2.7")
}

func TestData_folder_in_use_is_said_also_after_a_kill(t *testing.T) {
	t.Parallel()
	data := startedFolder(t)
	p := launchServe(t, []string{"--data-dir=" + data})
	if code, _, errs := command(t, "serve", "--addr=127.0.0.1:0", "--data-dir="+data); code != 1 || !strings.Contains(errs, fmt.Sprintf("in use by another Kiln (process %d)", p.cmd.Process.Pid)) {
		t.Errorf("%d %s", code, errs)
	}
	p.end(syscall.SIGKILL) // the lock file stays, with its number in it
	if _, running := embedpg.Running(data); running {
		t.Error("a dead Kiln counts as running")
	}
	p = launchServe(t, []string{"--data-dir=" + data})
	p.end(syscall.SIGTERM)
}
