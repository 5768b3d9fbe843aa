package resources

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// entries is how many entries the log has.
func (w *logged) entries() (n int64) {
	w.t.Helper()
	w.catchUp()
	r, err := w.store.VerifyAudit(w.t.Context(), 0, "")
	if err != nil || r.Break != "" {
		w.t.Fatal(err, r)
	}
	return r.Entries
}

// Whatever there is to ask for is noted, whether it is granted or not. The lists come from the code: what is new is
// asked for here too.
func TestAudit_notes_every_interaction_and_operation(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	boss := admin("user/*.cruds")
	var requests []Request
	for kind := range restKinds {
		r := Request{Interaction: kind, Type: "Patient", Principal: boss}
		switch kind {
		case Read, HistoryInstance, Delete, Update:
			r.ID = "ben"
		case VRead:
			r.ID, r.Version = "ben", "1"
		case Patch:
			r.ID, r.JSONPatch = "ben", []byte(`[]`)
		case SearchSystem, HistorySystem, Batch, Transaction:
			r.Type = ""
		case Operate:
			continue
		}
		requests = append(requests, r)
	}
	for _, o := range w.Operations() {
		r := Request{Interaction: Operate, Operation: o.Code, Principal: boss}
		if !o.System {
			r.Type = o.Resources[0]
			if r.Type == "Resource" || r.Type == "DomainResource" {
				r.Type = "Patient"
			}
			if !o.Type {
				r.ID = "ben"
			}
		}
		requests = append(requests, r)
	}
	if len(requests) < 30 {
		t.Fatalf("only %d requests", len(requests))
	}
	for _, r := range requests {
		before := w.entries()
		_, err := w.Do(t.Context(), r)
		if after := w.entries(); after != before+1 {
			t.Errorf("%s %s %s: %d entries (%v)", r.Interaction, r.Operation, r.Type, after-before, err)
		}
	}
	for _, kind := range []Interaction{Read, VRead, Update, Patch, Delete, Create, SearchType, SearchSystem, HistoryInstance, HistoryType, HistorySystem, Transaction, Batch, Operate} {
		if _, known := restKinds[kind]; !known {
			t.Errorf("%s has no form in BALP", kind)
		}
	}
}

func TestAudit_notes_each_entry_of_a_Bundle(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	for _, kind := range []string{"batch", "transaction"} {
		t.Run(kind, func(t *testing.T) {
			before := w.entries()
			do(t, w.Service, Request{Interaction: Interaction(kind), Principal: admin("user/*.cruds"), Body: parse(t, `{"resourceType":"Bundle","type":"`+kind+`","entry":[
{"request":{"method":"GET","url":"Patient/anna"}},{"request":{"method":"GET","url":"Observation?patient=anna"}},
{"resource":{"resourceType":"Organization","name":"x"},"request":{"method":"POST","url":"Organization"}},
{"resource":{"resourceType":"Patient","active":true},"request":{"method":"POST","url":"Patient"}}]}`)})
			if n := w.entries() - before; n != 4 {
				t.Errorf("%d entries", n)
			}
		})
	}
	t.Run("a_transaction_that_fails_is_one", func(t *testing.T) {
		before := w.entries()
		if kind := w.status(doctor("stranger", "user/*.cruds"), Request{Interaction: Transaction, Body: parse(t, `{"resourceType":"Bundle","type":"transaction","entry":[
{"request":{"method":"GET","url":"Patient/anna"}},{"request":{"method":"GET","url":"Patient/ben"}}]}`)}); kind != fhir.NotFound {
			t.Errorf("kind %d", kind)
		}
		if n := w.entries() - before; n != 1 {
			t.Errorf("%d entries", n)
		}
	})
}

// What the transaction does not commit, the log does not tell as done.
func TestAudit_is_written_exactly_when_the_change_is(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	w.status(admin("user/*.cruds"), Request{Interaction: Update, Type: "Patient", ID: "ben", IfMatch: "7", Body: parse(t, `{"resourceType":"Patient","id":"ben"}`)})
	for _, n := range w.log("entity=Patient/ben") {
		if n.GetText("outcome") == "0" {
			t.Errorf("told as done: %s", summaryOf(n))
		}
	}
}

