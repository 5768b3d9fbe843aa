package resources

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln/internal/kilntest"
	"kiln/resources/message"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// postbox is a mail server that keeps what it is sent, or answers with fault.
type postbox struct {
	mu    sync.Mutex
	mails []Mail
	fault error
}

func (p *postbox) Send(_ context.Context, m Mail) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == nil {
		p.mails = append(p.mails, m)
	}
	return p.fault
}

func (p *postbox) take() []Mail {
	p.mu.Lock()
	defer p.mu.Unlock()
	mails := p.mails
	p.mails = nil
	return mails
}

// office is a clinic that tells people of what happens, with a worker that the test drives.
type office struct {
	*Service
	t     *testing.T
	clock *kilntest.Clock
	box   *postbox
	done  map[int64]bool
}

func newOffice(t *testing.T, change ...func(*Messages)) *office {
	t.Helper()
	o := &office{t: t, box: &postbox{}, done: map[int64]bool{}}
	m := &Messages{Mailer: o.box}
	for _, c := range change {
		c(m)
	}
	o.Service, o.clock = clinic(t, func(o *Options, _ *storage.Options) { o.Messages = m })
	put(t, o.Service, `{"resourceType":"Patient","id":"ada","telecom":[{"system":"email","value":"ada@example.org"}]}`)
	put(t, o.Service, `{"resourceType":"Practitioner","id":"doc","telecom":[{"system":"email","value":"doc@example.org"}]}`)
	return o
}

// work does the jobs that are due, and those that they order, and returns what came of those that failed.
func (o *office) work() (failed []error) {
	o.t.Helper()
	for {
		var list []storage.JobRow
		for _, state := range []string{"scheduled", "available"} { // River's clock is not the test's
			some, err := o.store.Jobs(o.t.Context(), state, 1<<62, 1000)
			if err != nil {
				o.t.Fatal(err)
			}
			list = append(list, some...)
		}
		again := false
		for _, j := range slices.Backward(list) {
			if o.done[j.ID] || j.Job.Before > 0 && j.Next.After(o.clock.Now()) {
				continue
			}
			if err := o.DoJob(o.t.Context(), j.Job); err != nil {
				failed = append(failed, err)
				if _, dropped := errors.AsType[*storage.Dropped](err); !dropped {
					continue
				}
			}
			o.done[j.ID], again = true, true
		}
		if !again {
			return failed
		}
	}
}

