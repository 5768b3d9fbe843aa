package resources

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/storage"
)

// calls calls an operation with Parameters made of name and value[x] pairs.
func calls(t testing.TB, s *Service, typ, id, name string, parts ...string) (*Response, error) {
	t.Helper()
	body := parse(t, `{"resourceType":"Parameters","parameter":[`+strings.Join(parts, ",")+`]}`)
	if len(parts) == 0 {
		body = nil
	}
	return s.Do(t.Context(), Request{Interaction: Operate, Type: typ, ID: id, Operation: name, Body: body})
}

func arg(name, element, value string) string {
	return fmt.Sprintf(`{"name":%q,%q:%s}`, name, element, value)
}

func argRef(name, to string) string {
	return arg(name, "valueReference", fmt.Sprintf(`{"reference":%q}`, to))
}

func mustCall(t testing.TB, s *Service, typ, id, name string, parts ...string) *Response {
	t.Helper()
	resp, err := calls(t, s, typ, id, name, parts...)
	if err != nil {
		t.Fatalf("$%s: %s", name, describe(err))
	}
	return resp
}

func find(t testing.TB, s *Service, more ...string) []Entry {
	t.Helper()
	parts := append([]string{arg("start", "valueDateTime", `"2026-01-16T00:00:00Z"`), arg("end", "valueDateTime", `"2026-01-17T00:00:00Z"`)}, more...)
	return mustCall(t, s, "Appointment", "", "find", parts...).Bundle.Entries
}

func TestFind_hold_book_move_cancel(t *testing.T) {
	t.Parallel()
	s, clock := clinic(t)
	free := find(t, s, argRef("practitioner", "Practitioner/doc"))
	if len(free) != 3 || len(free[0].Version.ID) > 64 {
		t.Fatalf("%d times", len(free))
	}
	first := "Appointment/" + free[0].Version.ID
	held := mustCall(t, s, "Appointment", "", "hold", argRef("appointment-reference", first), argRef("patient", "Patient/ada"))
	if held.Expires.IsZero() || status(t, s, "Slot", "s9") != "busy-tentative" {
		t.Fatalf("%v, the Slot is %s", held.Expires, status(t, s, "Slot", "s9"))
	}
	if got := len(find(t, s)); got != 2 {
		t.Fatalf("%d times while one is held", got)
	}
	if _, err := calls(t, s, "Appointment", "", "book", argRef("appointment-reference", first), argRef("patient", "Patient/ben")); codeOf(err) != "slot-taken" {
		t.Fatal(describe(err))
	}
	id := held.Bundle.Entries[0].Version.ID
	mustCall(t, s, "Appointment", "", "book", argRef("appointment-reference", "Appointment/"+id))
	if n := read(t, s, "Appointment", id); n.GetText("status") != "booked" || n.Get("extension") != nil || status(t, s, "Slot", "s9") != "busy" {
		t.Fatalf("%s", n.JSON())
	}
	mustCall(t, s, "Appointment", id, "reschedule", arg("start", "valueDateTime", `"2026-01-16T10:00:00Z"`))
	if a, b := status(t, s, "Slot", "s9"), status(t, s, "Slot", "s10"); a != "free" || b != "busy" {
		t.Fatalf("after the move %s and %s", a, b)
	}
	mustCall(t, s, "Appointment", id, "cancel", arg("reason", "valueCodeableConcept", `{"text":"Feels better"}`))
	if got := status(t, s, "Slot", "s10"); got != "free" {
		t.Fatalf("after the cancellation %s", got)
	}
	// A hold that ends is free for others, and gone for its owner.
	held = mustCall(t, s, "Appointment", "", "hold", argRef("appointment-reference", first), argRef("patient", "Patient/ada"))
	clock.Advance(11 * time.Minute)
	mustCall(t, s, "Appointment", "", "book", argRef("appointment-reference", first), argRef("patient", "Patient/ben"))
	if _, err := calls(t, s, "Appointment", "", "book", argRef("appointment-reference", "Appointment/"+held.Bundle.Entries[0].Version.ID)); codeOf(err) != "hold-expired" {
		t.Fatal(describe(err))
	}
}