func TestAuditEvents_are_seen_by_the_patient_and_by_administrators(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	treats, boss := doctor("treats", "user/*.cruds"), admin("user/*.cruds")
	anna, ben := patientApp("anna", "patient/*.cruds"), patientApp("ben", "patient/*.cruds")
	do(t, w.Service, Request{Interaction: Read, Type: "Observation", ID: "a1", Principal: treats})
	do(t, w.Service, Request{Interaction: Read, Type: "Observation", ID: "b1", Principal: boss})
	w.catchUp()
	one := func(p auth.Principal, query string) string {
		return w.found(p, "AuditEvent", query+"&_sort=date&_count=1")
	}
	if one(anna, "entity=Observation/a1") == "" || one(anna, "patient=Patient/anna") == "" {
		t.Error("a patient does not see who read the own record")
	}
	if got := one(anna, "patient=Patient/ben"); got != "" {
		t.Errorf("a patient sees of another's record %s", got)
	}
	if got := one(anna, "entity=Observation/b1"); got != "" {
		t.Errorf("a patient sees of another's record %s", got)
	}
	if one(ben, "entity=Observation/b1") == "" || one(boss, "entity=Observation/a1") == "" {
		t.Error("not seen by whom it is for")
	}
	id := one(anna, "entity=Observation/a1")
	never := fhir.Kind(255)
	w.reads(anna, never, "AuditEvent/"+id)
	w.reads(ben, fhir.NotFound, "AuditEvent/"+id)
	w.reads(treats, fhir.Forbidden, "AuditEvent/"+id)
	t.Run("no_way_for_practitioners", func(t *testing.T) {
		for _, r := range []Request{
			{Interaction: SearchType, Type: "Patient", Query: "_id=anna&_revinclude=AuditEvent:patient"},
			{Interaction: SearchType, Type: "Observation", Query: "_revinclude=AuditEvent:entity"},
			{Interaction: SearchSystem, Query: "_type=AuditEvent,Patient"},
			{Interaction: SearchSystem, Compartment: "Patient", CompartmentID: "anna"},
			{Interaction: Operate, Operation: "everything", Type: "Patient", ID: "anna", Safe: true},
			{Interaction: HistorySystem},
		} {
			r.Principal = treats
			resp, err := w.Do(t.Context(), r)
			if err != nil {
				continue
			}
			for _, e := range resp.Bundle.Entries {
				if e.Version.Type == "AuditEvent" {
					t.Errorf("%s %s?%s shows an AuditEvent", r.Interaction, r.Type, r.Query)
				}
			}
		}
		for _, query := range []string{"_has:AuditEvent:patient:outcome=0", "_has:AuditEvent:entity:action=R"} {
			if got := w.found(treats, "Patient", query); got != "" {
				t.Errorf("%s finds %s", query, got)
			}
		}
	})
	t.Run("a_Consent_does_not_hide_the_log_from_administrators", func(t *testing.T) {
		w.put(`{"resourceType":"Consent","id":"no","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],"patient":{"reference":"Patient/anna"},"policy":[{"uri":"urn:x"}],"provision":{"type":"deny"}}`)
		w.reads(boss, fhir.NotFound, "Observation/a1")
		w.reads(boss, never, "AuditEvent/"+id)
		if one(boss, "patient=Patient/anna") == "" {
			t.Error("a search does not find it")
		}
	})
	t.Run("in_no_history_but_its_own", func(t *testing.T) {
		for _, e := range do(t, w.Service, Request{Interaction: HistorySystem, Query: "_count=1000", Principal: boss}).Bundle.Entries {
			if e.Version.Type == "AuditEvent" {
				t.Fatal("in the history of the system")
			}
		}
		if b := do(t, w.Service, Request{Interaction: HistoryInstance, Type: "AuditEvent", ID: id, Principal: boss}).Bundle; len(b.Entries) != 1 {
			t.Errorf("%d versions", len(b.Entries))
		}
		refused(t, w.Service, fhir.MethodNotAllowed, Request{Interaction: HistoryType, Type: "AuditEvent", Principal: boss})
	})
	t.Run("nobody_writes_one", func(t *testing.T) {
		body := func() *fhir.Node {
			return parse(t, `{"resourceType":"AuditEvent","id":"`+id+`","type":{"code":"rest"},"recorded":"2024-01-01T00:00:00Z","agent":[{"requestor":true}],"source":{"observer":{"display":"x"}}}`)
		}
		entry := func(method, url string, body *fhir.Node) *fhir.Node {
			return parse(t, `{"resourceType":"Bundle","type":"transaction","entry":[{"resource":`+string(body.JSON())+`,"request":{"method":"`+method+`","url":"`+url+`"}}]}`)
		}
		for _, p := range []auth.Principal{boss, backend("system/*.cruds"), anna, treats, auth.Operator("trial")} {
			for _, r := range []Request{
				{Interaction: Create, Type: "AuditEvent", Body: body()}, {Interaction: Update, Type: "AuditEvent", ID: id, Body: body()},
				{Interaction: Patch, Type: "AuditEvent", ID: id, JSONPatch: []byte(`[{"op":"remove","path":"/agent"}]`)},
				{Interaction: Delete, Type: "AuditEvent", ID: id}, {Interaction: Delete, Type: "AuditEvent", Query: "_id=" + id},
				{Interaction: Operate, Operation: "meta-add", Type: "AuditEvent", ID: id, Body: parse(t, `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"code":"x"}]}}]}`)},
				{Interaction: Transaction, Body: entry("POST", "AuditEvent", body())}, {Interaction: Transaction, Body: entry("PUT", "AuditEvent/"+id, body())},
			} {
				if kind := w.status(p, r); kind != fhir.MethodNotAllowed && kind != fhir.Forbidden {
					t.Errorf("%s %s by %v: kind %d", r.Interaction, r.Operation, p.Roles, kind)
				}
			}
		}
	})
}

