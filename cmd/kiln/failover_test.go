package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/mail"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/internal/embedpg"
	"kiln/internal/mail/mailtest"
)

// surgery is a clinic whose patients book while its database goes away, and whose mail server takes what it is sent. Each
// time is wanted by several; each client sends a request, under its Idempotency-Key, until there is an answer to it.
type surgery struct {
	origin string
	first  time.Time
	box    *mailtest.Server

	// wanted is the status of a visit that a client was told it has.
	wanted string

	mu sync.Mutex
	// won are the appointments that clients were told they have, by round.
	won    map[int][]string
	booked int
	faults []string
}

const (
	surgeryClients = 8
	// wanting is how many clients want the same time.
	wanting = 4
)

// smtp are the settings with which Kiln sends to the mail server of a surgery.
func (c *surgery) smtp() []string {
	return []string{"KILN_SMTP_HOST=127.0.0.1", fmt.Sprintf("KILN_SMTP_PORT=%d", c.box.Port()), "KILN_SMTP_TLS=off", "KILN_SMTP_FROM=no-reply@clinic.example",
		"KILN_QUIET_HOURS=off", "KILN_MESSAGES_PER_HOUR=10000", "KILN_MESSAGES_PER_DAY=10000"}
}

func newSurgery(t *testing.T) *surgery {
	return &surgery{box: mailtest.Serve(t, func(s *mailtest.Server) { s.NoTLS = true }), won: map[int][]string{}, wanted: "booked",
		first: time.Now().UTC().Truncate(24 * time.Hour).Add(240 * time.Hour)}
}

// opens fills the clinic: a doctor whose visits need a coverage, and a patient for each client, whose payer says yes.
func (c *surgery) opens(t *testing.T, origin string) {
	t.Helper()
	c.origin = origin
	const extension = "https://kiln.example/fhir/StructureDefinition/"
	put := func(typ, id, rest string) {
		t.Helper()
		if a := send(t.Context(), "PUT", origin+"/fhir/"+typ+"/"+id, fmt.Sprintf(`{"resourceType":%q,"id":%q%s}`, typ, id, rest)); a.status != 201 {
			t.Fatalf("%+v", a)
		}
	}
	put("Practitioner", "doc", "")
	put("Organization", "payer", `,"name":"Payer","extension":[{"url":"`+extension+`payer-adapter","valueCode":"sandbox"}]`)
	put("Schedule", "cal", `,"actor":[{"reference":"Practitioner/doc"}],"extension":[{"url":"`+extension+`booking-policy","extension":[{"url":"coverage","valueCode":"strict"}]}]`)
	for i := range surgeryClients {
		put("Patient", fmt.Sprint("p", i), fmt.Sprintf(`,"telecom":[{"system":"email","value":"p%d@example.org"}]`, i))
		put("Coverage", fmt.Sprint("c", i), fmt.Sprintf(`,"status":"active","subscriberId":"OK-%d","beneficiary":{"reference":"Patient/p%[1]d"},"payor":[{"reference":"Organization/payer"}]`, i))
	}
}

// books has all clients book until ctx ends.
func (c *surgery) books(ctx context.Context) {
	together(surgeryClients, func(client int) {
		until(ctx, func(i int) { c.want(i*surgeryClients/wanting+client/wanting, client) })
	})
}

func (c *surgery) want(round, client int) {
	start := c.first.Add(time.Duration(round) * 30 * time.Minute)
	body := fmt.Sprintf(`{"resourceType":"Parameters","parameter":[{"name":"appointment-resource","resource":{"resourceType":"Appointment","status":"booked","start":%q,"end":%q,
		"participant":[{"actor":{"reference":"Practitioner/doc"},"status":"accepted"},{"actor":{"reference":"Patient/p%d"},"status":"accepted"}]}}]}`,
		start.Format(time.RFC3339), start.Add(30*time.Minute).Format(time.RFC3339), client)
	key := fmt.Sprintf("Idempotency-Key: visit-%d-%d", round, client)
	for {
		a := send(context.Background(), "POST", c.origin+"/fhir/Appointment/$book", body, key)
		c.mu.Lock()
		switch {
		case a.err != nil || a.status == http.StatusServiceUnavailable:
			if a.err == nil && a.clean() != nil {
				c.faults = append(c.faults, fmt.Sprint(a.status, a.clean(), a.body))
			}
			c.mu.Unlock()
			time.Sleep(moment)
			continue
		case a.status < 300:
			entries, _ := a.body["entry"].([]any)
			resource, _ := entries[0].(map[string]any)["resource"].(map[string]any)
			if resource["status"] != c.wanted {
				c.faults = append(c.faults, fmt.Sprint(a.body))
			}
			c.won[round] = append(c.won[round], fmt.Sprint(resource["id"]))
			c.booked++
		case a.status != http.StatusConflict:
			c.faults = append(c.faults, fmt.Sprint(a.status, a.body))
		}
		c.mu.Unlock()
		return
	}
}