func TestBook_series(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	node := `{"name":"appointment-resource","resource":{"resourceType":"Appointment","status":"booked","start":"2026-01-16T09:00:00Z","end":"2026-01-16T09:30:00Z","participant":[{"actor":{"reference":"Practitioner/doc"},"status":"accepted"}]}}`
	weekly := arg("timing", "valueTiming", `{"repeat":{"period":1,"periodUnit":"wk","count":3}}`)
	mustCreate(t, s, `{"resourceType":"Appointment","status":"booked","start":"2026-01-23T09:15:00Z","end":"2026-01-23T09:30:00Z","participant":[{"actor":{"reference":"Practitioner/doc"},"status":"accepted"},{"actor":{"reference":"Patient/ben"},"status":"accepted"}]}`)
	if _, err := calls(t, s, "Appointment", "", "book", node, weekly, argRef("patient", "Patient/ada")); codeOf(err) != "slot-taken" || count(t, s, "Appointment") != 1 {
		t.Fatal(describe(err))
	}
	got := mustCall(t, s, "Appointment", "", "book", node, weekly, argRef("patient", "Patient/ada"), arg("mode", "valueCode", `"best-effort"`))
	if len(got.Bundle.Entries) != 3 || *got.Bundle.Total != 2 || got.Bundle.Entries[1].Mode != "outcome" {
		t.Fatalf("%d entries, total %d", len(got.Bundle.Entries), *got.Bundle.Total)
	}
}

func TestGenerate(t *testing.T) {
	t.Parallel()
	s, clock := clinic(t)
	clock.Set(time.Date(2026, 3, 20, 8, 0, 0, 0, time.UTC))
	rule := `{"url":"https://kiln.example/fhir/StructureDefinition/availability","extension":[{"url":"daysOfWeek","valueCode":"fri"},{"url":"daysOfWeek","valueCode":"mon"},{"url":"start","valueTime":"09:00:00"},{"url":"end","valueTime":"11:00:00"}]}`
	zone := `{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":"Europe/Vienna"}`
	put(t, s, `{"resourceType":"Schedule","id":"week","extension":[`+rule+`,`+zone+`],"actor":[{"reference":"Practitioner/doc"}]}`)
	days := []string{arg("from", "valueDate", `"2026-03-27"`), arg("to", "valueDate", `"2026-03-30"`)}
	numbers := func(r *Response) string {
		var list []string
		for p := range r.Resource.Get("parameter").Items() {
			if v := p.Get("valueInteger"); v != nil {
				list = append(list, p.GetText("name")+" "+v.Text)
			}
		}
		return strings.Join(list, ", ")
	}
	for _, c := range []struct{ dry, want string }{
		{"true", "created 8, kept 0, removed 0, conflicting 0"},
		{"false", "created 8, kept 0, removed 0, conflicting 0"},
		{"false", "created 0, kept 8, removed 0, conflicting 0"},
	} {
		if got := numbers(mustCall(t, s, "Schedule", "week", "generate", append(days, arg("dry-run", "valueBoolean", c.dry))...)); got != c.want {
			t.Fatalf("dry %s: %s", c.dry, got)
		}
	}
	// Friday is winter time, Monday summer time; both begin at nine by the clocks there.
	list := do(t, s, Request{Interaction: SearchType, Type: "Slot", Query: "schedule=Schedule/week&_sort=start&_count=100"}).Bundle.Entries
	var starts []string
	for _, e := range list {
		starts = append(starts, parse(t, string(e.Version.Content)).GetText("start")[:16])
	}
	if len(starts) != 8 || starts[0] != "2026-03-27T08:00" || starts[4] != "2026-03-30T07:00" {
		t.Fatalf("%v", starts)
	}
	mustCreate(t, s, booking("ada", parse(t, string(list[0].Version.Content)).ID()))
	put(t, s, `{"resourceType":"Schedule","id":"week","extension":[`+strings.Replace(rule, `{"url":"daysOfWeek","valueCode":"fri"},`, "", 1)+`,`+zone+`],"actor":[{"reference":"Practitioner/doc"}]}`)
	resp := mustCall(t, s, "Schedule", "week", "generate", days...)
	if got := numbers(resp); got != "created 0, kept 4, removed 3, conflicting 0" || !strings.Contains(string(resp.Resource.JSON()), `"outside"`) {
		t.Fatalf("%s", resp.Resource.JSON())
	}
}