func TestAudit_query_names_no_other_patient(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	boss := admin("user/*.cruds")
	do(t, w.Service, Request{Interaction: SearchType, Type: "Observation", Query: "patient=anna,ben&code=code-a1&_sort=date", Principal: boss})
	var got []string
	for _, n := range w.log("patient=Patient/anna") {
		got = append(got, summaryOf(n))
	}
	want := "search-type E0 1:Patient/anna GET Observation?patient=withheld&code=code-a1&_sort=date"
	if !slices.Contains(got, want) || strings.Contains(strings.Join(got, " "), "ben") {
		t.Errorf("got %q", got)
	}
}

// TestAudit_a_null_does_not_stop_the_log: somebody signed in could name an app with U+0000 on a page, and no AuditEvent was made of
// that entry, nor of any after it.
func TestAudit_a_null_does_not_stop_the_log(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	boss := admin("user/*.cruds")
	e, _ := w.ActEntry(t.Context(), boss, ActRevoke, false, "gro\x00wth \\u0000", "")
	if err := w.store.Audit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	do(t, w.Service, Request{Interaction: Read, Type: "Patient", ID: "anna", Principal: boss})
	log := fmt.Sprint(w.log("subtype=revoke")[0])
	if !strings.Contains(log, "gro\ufffdwth \\u0000") {
		t.Errorf("%s", log)
	}
	if len(w.log("patient=Patient/anna&subtype=read")) != 1 {
		t.Error("what came after it is missing")
	}
	w.entries()
}

// TestAudit_strangers_cannot_fill_the_log: whoever proves nothing has 20 refusals of a kind noted a second, and what was sent is cut.
func TestAudit_strangers_cannot_fill_the_log(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	noted := func(p auth.Principal, act string) (n int) {
		for range 200 {
			if e, wanted := w.ActEntry(t.Context(), p, act, true, strings.Repeat("\xff\x00", 1<<12), ""); wanted {
				n++
				if text := e.Text(); len(text) > 8<<10 || strings.Contains(text, "\x00") || !utf8.ValidString(text) {
					t.Fatalf("%d bytes: %.300q", len(text), text)
				}
			}
		}
		return n
	}
	for _, act := range []string{ActAuthorize, ActRegister, ActClient, ActUnfit, ActLogin} { // a flood of one hides none of another
		if n := noted(auth.Principal{Client: "growth"}, act); n < anonymousRefusals || n > 3*anonymousRefusals {
			t.Errorf("%s: %d noted", act, n)
		}
	}
	if n := noted(auth.Principal{User: "u"}, ActAdminister); n != 200 {
		t.Errorf("of somebody signed in %d were noted", n)
	}
}