// further waits until so many more visits have been booked, and mails have been sent.
func (c *surgery) further(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.booked
	}
	booked, mails := count(), len(c.box.Mails())
	eventually(t, "more visits are booked and told of", func() bool { return count() >= booked+n && len(c.box.Mails()) >= mails+1 })
}

// check compares what clients were told with what there is. interrupted is how often the database went away: each time
// the messages that were just being sent, and no others, may have been sent again, with the same id.
func (c *surgery) check(t *testing.T, interrupted int) {
	t.Helper()
	for _, f := range c.faults[:min(len(c.faults), 5)] {
		t.Error("a client was told ", f)
	}
	visits := map[string]bool{}
	for round, ids := range c.won {
		start := c.first.Add(time.Duration(round) * 30 * time.Minute).Format("2006-01-02T15:04:05Z")
		a := send(t.Context(), "GET", c.origin+"/fhir/Appointment?status=booked&date="+start, "")
		if total, _ := a.body["total"].(float64); len(ids) != 1 || total != 1 {
			t.Errorf("round %d: %d clients were told they have it, and there are %v", round, len(ids), a.body["total"])
		}
		for _, id := range ids {
			visits[id] = true
			if got := send(t.Context(), "GET", c.origin+"/fhir/Appointment/"+id, ""); got.body["status"] != "booked" {
				t.Errorf("Appointment/%s was acknowledged and is %v", id, got.body)
			}
		}
	}
	if a := send(t.Context(), "GET", c.origin+"/fhir/Appointment?status=booked&_summary=count", ""); a.body["total"] != float64(len(visits)) {
		t.Errorf("%v visits, and clients were told of %d", a.body["total"], len(visits))
	}
	eventually(t, "each visit is told of", func() bool {
		a := send(t.Context(), "GET", c.origin+"/fhir/Communication?status=completed&_summary=count", "")
		return a.body["total"] == float64(len(visits))
	})
	eventually(t, "a Provenance tells of each visit", func() bool {
		for id := range visits {
			if a := send(t.Context(), "GET", c.origin+"/fhir/Provenance?_summary=count&target=Appointment/"+id, ""); a.body["total"] != 1.0 {
				return false
			}
		}
		return true
	})
	times := map[string]int{}
	for _, text := range c.box.Mails() {
		m, err := mail.ReadMessage(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		times[m.Header.Get("Message-ID")]++
	}
	again := 0
	for _, n := range times {
		again += n - 1
	}
	const workers = 3
	if len(times) != len(visits) || again > interrupted*workers {
		t.Errorf("%d different messages for %d visits, %d of them sent again after %d interruptions", len(times), len(visits), again, interrupted)
	}
	t.Logf("%d visits, %d messages, %d sent again", len(visits), len(times), again)
}

// TestFailover_immediate_stop: the database of Kiln's own ends at once, as by pg_ctl stop -m immediate, while visits are booked
// and told of, and Kiln starts it again.
func TestFailover_immediate_stop(t *testing.T) {
	t.Parallel()
	const times = 2
	c, data := newSurgery(t), startedFolder(t)
	p := launchServe(t, []string{"--data-dir=" + data}, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Environ(), c.smtp()...) })
	c.opens(t, p.origin)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.books(ctx) }()
	database := 0
	for range times {
		c.further(t, 10)
		database = another(t, data, database)
		if err := syscall.Kill(database, syscall.SIGQUIT); err != nil {
			t.Fatal(err)
		}
	}
	c.further(t, 10)
	stop()
	<-done
	c.check(t, times)
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, p.stderr.String())
	}
	if code, out, errs := command(t, "verify-schedule", "--data-dir="+data); code != 0 {
		t.Errorf("verify-schedule: %s %s", out, errs)
	}
}