// told does the work and says who was told what, in order of names.
func (o *office) told() string {
	o.t.Helper()
	o.work()
	var list []string
	for _, m := range o.box.take() {
		list = append(list, m.To+": "+m.Subject)
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

func (o *office) expect(want ...string) {
	o.t.Helper()
	slices.Sort(want)
	if got := o.told(); got != strings.Join(want, "\n") {
		o.t.Fatalf("told\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestMessages_every_step_of_the_table_is_told_or_left_out_on_purpose(t *testing.T) {
	t.Parallel()
	silent := []int{1, 2, 8, 12, 14, 15, 16, 19}
	for _, row := range scheduling.Table() {
		if (eventsOf[row.Row] != "") == slices.Contains(silent, row.Row) {
			t.Errorf("row %d: %s", row.Row, row.Effect)
		}
	}
}

func TestMessages_of_booking_moving_and_cancelling(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	id := mustCreate(t, o.Service, booking("ada", "s9")).ID
	o.expect("ada@example.org: Appointment booked", "doc@example.org: Appointment booked")
	mustCall(t, o.Service, "Appointment", id, "reschedule", arg("start", "valueDateTime", `"2026-01-16T10:00:00Z"`))
	o.expect("ada@example.org: Appointment moved", "doc@example.org: Appointment moved")
	mustCall(t, o.Service, "Appointment", id, "cancel", arg("reason", "valueCodeableConcept", `{"text":"Feels better"}`))
	o.expect("ada@example.org: Appointment cancelled", "doc@example.org: Appointment cancelled")
	o.expect()
}

func TestMessages_of_holds_nobody_is_told(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	free := find(t, o.Service, argRef("practitioner", "Practitioner/doc"))
	mustCall(t, o.Service, "Appointment", "", "hold", argRef("appointment-reference", "Appointment/"+free[0].Version.ID), argRef("patient", "Patient/ada"))
	o.clock.Advance(11 * time.Minute)
	if err := o.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.expect()
}

func TestMessages_nothing_is_sent_for_what_changed_meanwhile(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	id := mustCreate(t, o.Service, booking("ada", "s9")).ID
	mustCall(t, o.Service, "Appointment", id, "reschedule", arg("start", "valueDateTime", `"2026-01-16T10:00:00Z"`))
	mustCall(t, o.Service, "Appointment", id, "cancel", arg("reason", "valueCodeableConcept", `{"text":"Feels better"}`))
	o.expect("ada@example.org: Appointment cancelled", "doc@example.org: Appointment cancelled")
}

func TestMessages_an_import_tells_nobody(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	mustCreate(t, s, booking("ada", "s9"))
	if n, err := s.store.CountJobs(t.Context()); err != nil || len(n) != 0 {
		t.Fatal(n, err)
	}
}

func TestReminders_come_72_24_and_2_hours_ahead_and_follow_the_visit(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	put(t, o.Service, `{"resourceType":"Slot","id":"far","schedule":{"reference":"Schedule/cal"},"status":"free","start":"2026-01-20T09:00:00Z","end":"2026-01-20T09:30:00Z"}`)
	put(t, o.Service, `{"resourceType":"Slot","id":"later","schedule":{"reference":"Schedule/cal"},"status":"free","start":"2026-01-22T09:00:00Z","end":"2026-01-22T09:30:00Z"}`)
	id := mustCreate(t, o.Service, booking("ada", "far")).ID
	o.told()
	at := func(text string) {
		t.Helper()
		when, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		o.clock.Advance(when.Sub(o.clock.Now()))
	}
	at("2026-01-17T08:59:00Z")
	o.expect()
	at("2026-01-17T09:00:00Z")
	o.expect("ada@example.org: Reminder of an appointment")
	// A change that does not move the visit plans nothing anew.
	n := read(t, o.Service, "Appointment", id)
	if _, err := o.Do(t.Context(), Request{Interaction: Patch, Type: "Appointment", ID: id, IfMatch: n.At("meta").GetText("versionId"),
		JSONPatch: []byte(`[{"op":"add","path":"/comment","value":"brings papers"}]`)}); err != nil {
		t.Fatal(describe(err))
	}
	o.expect()
	mustCall(t, o.Service, "Appointment", id, "reschedule", arg("start", "valueDateTime", `"2026-01-22T09:00:00Z"`))
	o.expect("ada@example.org: Appointment moved", "doc@example.org: Appointment moved")
	at("2026-01-19T08:59:00Z") // the old reminder of 24 hours would have been due at nine
	o.expect()
	at("2026-01-19T09:01:00Z") // the new one of 72 hours
	o.expect("ada@example.org: Reminder of an appointment")
	at("2026-01-21T09:01:00Z")
	o.expect("ada@example.org: Reminder of an appointment")
	at("2026-01-22T07:01:00Z")
	o.expect("ada@example.org: Reminder of an appointment")
	o.expect()
}

func TestReminders_end_with_the_visit(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	id := mustCreate(t, o.Service, booking("ada", "s9")).ID // 23 hours ahead: the one of two hours alone
	o.told()
	mustCall(t, o.Service, "Appointment", id, "cancel", arg("reason", "valueCodeableConcept", `{"text":"Feels better"}`))
	o.told()
	o.clock.Advance(21*time.Hour + time.Minute)
	o.expect()
}

func TestReminders_of_a_visit_that_is_moved_there_and_back_come_once(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	id := mustCreate(t, o.Service, booking("ada", "s9")).ID
	for _, hour := range []string{"10", "09"} {
		o.told()
		mustCall(t, o.Service, "Appointment", id, "reschedule", arg("start", "valueDateTime", `"2026-01-16T`+hour+`:00:00Z"`))
	}
	o.told()
	o.clock.Advance(21*time.Hour + time.Minute)
	o.expect("ada@example.org: Reminder of an appointment")
}

func TestMessages_speak_the_patients_language_and_tell_the_zone_of_the_place(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	zoned := `"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":%q}]`
	put(t, o.Service, `{"resourceType":"Location","id":"room","name":"Room 1",`+fmt.Sprintf(zoned, "America/Santiago")+`}`)
	put(t, o.Service, `{"resourceType":"Practitioner","id":"doc"}`)
	put(t, o.Service, `{"resourceType":"Patient","id":"ada","telecom":[{"system":"email","value":"ada@example.org"}],`+fmt.Sprintf(zoned, "Europe/Berlin")+
		`,"communication":[{"language":{"coding":[{"code":"en"}]}},{"language":{"coding":[{"system":"urn:ietf:bcp:47","code":"de-CH"}]},"preferred":true}]}`)
	put(t, o.Service, `{"resourceType":"Patient","id":"ben","telecom":[{"system":"email","value":"ben@example.org"}],`+fmt.Sprintf(zoned, "America/Santiago")+`}`)
	mustCreate(t, o.Service, booking("ada", "s9"))
	mustCreate(t, o.Service, booking("ben", "s10"))
	o.work()
	got := map[string]Mail{}
	for _, m := range o.box.take() {
		got[m.To] = m
	}
	if m := got["ada@example.org"]; m.Language != "de" || !strings.Contains(m.Body, "Freitag, 16. Januar 2026, 06:00 Uhr (Zeit in America/Santiago)") {
		t.Errorf("%+v", m)
	}
	if m := got["ben@example.org"]; m.Language != "en" || !strings.Contains(m.Body, "Friday, 16 January 2026, 07:00.") {
		t.Errorf("%+v", m)
	}
}

func TestMessages_say_nothing_of_health(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	put(t, o.Service, `{"resourceType":"Practitioner","id":"doc","name":[{"family":"Freud"}],"telecom":[{"system":"email","value":"doc@example.org"}]}`)
	mustCreate(t, o.Service, `{"resourceType":"Appointment","status":"booked","slot":[{"reference":"Slot/s9"}],"description":"Chemotherapy",
		"serviceType":[{"text":"Oncology"}],"reasonCode":[{"text":"Tumour"}],"comment":"is afraid","participant":[{"actor":{"reference":"Patient/ada"},"status":"accepted"}]}`)
	o.work()
	for _, m := range o.box.take() {
		for _, word := range []string{"Chemotherapy", "Oncology", "Tumour", "afraid", "Freud", "Room 1", "ada"} {
			if strings.Contains(m.Subject+m.Body, word) {
				t.Errorf("%q tells %s", m.Body, word)
			}
		}
	}
}

func TestMessages_wait_in_quiet_hours_unless_the_visit_is_near(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(m *Messages) { m.Quiet = message.Quiet{From: 21 * time.Hour, Until: 7 * time.Hour} })
	o.clock.Advance(12 * time.Hour) // 22:00, the visit at nine is two hours after the quiet ends, the other later
	mustCreate(t, o.Service, booking("ada", "s10"))
	failed := o.work()
	if len(failed) == 0 || len(o.box.take()) != 0 {
		t.Fatal("sent at night")
	}
	later, ok := errors.AsType[*storage.Postponed](failed[0])
	if want := time.Date(2026, 1, 16, 7, 0, 0, 0, time.UTC); !ok || !later.Until.Equal(want) {
		t.Fatal(failed)
	}
	o.clock.Advance(9*time.Hour + time.Minute)
	o.expect("ada@example.org: Appointment booked", "doc@example.org: Appointment booked")
}

func TestMessages_who_has_opted_out_is_not_written_to(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	put(t, o.Service, `{"resourceType":"Patient","id":"ada","telecom":[{"system":"email","value":"ada@example.org"}],"extension":[{"url":"`+optOutExtension+`","valueCode":"reminder"}]}`)
	mustCreate(t, o.Service, booking("ada", "s9"))
	o.expect("ada@example.org: Appointment booked", "doc@example.org: Appointment booked")
	o.clock.Advance(21*time.Hour + time.Minute)
	o.expect()
	not := do(t, o.Service, Request{Interaction: SearchType, Type: "Communication", Query: "status=not-done&subject=Patient/ada"}).Bundle.Entries
	if len(not) != 1 {
		t.Fatalf("%d Communications say that it was not sent", len(not))
	}
}

func TestMessages_are_recorded_once_and_without_their_words(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	id := mustCreate(t, o.Service, booking("ada", "s9")).ID
	o.work()
	found := do(t, o.Service, Request{Interaction: SearchType, Type: "Communication", Query: "subject=Patient/ada&status=completed&_sort=recipient"}).Bundle.Entries
	if len(found) != 2 {
		t.Fatalf("%d Communications", len(found))
	}
	n := parse(t, string(found[0].Version.Content))
	if n.Get("payload") != nil || n.GetText("sent") == "" || !strings.Contains(string(n.JSON()), "Appointment/"+id) {
		t.Fatalf("%s", n.JSON())
	}
	// A server that dies after the note and before the job is done: nothing goes out again.
	o.done = map[int64]bool{}
	o.box.take()
	o.expect()
	if again := count(t, o.Service, "Communication"); again != 2 {
		t.Fatalf("%d Communications", again)
	}
}

func TestMessages_that_cannot_be_sent_keep_their_id_and_are_not_recorded_as_sent(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	mustCreate(t, o.Service, booking("ada", "s9"))
	o.box.fault = errors.New("the mail server is away")
	if failed := o.work(); len(failed) != 2 || count(t, o.Service, "Communication") != 0 {
		t.Fatal(failed)
	}
	o.box.fault = &Refused{"no such address"}
	o.work()
	if n := count(t, o.Service, "Communication"); n != 2 {
		t.Fatalf("%d Communications", n)
	}
	o.box.fault = nil
	o.expect()
	a := storage.Job{Task: taskSend, Subject: "Appointment/1", Version: 1, By: "Practitioner/1"}
	b := a
	b.By = ""
	if messageID(a) != messageID(b) {
		t.Error("the id depends on who did it")
	}
	if b.Version = 2; messageID(a) == messageID(b) {
		t.Error("two messages have one id")
	}
}

func TestMessages_reach_the_address_in_use(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 15, 10, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct{ telecom, want string }{
		"the_only_one":        {`{"system":"email","value":"a@x"}`, "a@x"},
		"not_a_phone":         {`{"system":"phone","value":"1"}`, ""},
		"not_an_old_one":      {`{"system":"email","value":"a@x","use":"old"},{"system":"email","value":"b@x"}`, "b@x"},
		"home_before_work":    {`{"system":"email","value":"w@x","use":"work"},{"system":"email","value":"h@x","use":"home"}`, "h@x"},
		"by_rank":             {`{"system":"email","value":"a@x","rank":2},{"system":"email","value":"b@x","rank":1}`, "b@x"},
		"not_before_its_time": {`{"system":"email","value":"a@x","period":{"start":"2027-01-01"}},{"system":"email","value":"b@x","period":{"end":"2026-01-15"}}`, "b@x"},
		"not_after_its_time":  {`{"system":"email","value":"a@x","period":{"end":"2026-01-14"}}`, ""},
	} {
		if got := emailOf(parse(t, `{"resourceType":"Patient","telecom":[`+c.telecom+`]}`), now); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestMessages_without_a_mail_server_are_kept_here(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(m *Messages) { m.Mailer = nil })
	mustCreate(t, o.Service, booking("ada", "s9"))
	mustCreate(t, o.Service, booking("ben", "s10")) // ben has no address
	o.work()
	kept, err := o.store.KeptMessages(t.Context(), 10)
	if err != nil || len(kept) != 4 {
		t.Fatalf("%d are kept: %v", len(kept), err)
	}
}

func TestMessages_of_a_final_report_go_to_a_patient_who_may_read_it(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	report := func(id, status, issued, more string) {
		put(t, o.Service, fmt.Sprintf(`{"resourceType":"DiagnosticReport","id":%q,"status":%q,"code":{"text":"x"},"subject":{"reference":"Patient/ada"},"issued":%q%s}`, id, status, issued, more))
	}
	report("a", "preliminary", "2026-01-15T09:00:00Z", "")
	o.expect()
	report("a", "final", "2026-01-15T09:00:00Z", "")
	o.expect("ada@example.org: A new result")
	report("old", "final", "2025-01-15T09:00:00Z", "")
	o.expect()
	report("retracted", "final", "2026-01-15T09:00:00Z", "")
	report("retracted", "entered-in-error", "2026-01-15T09:00:00Z", `,"extension":[{"url":"https://kiln.example/fhir/StructureDefinition/change-reason","valueString":"wrong patient"}]`)
	o.expect()
}

func TestMessages_of_coverage_come_once_for_each_time_of_a_visit(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	id := mustCreate(t, o.Service, booking("ada", "s9")).ID
	o.told()
	for range 2 {
		if err := o.store.Write(everything(t.Context()), func(tx *storage.Tx) error {
			return o.notifyOfCoverage(t.Context(), tx, "Appointment/"+id)
		}); err != nil {
			t.Fatal(err)
		}
	}
	o.expect("ada@example.org: Please look at the insurance for an appointment")
}

func TestMessages_nobody_writes_to_the_dead(t *testing.T) {
	t.Parallel()
	for text, gone := range map[string]bool{`"active":true`: false, `"active":false`: true, `"deceasedBoolean":true`: true, `"deceasedBoolean":false`: false,
		`"deceasedDateTime":"2026-01-01"`: true} {
		if p := readPerson(parse(t, `{"resourceType":"Patient",`+text+`}`), time.Now()); p.gone != gone {
			t.Errorf("%s: %v", text, p.gone)
		}
	}
}

func TestReminders_of_imported_visits_are_planned_once(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	told := o.options.Messages
	o.options.Messages = nil // as in an import
	mustCreate(t, o.Service, booking("ada", "s9"))
	o.options.Messages = told
	for range 2 {
		if err := o.PlanReminders(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	o.expect()
	o.clock.Advance(21*time.Hour + time.Minute)
	o.expect("ada@example.org: Reminder of an appointment")
	if err := o.PlanReminders(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.expect()
}

// TestMessages_nobodys_mailbox_is_flooded: who books and cancels without end is told of so much an hour and a day; what
// waits is told later if it is still so, and dropped if it is not.
func TestMessages_nobodys_mailbox_is_flooded(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(m *Messages) { m.Limit = storage.MessageLimit{Hour: 4, Day: 6} })
	put(t, o.Service, `{"resourceType":"Practitioner","id":"doc","telecom":[{"system":"email","value":"ADA@example.org"}]}`) // one mailbox
	round := func() (failed []error) {
		id := mustCreate(t, o.Service, booking("ada", "s9")).ID
		failed = o.work()
		mustCall(t, o.Service, "Appointment", id, "cancel", arg("reason", "valueCodeableConcept", `{"text":"x"}`))
		return append(failed, o.work()...)
	}
	var postponed *storage.Postponed
	for n := range 5 {
		failed := round()
		if n > 0 && (len(failed) == 0 || !errors.As(failed[0], &postponed)) {
			t.Fatalf("round %d: %v", n, failed)
		}
	}
	if mails := o.box.take(); len(mails) != 4 {
		t.Fatalf("%d within an hour", len(mails))
	}
	if left := postponed.Until.Sub(o.clock.Now()); left <= 0 || left > time.Hour {
		t.Errorf("it waits for %v", left)
	}
	o.clock.Advance(time.Hour + time.Minute)
	o.work()
	if mails := o.box.take(); len(mails) != 2 {
		t.Errorf("%d more within a day", len(mails))
	}
	o.clock.Advance(2 * time.Hour)
	o.work()
	if mails := o.box.take(); len(mails) != 0 {
		t.Errorf("%d beyond what a day allows", len(mails))
	}
	// Another address has room of its own, also for what waits.
	put(t, o.Service, `{"resourceType":"Practitioner","id":"doc","telecom":[{"system":"email","value":"doc@example.org"}]}`)
	mustCreate(t, o.Service, booking("ada", "s11"))
	cancelled := "doc@example.org: Appointment cancelled"
	o.expect("doc@example.org: Appointment booked", cancelled, cancelled, cancelled)
	// The patient learns of it as soon as there is room; of the visits that were cancelled there is nothing to tell any more.
	o.clock.Set(time.Date(2026, 1, 16, 10, 10, 0, 0, time.UTC))
	o.expect("ada@example.org: Appointment booked", "ada@example.org: Reminder of an appointment")
}