func TestAudit_chain_tells_of_tampering(t *testing.T) {
	t.Parallel()
	const unlock = "SET session_replication_role = replica; "
	for name, statement := range map[string]string{
		"an_entry_changed":       "UPDATE audit_entry SET entry = replace(entry, 'Patient', 'Person') WHERE id = (SELECT max(entry) - 1 FROM audit_chain)",
		"its_time_changed":       "UPDATE audit_entry SET recorded = recorded - interval '1 hour' WHERE id = 5",
		"an_entry_gone":          "DELETE FROM audit_entry WHERE id = 5",
		"a_place_gone":           "DELETE FROM audit_chain WHERE position = 5",
		"a_place_changed":        "UPDATE audit_chain SET events = '{}' WHERE position = 5",
		"an_AuditEvent_changed":  `UPDATE resource SET content = jsonb_set(content, '{action}', '"C"') WHERE type = 'AuditEvent' AND id = (SELECT events[1] FROM audit_chain WHERE position = 5)`,
		"an_AuditEvent_gone":     "DELETE FROM resource WHERE type = 'AuditEvent' AND id = (SELECT events[1] FROM audit_chain WHERE position = 5)",
		"an_entry_slipped_in":    "UPDATE audit_progress SET low = 6; INSERT INTO audit_entry (id, recorded, entry) OVERRIDING SYSTEM VALUE VALUES (0, now(), '{}')",
		"the_end_cut_off":        "DELETE FROM audit_entry WHERE id = (SELECT max(entry) FROM audit_chain); DELETE FROM audit_chain WHERE position = (SELECT max(position) FROM audit_chain)",
		"the_chain_written_anew": "UPDATE audit_chain SET hash = sha256('x') WHERE position = 6",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newLog(t)
			for range 3 {
				do(t, w.Service, Request{Interaction: Read, Type: "Patient", ID: "anna", Principal: admin("user/*.cruds")})
			}
			w.catchUp()
			before, err := w.store.VerifyAudit(t.Context(), 0, "")
			if err != nil || before.Break != "" || before.Entries < 6 || before.Events != before.Entries {
				t.Fatal(err, before)
			}
			w.sql(unlock + statement)
			after, err := w.store.VerifyAudit(t.Context(), before.Position, before.Head)
			if err != nil || after.Break == "" {
				t.Errorf("not found: %v %+v", err, after)
			} else {
				t.Log(after.Break)
			}
		})
	}
}

func TestAudit_is_append_only(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	do(t, w.Service, Request{Interaction: Read, Type: "Patient", ID: "anna", Principal: admin("user/*.cruds")})
	w.catchUp()
	for _, statement := range []string{
		"UPDATE audit_entry SET entry = ''", "DELETE FROM audit_entry", "TRUNCATE audit_entry CASCADE", "UPDATE audit_chain SET entry = 7", "DELETE FROM audit_chain", "TRUNCATE audit_chain",
		"UPDATE resource SET content = '{}' WHERE type = 'AuditEvent'", "DELETE FROM resource WHERE type = 'AuditEvent'",
	} {
		if err := w.try(statement); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

// A server that ends between an answer and its AuditEvent leaves the entry: another one makes the event of it. Several at
// once take turns.
func TestAudit_servers_go_on_where_another_ended(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	before := w.entries()
	const n = 40
	for range n {
		do(t, w.Service, Request{Interaction: Read, Type: "Patient", ID: "anna", Principal: admin("user/*.cruds")})
	}
	other := w.again()
	done := make(chan error, 4)
	for _, s := range []*Service{w.Service, other, w.Service, other} {
		go func() {
			for range 5 {
				if _, err := s.ChainAudit(t.Context()); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := w.entries(); got != before+n {
		t.Errorf("%d entries in the chain", got)
	}
	if left, _, err := w.store.AuditBacklog(t.Context()); err != nil || left != 0 {
		t.Errorf("%d are left, %v", left, err)
	}
}

// An entry that becomes visible after later ones, since its transaction took long, has its place in the chain all the same.
func TestAudit_late_entries_are_not_lost(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	release, started, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		ended <- w.store.Write(storage.WithAccess(t.Context(), storage.Everything()), func(tx *storage.Tx) error {
			tx.Audit(storage.AuditEntry{Recorded: time.Now(), Act: "read", Name: "late"})
			if err := tx.Flush(t.Context()); err != nil {
				return err
			}
			close(started)
			<-release
			return nil
		})
	}()
	<-started
	for range 3 {
		do(t, w.Service, Request{Interaction: Read, Type: "Patient", ID: "anna", Principal: admin("user/*.cruds")})
		w.catchUp()
	}
	close(release)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.catchUp()
	}
	if n, _, err := w.store.AuditBacklog(t.Context()); n != 0 || err != nil {
		t.Errorf("%d entries are left, %v", n, err)
	}
	found := 0
	for _, n := range w.log("") {
		if strings.Contains(string(n.JSON()), `"late"`) {
			found++
		}
	}
	if found != 1 {
		t.Errorf("found %d times", found)
	}
}

// Nor is one whose transaction has a later number than those of entries behind it, and ends long after them; nor one in the midst of
// a backlog that is worked off meanwhile.
func TestAudit_entries_of_late_transactions_are_not_lost(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	begin := func() *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), w.url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.Background()) })
		return conn
	}
	first, late := begin(), begin()
	run := func(conn *pgx.Conn, sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	const entry = `INSERT INTO audit_entry (recorded, entry) SELECT now(), '{"a":"read"}' FROM generate_series(1, %d)`
	run(first, "BEGIN; SELECT pg_current_xact_id()")
	run(late, "BEGIN; "+fmt.Sprintf(entry, 1))
	run(first, fmt.Sprintf(entry, 2*auditBatch)+"; COMMIT")
	for range 5 {
		if _, err := w.store.ChainAudit(t.Context(), auditBatch, w.auditEvents, w.provenances); err != nil {
			t.Fatal(err)
		}
		run(first, fmt.Sprintf(entry, auditBatch/2))
	}
	w.catchUp()
	w.catchUp()
	run(late, "COMMIT")
	w.catchUp()
	var left int
	if err := first.QueryRow(t.Context(), "SELECT count(*) FROM audit_entry e WHERE NOT EXISTS (SELECT FROM audit_chain c WHERE c.entry = e.id)").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d entries are in no place of the chain, %v", left, err)
	}
	// What is done of a backlog is not gone through again: low moves before the end is reached.
	low := func() (n int64) {
		if err := first.QueryRow(t.Context(), "SELECT low FROM audit_progress").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	run(first, fmt.Sprintf(entry, 2*auditBatch))
	for before := low(); low() == before; {
		run(first, fmt.Sprintf(entry, auditBatch)) // as many as are taken, so that there is never an end
		if n, err := w.store.ChainAudit(t.Context(), auditBatch, w.auditEvents, w.provenances); err != nil || n != auditBatch {
			t.Fatalf("%d entries, %v", n, err)
		}
	}
}