func TestBlock_lists_what_lies_in_it(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	v := mustCreate(t, s, booking("ada", "s9"))
	time := []string{arg("start", "valueDateTime", `"2026-01-16T08:00:00Z"`), arg("end", "valueDateTime", `"2026-01-16T11:00:00Z"`)}
	if _, err := calls(t, s, "Schedule", "cal", "block", time...); fhir.KindOf(err) != fhir.Conflict {
		t.Fatal(describe(err))
	}
	resp := mustCall(t, s, "Schedule", "cal", "block", append(time, arg("resolve", "valueCode", `"list"`), arg("reason", "valueString", `"Leave"`))...)
	if text := string(resp.Resource.JSON()); !strings.Contains(text, "Appointment/"+v.ID) {
		t.Fatal(text)
	}
	if a, b, c := status(t, s, "Slot", "s9"), status(t, s, "Slot", "s10"), status(t, s, "Slot", "s11"); a != "busy" || b != "busy-unavailable" || c != "free" {
		t.Fatal(a, b, c)
	}
	// What is cancelled is closed too.
	mustCall(t, s, "Appointment", v.ID, "cancel", arg("reason", "valueCodeableConcept", `{"text":"x"}`))
	if got := status(t, s, "Slot", "s9"); got != "busy-unavailable" {
		t.Fatal(got)
	}
	if _, err := create(s, t, booking("ben", "s9")); codeOf(err) != "slot-taken" {
		t.Fatal(describe(err))
	}
}

func TestResponse_approves_declines_and_proposes_another_time(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	ask := func(slot string) string {
		return mustCreate(t, s, strings.Replace(booking("ada", slot), `"booked"`, `"pending"`, 1)).ID
	}
	answer := func(id, actor, say, more string) error {
		_, err := create(s, t, fmt.Sprintf(`{"resourceType":"AppointmentResponse","appointment":{"reference":"Appointment/%s"},"actor":{"reference":%q},"participantStatus":%q%s}`, id, actor, say, more))
		return err
	}
	id := ask("s9")
	if got := status(t, s, "Slot", "s9"); got != "busy-tentative" {
		t.Fatal(got)
	}
	if err := answer(id, "Practitioner/doc", "accepted", ""); err != nil || status(t, s, "Appointment", id) != "booked" || status(t, s, "Slot", "s9") != "busy" {
		t.Fatal(describe(err), status(t, s, "Appointment", id))
	}
	if found := do(t, s, Request{Interaction: SearchType, Type: "Provenance", Query: "target=Appointment/" + id}).Bundle.Entries; len(found) != 1 ||
		!strings.Contains(string(found[0].Version.Content), "AppointmentResponse/") {
		t.Fatalf("%d Provenances", len(found))
	}
	id = ask("s10")
	if err := answer(id, "Practitioner/doc", "declined", ""); codeOf(err) != "reason-required" {
		t.Fatal(describe(err))
	}
	if err := answer(id, "Practitioner/doc", "declined", `,"comment":"On leave"`); err != nil || status(t, s, "Appointment", id) != "cancelled" || status(t, s, "Slot", "s10") != "free" {
		t.Fatal(describe(err))
	}
	if err := answer(id, "Practitioner/doc", "accepted", ""); codeOf(err) != "illegal-transition" {
		t.Fatal(describe(err))
	}
	id = ask("s10")
	if err := answer(id, "Practitioner/doc", "tentative", `,"start":"2026-01-16T11:00:00Z","end":"2026-01-16T11:30:00Z"`); err != nil {
		t.Fatal(describe(err))
	}
	if a, b := status(t, s, "Slot", "s10"), status(t, s, "Slot", "s11"); a != "free" || b != "busy-tentative" {
		t.Fatal(a, b)
	}
	if err := answer(id, "Patient/ada", "accepted", ""); err != nil || status(t, s, "Appointment", id) != "booked" {
		t.Fatal(describe(err), string(read(t, s, "Appointment", id).JSON()))
	}
}

// agrees says that nothing in the database disagrees about who is busy when.
func agrees(t testing.TB, s *Service) {
	t.Helper()
	list, err := s.store.VerifySchedule(t.Context(), 20)
	if err != nil || len(list) > 0 {
		t.Fatalf("%v %v", list, err)
	}
}