// TestFailover_connections_are_cut: all connections are ended again and again while visits are booked and told of.
func TestFailover_connections_are_cut(t *testing.T) {
	t.Parallel()
	const times = 10
	c, address := newSurgery(t), startedDB(t)
	p := launchServe(t, []string{"--database-url=" + address, "--pool-size=6"}, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Environ(), c.smtp()...) })
	c.opens(t, p.origin)
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.books(ctx) }()
	for range times {
		c.further(t, 3)
		if _, err := conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`); err != nil {
			t.Fatal(err)
		}
	}
	c.further(t, 3)
	stop()
	<-done
	c.check(t, times)
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, p.stderr.String())
	}
	if code, out, errs := command(t, "verify-schedule", "--database-url="+address); code != 0 {
		t.Errorf("verify-schedule: %s %s", out, errs)
	}
}

// TestFailover_to_a_promoted_standby: the primary dies for good while visits are booked and told of, and its synchronous standby
// takes over; Kiln finds it by the second host of its database URL.
func TestFailover_to_a_promoted_standby(t *testing.T) {
	t.Parallel()
	c := newSurgery(t)
	one, two := reachable(t), reachable(t)
	primary, standby := startPair(t, one, two)
	address := standby.address(one)
	p := launchServe(t, []string{"--database-url=" + address}, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Environ(), c.smtp()...) })
	c.opens(t, p.origin)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.books(ctx) }()
	c.further(t, 10)
	if err := syscall.Kill(postmaster(t, one), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-primary.Done()
	standby.promote(t)
	c.further(t, 10)
	stop()
	<-done
	c.check(t, 1)
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, p.stderr.String())
	}
	if code, out, errs := command(t, "verify-schedule", "--database-url="+address); code != 0 {
		t.Errorf("verify-schedule: %s %s", out, errs)
	}
}

// TestFailover_while_payer_and_mail_are_away: the payer answers 503 and the mail server drops every connection while visits are asked
// for and the database ends at once; it ends again while their messages fail. When payer and mail server are back, each visit that
// was acknowledged is booked and told of once. What waits for its next try is brought forward, so that the test does not wait.
func TestFailover_while_payer_and_mail_are_away(t *testing.T) {
	t.Parallel()
	c, data, payer := newSurgery(t), startedFolder(t), newOutsidePayer(t)
	down, back := "down", payerAnswer
	payer.says.Store(&down)
	c.box.Down(true)
	u, err := url.Parse(payer.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := launchServe(t, []string{"--data-dir=" + data, "--payer-hosts=" + u.Host, "--payer-private", "--payer-timeout=2s"},
		func(cmd *exec.Cmd) { cmd.Env = append(cmd.Environ(), c.smtp()...) })
	c.opens(t, p.origin)
	for at, body := range map[string]string{
		"Endpoint/e": `{"resourceType":"Endpoint","id":"e","status":"active","connectionType":{"system":"http://terminology.hl7.org/CodeSystem/endpoint-connection-type","code":"hl7-fhir-rest"},
			"payloadType":[{"text":"any"}],"address":"` + payer.URL + `/fhir"}`,
		"Organization/payer": `{"resourceType":"Organization","id":"payer","name":"Payer","extension":[{"url":"https://kiln.example/fhir/StructureDefinition/payer-adapter","valueCode":"fhir"}],
			"endpoint":[{"reference":"Endpoint/e"}]}`,
	} {
		if a := send(t.Context(), "PUT", p.origin+"/fhir/"+at, body); a.status > 201 {
			t.Fatalf("%+v", a)
		}
	}
	total := func(query string) float64 {
		n, is := send(t.Context(), "GET", p.origin+"/fhir/"+query+"&_summary=count", "").body["total"].(float64)
		if !is {
			return -1 // the database is away
		}
		return n
	}
	// sql is a number from the database, -1 while it is away.
	sql := func(query string) (n int64) {
		address, running := embedpg.Running(data)
		conn, err := pgx.Connect(t.Context(), address)
		if err != nil || !running {
			return -1
		}
		defer conn.Close(context.Background())
		if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
			return -1
		}
		return n
	}
	kill := func() {
		t.Helper()
		before := postmaster(t, data)
		if err := syscall.Kill(before, syscall.SIGQUIT); err != nil {
			t.Fatal(err)
		}
		// One that has not taken the signal yet still answers, and takes with it what is done after that.
		another(t, data, before)
		eventually(t, "the database is back", func() bool { return sql(`SELECT 1`) == 1 })
	}
	acknowledged := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.booked
	}
	c.wanted = "pending"
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.books(ctx) }()
	for i := range 2 {
		before := acknowledged()
		eventually(t, "more visits are asked for", func() bool { return acknowledged() >= before+2 })
		if i == 0 {
			kill()
		}
	}
	stop()
	<-done
	visits := acknowledged()
	waiting := -1.0
	eventually(t, "the visits that wait are counted", func() bool { waiting = total("Appointment?status=pending"); return waiting >= 0 })
	if waiting != float64(visits) {
		t.Errorf("%v visits wait, and clients were told of %d", waiting, visits)
	}

	payer.says.Store(&back)
	eventually(t, "each visit is booked", func() bool {
		sql(`WITH u AS (UPDATE coverage_answer SET due = now() WHERE due > now() RETURNING 1) SELECT count(*) FROM u`)
		return total("Appointment?status=booked") == float64(visits) && total("Appointment?status=pending") == 0
	})
	eventually(t, "messages fail", func() bool { return sql(`SELECT count(*) FROM river_job WHERE state = 'retryable'`) > 0 })
	kill()
	if n := len(c.box.Mails()); n > 0 {
		t.Errorf("%d mails while the mail server was away", n)
	}
	c.box.Down(false)
	eventually(t, "each visit is told of", func() bool {
		sql(`WITH u AS (UPDATE river_job SET scheduled_at = now() WHERE state = 'retryable' RETURNING 1) SELECT count(*) FROM u`)
		return total("Communication?status=completed") >= float64(visits)
	})
	for round, ids := range c.won {
		start := c.first.Add(time.Duration(round) * 30 * time.Minute).Format("2006-01-02T15:04:05Z")
		if n := total("Appointment?status=booked&date=" + start); len(ids) != 1 || n != 1 {
			t.Errorf("round %d: %d clients were told they have it, and %v visits are booked", round, len(ids), n)
		}
	}
	for _, f := range c.faults[:min(len(c.faults), 5)] {
		t.Error("a client was told ", f)
	}
	times := map[string]int{}
	for _, text := range c.box.Mails() {
		m, err := mail.ReadMessage(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		times[m.Header.Get("Message-ID")]++
	}
	for id, n := range times {
		if n > 1 {
			t.Errorf("the message %s was sent %d times", id, n)
		}
	}
	if told := total("Communication?status=completed"); len(times) != visits || told != float64(visits) {
		t.Errorf("%d messages and %v Communications of %d visits", len(times), told, visits)
	}
	t.Logf("%d visits, %d messages, the payer was asked %d times", visits, len(times), payer.asked.Load())
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, p.stderr.String())
	}
	if code, out, errs := command(t, "verify-schedule", "--data-dir="+data); code != 0 {
		t.Errorf("verify-schedule: %s %s", out, errs)
	}
}

// follower is a PostgreSQL that follows another one until it is promoted.
type follower struct {
	data    string
	started chan error
	server  *embedpg.Server
}

// startPair starts a primary on the data folder one and, on two, a copy of it that follows. What the primary has committed the
// standby has on disk, too.
func startPair(t *testing.T, one, two string) (*embedpg.Server, *follower) {
	t.Helper()
	start := func(data string, settings map[string]string) (*embedpg.Server, error) {
		// Nothing needs to reach the disk, since the machine lives on; all else is as on a server that is relied on.
		maps.Copy(settings, map[string]string{"wal_level": "replica", "max_wal_senders": "4", "synchronous_commit": "on", "full_page_writes": "on"})
		return embedpg.Start(t.Context(), embedpg.Options{DataDir: data, Disposable: true, Settings: settings})
	}
	first, err := start(one, map[string]string{})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"mkdir", "-p", two}, {"cp", "-a", filepath.Join(one, "postgres"), two}, {"touch", filepath.Join(two, "postgres", "standby.signal")}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	primary, err := start(one, map[string]string{"synchronous_standby_names": "*"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = primary.Stop(context.Background()) })
	f := &follower{data: two, started: make(chan error, 1)}
	go func() {
		server, err := start(two, map[string]string{"hot_standby": "off",
			"primary_conninfo": fmt.Sprintf("host=%s port=5432 user=kiln", socketOf(one))})
		f.server = server
		f.started <- err
	}()
	conn, err := pgx.Connect(t.Context(), primary.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	eventually(t, "the standby follows", func() bool {
		var n int
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'`).Scan(&n)
		return err == nil && n == 1
	})
	return primary, f
}

// promote makes it the primary, as pg_ctl promote does, and returns when it is.
func (f *follower) promote(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.data, "postgres", "promote"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(postmaster(t, f.data), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if err := <-f.started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.server.Stop(context.Background()) })
}

// address is a URL of the database that names both servers.
func (f *follower) address(primary string) string {
	hosts := ""
	for _, data := range []string{primary, f.data} {
		hosts += "," + socketOf(data)
	}
	q := url.Values{"host": {hosts[1:]}, "port": {"5432,5432"}, "sslmode": {"disable"}, "target_session_attrs": {"read-write"}}
	return (&url.URL{Scheme: "postgres", User: url.User("kiln"), Path: "/kiln", RawQuery: q.Encode()}).String()
}

// socketOf is the folder of the socket of the server on a data folder: line 5 of its pid file.
func socketOf(data string) string {
	text, err := os.ReadFile(filepath.Join(data, "postgres", "postmaster.pid"))
	if err != nil {
		return "" // there is none yet
	}
	return strings.Split(string(text), "\n")[4]
}