// Without the log there is no answer.
func TestAudit_that_cannot_be_written_refuses(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	w.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'full'; END $$; CREATE TRIGGER refuse BEFORE INSERT ON audit_entry FOR EACH STATEMENT EXECUTE FUNCTION refuse()")
	if kind := w.status(admin("user/*.cruds"), Request{Interaction: Read, Type: "Patient", ID: "anna"}); kind != fhir.Transient {
		t.Errorf("read: kind %d", kind)
	}
	w.status(admin("user/*.cruds"), Request{Interaction: Update, Type: "Patient", ID: "anna", Body: parse(t, `{"resourceType":"Patient","id":"anna","active":true}`)})
	w.options.Audit = false
	if v := do(t, w.Service, Request{Interaction: Read, Type: "Patient", ID: "anna"}).Version; v.Number != 1 {
		t.Errorf("version %d was written without the log", v.Number)
	}
}

// Whose records a GraphQL query read, the log tells, also where an error was the answer: its message may tell of them.
func TestAudit_of_graphql(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	ask := func(typ, id, query string) error {
		body := fhir.Obj(fhir.Str(query).As("query"))
		_, err := w.Do(t.Context(), Request{Interaction: Operate, Operation: "graphql", Type: typ, ID: id, Principal: admin("user/*.rs"), Body: &body})
		return err
	}
	patients := func() int { return len(w.log("patient=Patient/ben")) }
	for _, c := range []struct {
		rule, typ, id, query string
		fails                bool
	}{
		{"read", "", "", `{ Patient(id: "ben") { id } }`, false},
		{"found", "", "", `{ PatientList(_id: "ben") { id } }`, false},
		{"about_one", "Patient", "ben", `{ id }`, false},
		{"failed_behind_it", "", "", `{ Patient(id: "ben") { id } other: Patient(id: "none") { id } }`, true},
	} {
		before := patients()
		if err := ask(c.typ, c.id, c.query); (err != nil) != c.fails {
			t.Errorf("%s: %v", c.rule, err)
		}
		if after := patients(); after != before+2 { // the search before names the patient, too
			t.Errorf("%s: %d entries about the patient", c.rule, after-before)
		}
	}
}