// noDeadlock returns an option of clinic; what it notes, the end of the test looks at: who waited in a ring there, and was told by
// PostgreSQL. All who take time come in one order, so nobody does.
func noDeadlock(t testing.TB) func(*Options, *storage.Options) {
	return func(_ *Options, so *storage.Options) {
		url := so.URL
		t.Cleanup(func() {
			conn, err := pgx.Connect(background, url)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(background)
			n, others := 0, 1
			for tries := 0; others > 0 && err == nil; tries++ { // a session tells of its deadlocks when it ends
				if tries > 0 {
					time.Sleep(10 * time.Millisecond)
				}
				err = conn.QueryRow(background, `
SELECT deadlocks, (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.datid AND backend_type = 'client backend') - 1
FROM pg_stat_database d WHERE datname = current_database()`).Scan(&n, &others)
				if tries == 3000 {
					t.Fatal("the service has not let go of its connections")
				}
			}
			if err != nil || n > 0 {
				t.Errorf("%d deadlocks (%v)", n, err)
			}
		})
	}
}

func TestTidy_ends_holds_and_offers_their_time(t *testing.T) {
	t.Parallel()
	s, clock := clinic(t)
	put(t, s, `{"resourceType":"Slot","id":"s10","schedule":{"reference":"Schedule/cal"},"status":"busy-unavailable","start":"2026-01-16T10:00:00Z","end":"2026-01-16T10:30:00Z"}`)
	put(t, s, `{"resourceType":"Slot","id":"s11","schedule":{"reference":"Schedule/cal"},"status":"busy-unavailable","start":"2026-01-16T11:00:00Z","end":"2026-01-16T11:30:00Z"}`)
	held := mustCall(t, s, "Appointment", "", "hold", argRef("appointment-reference", "Appointment/"+find(t, s)[0].Version.ID), argRef("patient", "Patient/ada")).Bundle.Entries[0].Version.ID
	wait := mustCreate(t, s, `{"resourceType":"Appointment","status":"waitlist","requestedPeriod":[{"start":"2026-01-16","end":"2026-01-20"}],"participant":[{"actor":{"reference":"Patient/ben"},"status":"accepted"},{"actor":{"reference":"Practitioner/doc"},"status":"needs-action"}]}`).ID
	tidy := func() {
		t.Helper()
		if err := s.Tidy(t.Context()); err != nil {
			t.Fatal(describe(err))
		}
		agrees(t, s)
	}
	if tidy(); status(t, s, "Appointment", wait) != "waitlist" {
		t.Fatal("what is held was offered")
	}
	clock.Advance(11 * time.Minute)
	tidy()
	if got := status(t, s, "Appointment", held); got != "cancelled" {
		t.Fatalf("the hold is %s", got)
	}
	if got := status(t, s, "Appointment", wait); got != "pending" || status(t, s, "Slot", "s9") != "busy-tentative" {
		t.Fatalf("who waits is %s", got)
	}
	if _, err := create(s, t, booking("ada", "s9")); codeOf(err) != "slot-taken" {
		t.Fatalf("an offer does not protect: %s", describe(err))
	}
	mustCall(t, s, "Appointment", "", "book", argRef("appointment-reference", "Appointment/"+wait))
	if got := status(t, s, "Appointment", wait); got != "booked" {
		t.Fatal(got)
	}
	agrees(t, s)
}

func TestReschedule_that_needs_approval_keeps_the_old_time(t *testing.T) {
	t.Parallel()
	s, clock := clinic(t)
	put(t, s, `{"resourceType":"Schedule","id":"cal","extension":[{"url":"`+policyURL+`","extension":[{"url":"approval","valueCode":"practitioner"}]}],"actor":[{"reference":"Practitioner/doc"}]}`)
	clock.Set(clock.Now().Add(-48 * time.Hour))
	ada := patientApp("ada", "patient/*.cruds")
	ask := func(id, at string) error {
		body := parse(t, `{"resourceType":"Parameters","parameter":[`+arg("start", "valueDateTime", `"2026-01-16T`+at+`:00Z"`)+`]}`)
		_, err := s.Do(t.Context(), Request{Principal: ada, Interaction: Operate, Type: "Appointment", ID: id, Operation: "reschedule", Body: body})
		return err
	}
	answer := func(id, say string) {
		t.Helper()
		mustCreate(t, s, fmt.Sprintf(`{"resourceType":"AppointmentResponse","appointment":{"reference":"Appointment/%s"},"actor":{"reference":"Practitioner/doc"},"participantStatus":%q,"comment":"So"}`, id, say))
	}
	states := func(want string) {
		t.Helper()
		agrees(t, s)
		if got := status(t, s, "Slot", "s9") + " " + status(t, s, "Slot", "s10") + " " + status(t, s, "Slot", "s11"); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
	id := mustCreate(t, s, booking("ada", "s9")).ID
	if err := ask(id, "10:00"); err != nil {
		t.Fatal(describe(err))
	}
	if n := read(t, s, "Appointment", id); n.GetText("status") != "booked" || n.GetText("start") != "2026-01-16T09:00:00.000Z" || n.Get("extension") == nil {
		t.Fatalf("%s", n.JSON())
	}
	states("busy busy-unavailable free")
	if err := ask(id, "11:00"); codeOf(err) != "needs-approval" {
		t.Fatal(describe(err))
	}
	answer(id, "declined")
	states("busy free free")
	if err := ask(id, "10:00"); err != nil {
		t.Fatal(describe(err))
	}
	answer(id, "accepted")
	states("free busy free")
	if n := read(t, s, "Appointment", id); n.GetText("start") != "2026-01-16T10:00:00.000Z" || n.Get("extension") != nil {
		t.Fatalf("%s", n.JSON())
	}
	if err := ask(id, "11:00"); err != nil {
		t.Fatal(describe(err))
	}
	clock.Advance(25 * time.Hour)
	if err := s.Tidy(t.Context()); err != nil {
		t.Fatal(describe(err))
	}
	states("free busy free")
	if err := ask(id, "11:00"); codeOf(err) != "move-limit" {
		t.Fatal(describe(err))
	}
	mustCall(t, s, "Appointment", id, "cancel", arg("reason", "valueCodeableConcept", `{"text":"x"}`))
	states("free free free")
}

func TestCapacity_and_buffers(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	service := func(capacity int) string {
		return fmt.Sprintf(`{"resourceType":"HealthcareService","id":"group","extension":[{"url":%q,"extension":[{"url":"capacity","valuePositiveInt":%d},%s]}]}`, policyURL, capacity, minutes("buffer-after", 15))
	}
	put(t, s, service(2))
	put(t, s, `{"resourceType":"Schedule","id":"hall","actor":[{"reference":"Device/hall"},{"reference":"HealthcareService/group"}]}`)
	put(t, s, slotOf("g1", "hall", "13:00", "13:30", "free"))
	put(t, s, slotOf("g2", "hall", "13:30", "14:00", "free"))
	put(t, s, `{"resourceType":"Patient","id":"cleo"}`)
	mustCreate(t, s, booking("ada", "g1"))
	if got := status(t, s, "Slot", "g1"); got != "free" {
		t.Fatalf("with one place left the Slot is %s", got)
	}
	mustCreate(t, s, booking("ben", "g1"))
	if a, b := status(t, s, "Slot", "g1"), status(t, s, "Slot", "g2"); a != "busy" || b != "busy-unavailable" {
		t.Fatalf("full, the Slots are %s and %s: the buffer reaches into the second", a, b)
	}
	if _, err := create(s, t, booking("cleo", "g1")); codeOf(err) != "slot-taken" {
		t.Fatal(describe(err))
	}
	put(t, s, service(3)) // there is one more place now
	agrees(t, s)
	if got := status(t, s, "Slot", "g1"); got != "free" {
		t.Fatal(got)
	}
	mustCreate(t, s, booking("cleo", "g1"))
	put(t, s, service(1)) // what is booked stays booked
	agrees(t, s)
	if got := count(t, s, "Appointment"); got != 3 {
		t.Fatal(got)
	}
	if _, err := s.Do(t.Context(), Request{Interaction: Delete, Type: "Schedule", ID: "hall"}); codeOf(err) != "schedule-in-use" {
		t.Fatal(describe(err))
	}
}
