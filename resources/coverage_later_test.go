package resources

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/coverage"
	"kiln/resources/scheduling"
	"kiln/storage"
)

func recheckAll(t testing.TB, s *Service) {
	t.Helper()
	if err := s.RecheckCoverage(t.Context()); err != nil {
		t.Fatal(describe(err))
	}
}

// tasksOf are the statuses of the Tasks about an appointment.
func tasksOf(t testing.TB, s *Service, appointment string) (list []*fhir.Node) {
	t.Helper()
	for _, e := range do(t, s, Request{Interaction: SearchType, Type: "Task", Query: "focus=Appointment/" + appointment}).Bundle.Entries {
		list = append(list, parse(t, string(e.Version.Content)))
	}
	return list
}

// A payer that does not answer in time makes a visit wait; when it answers, the visit is booked.
func TestPayer_that_is_slow_is_asked_again(t *testing.T) {
	t.Parallel()
	s, clock := insured(t, scheduling.CoverageStrict)
	cover(t, s, "c", "ada", "sandbox", "SLOW-1", "")
	v := mustCreate(t, s, insuredVisit("ada", "s9"))
	n := read(t, s, "Appointment", v.ID)
	answers := s.supports(n, "CoverageEligibilityResponse")
	if n.GetText("status") != "pending" || len(answers) != 1 || status(t, s, "Slot", "s9") == "free" {
		t.Fatalf("%s", n.JSON())
	}
	queued := keyOf(answers[0]).ID
	if got := read(t, s, "CoverageEligibilityResponse", queued).GetText("outcome"); got != "queued" {
		t.Fatalf("the outcome is %s", got)
	}
	if len(tasksOf(t, s, v.ID)) > 0 {
		t.Error("staff are bothered with a payer that is asked again anyway")
	}
	recheckAll(t, s) // not due yet
	if got := versions(t, s, "CoverageEligibilityResponse", queued); len(got) != 1 {
		t.Fatalf("versions %d", got)
	}
	clock.Advance(90 * time.Second)
	recheckAll(t, s)
	if got := versions(t, s, "CoverageEligibilityResponse", queued); len(got) != 2 {
		t.Fatalf("versions %d", got)
	}
	s.payers[coverage.AdapterSandbox] = answering{coverage.Sandbox{}, "OK-1"}
	clock.Advance(5 * time.Minute)
	recheckAll(t, s)
	if n := read(t, s, "Appointment", v.ID); n.GetText("status") != "booked" || read(t, s, "CoverageEligibilityResponse", queued).GetText("outcome") != "complete" || status(t, s, "Slot", "s9") != "busy" {
		t.Errorf("%s", n.JSON())
	}
	agrees(t, s)
}

// answering is the sandbox for a member that has another id by now.
type answering struct {
	coverage.Payer
	member string
}

func (a answering) Ask(ctx context.Context, q *coverage.Question) (*coverage.Answer, error) {
	for i := range q.Coverages {
		n := q.Coverages[i].Clone()
		n.Set("subscriberId", fhir.Str(a.member))
		q.Coverages[i] = &n
	}
	return a.Payer.Ask(ctx, q)
}

// A question is stored before the payer is asked: a server that dies meanwhile loses nothing.
func TestQuestion_survives_whoever_asked(t *testing.T) {
	t.Parallel()
	s, clock := insured(t, scheduling.CoverageStrict)
	cover(t, s, "c", "ada", "sandbox", "OK-1", "")
	draft := &coverage.Draft{Patient: "Patient/ada", Coverage: "Coverage/c", Insurer: new(reference("Organization/sandbox")), Date: "2026-01-16", Service: fhir.Obj()}
	name, err := s.putQuestion(everything(t.Context()), &unanswered{draft, 1}, true)
	if err != nil || name == "" {
		t.Fatal(describe(err))
	}
	recheckAll(t, s)
	if count(t, s, "CoverageEligibilityResponse") != 0 {
		t.Fatal("it is left to whoever asks")
	}
	clock.Advance(2 * time.Minute)
	recheckAll(t, s)
	if count(t, s, "CoverageEligibilityResponse") != 1 {
		t.Fatal("it is lost")
	}
}

// Staff who complete the Task settle the coverage: the visit is booked. Nobody else does.
func TestAuthorization_is_settled_by_staff(t *testing.T) {
	t.Parallel()
	for _, approval := range []string{"none", "practitioner"} {
		t.Run("approval_"+approval, func(t *testing.T) {
			t.Parallel()
			s, _ := insured(t, scheduling.CoverageStrict, func(_ *Options, so *storage.Options) { so.Unrestricted = false })
			setPolicy(t, s, scheduling.CoverageStrict, approval)
			cover(t, s, "c", "ada", "sandbox", "AUTH-1", "")
			ada := patientApp("ada", "patient/*.cruds")
			resp, err := s.Do(t.Context(), Request{Principal: ada, Interaction: Create, Type: "Appointment", Body: parse(t, insuredVisit("ada", "s9"))})
			if err != nil {
				t.Fatal(describe(err))
			}
			id := resp.Version.ID
			tasks := tasksOf(t, s, id)
			if status(t, s, "Appointment", id) != "pending" || len(tasks) != 1 || tasks[0].GetText("status") != "requested" || tasks[0].Get("for").GetText("reference") != "Patient/ada" {
				t.Fatalf("%s, %d Tasks", status(t, s, "Appointment", id), len(tasks))
			}
			if _, err := s.validate(t.Context(), nil, tasks[0]); err != nil {
				t.Error(describe(err))
			}
			if approval == "practitioner" {
				_, err := create(s, t, `{"resourceType":"AppointmentResponse","appointment":{"reference":"Appointment/`+id+`"},"actor":{"reference":"Practitioner/doc"},"participantStatus":"accepted"}`)
				if err != nil || status(t, s, "Appointment", id) != "pending" {
					t.Fatalf("%s: it is %s although its coverage is open", describe(err), status(t, s, "Appointment", id))
				}
			}
			complete := []byte(`[{"op":"replace","path":"/status","value":"completed"}]`)
			patch := func(who auth.Principal) error {
				_, err := s.Do(t.Context(), Request{Principal: who, Interaction: Patch, Type: "Task", ID: tasks[0].ID(), JSONPatch: complete})
				return err
			}
			if err := patch(ada); fhir.KindOf(err) != fhir.Forbidden || status(t, s, "Appointment", id) != "pending" {
				t.Fatal("the patient settles it: " + describe(err))
			}
			if err := patch(admin("user/*.cruds")); err != nil {
				t.Fatal(describe(err))
			}
			if got := status(t, s, "Appointment", id); got != "booked" {
				t.Errorf("it is %s", got)
			}
			agrees(t, s)
		})
	}
}

// What was in order and is not any more makes one Task and cancels nothing; when it is in order again, the Task is done.
func TestRecheck_on_coverage_change_and_before_the_visit(t *testing.T) {
	t.Parallel()
	s, clock := insured(t, scheduling.CoverageStrict)
	clock.Set(time.Date(2026, 1, 10, 10, 0, 0, 0, time.UTC))
	cover(t, s, "c", "ada", "sandbox", "OK-1", "")
	id := mustCreate(t, s, insuredVisit("ada", "s9")).ID
	troubled := func(when string, want ...string) {
		t.Helper()
		recheckAll(t, s)
		var got []string
		for _, n := range tasksOf(t, s, id) {
			got = append(got, n.GetText("status"))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) || status(t, s, "Appointment", id) != "booked" {
			t.Fatalf("%s: Tasks %q, want %q; the visit is %s", when, got, want, status(t, s, "Appointment", id))
		}
	}
	troubled("at first")
	cover(t, s, "c", "ada", "sandbox", "INACTIVE-1", "")
	troubled("changed", "requested")
	troubled("once more", "requested")
	cover(t, s, "c", "ada", "sandbox", "OK-1", "")
	troubled("changed back", "completed")
	s.payers[coverage.AdapterSandbox] = answering{coverage.Sandbox{}, "EXCLUDED-1"}
	clock.Set(time.Date(2026, 1, 13, 8, 0, 0, 0, time.UTC))
	troubled("73 hours before", "completed")
	clock.Advance(2 * time.Hour) // the answer is three days old, too
	troubled("72 hours before", "completed", "requested")
	do(t, s, Request{Interaction: Delete, Type: "Coverage", ID: "c"})
	put(t, s, `{"resourceType":"Coverage","id":"pay","status":"active","type":{"coding":[{"system":"`+coverage.SelfPaySystem+`","code":"pay"}]},"beneficiary":{"reference":"Patient/ada"},"payor":[{"reference":"Patient/ada"}]}`)
	troubled("deleted, and a promise to pay that nobody chose", "completed", "requested")
}

func TestRecheck_when_the_patient_arrives(t *testing.T) {
	t.Parallel()
	s, clock := insured(t, scheduling.CoverageWarn)
	cover(t, s, "c", "ada", "sandbox", "OK-1", "")
	id := mustCreate(t, s, insuredVisit("ada", "s9")).ID
	s.payers[coverage.AdapterSandbox] = answering{coverage.Sandbox{}, "INACTIVE-1"}
	clock.Set(time.Date(2026, 1, 16, 8, 50, 0, 0, time.UTC))
	recheckAll(t, s)
	put(t, s, `{"resourceType":"Coverage","id":"c","status":"active","beneficiary":{"reference":"Patient/ada"},"payor":[{"reference":"Organization/sandbox"}],"subscriberId":"OK-2"}`)
	if err := patchStatus(t, s, id, "arrived"); err != nil {
		t.Fatal(describe(err))
	}
	recheckAll(t, s)
	if n := len(tasksOf(t, s, id)); n != 1 || status(t, s, "Appointment", id) != "arrived" {
		t.Errorf("%d Tasks, it is %s", n, status(t, s, "Appointment", id))
	}
}

// A visit that is moved is looked at for its new day, and stays where it was when that fails.
func TestReschedule_looks_at_the_new_day(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict)
	cover(t, s, "old", "ada", "sandbox", "OK-1", `,"order":1,"period":{"end":"2026-01-16"}`)
	id := mustCreate(t, s, insuredVisit("ada", "s9")).ID
	move := arg("start", "valueDateTime", `"2026-01-17T09:00:00Z"`)
	if _, err := calls(t, s, "Appointment", id, "reschedule", move); codeOf(err) != string(coverage.Period) {
		t.Fatal(describe(err))
	}
	if n := read(t, s, "Appointment", id); !strings.HasPrefix(n.GetText("start"), "2026-01-16T09:00:00") || n.GetText("status") != "booked" {
		t.Errorf("%s", n.JSON())
	}
	cover(t, s, "next", "ada", "sandbox", "OK-2", `,"order":2,"period":{"start":"2026-01-17"}`)
	mustCall(t, s, "Appointment", id, "reschedule", move)
	if got := s.supports(read(t, s, "Appointment", id), "Coverage"); !slices.Equal(got, []string{"Coverage/next"}) {
		t.Errorf("it is paid by %q", got)
	}
	agrees(t, s)
}

// The date of a visit is the one that clocks of the place show.
func TestCoverage_date_is_local(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict)
	put(t, s, `{"resourceType":"Location","id":"room","name":"Room 1","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":"Pacific/Auckland"}]}`)
	cover(t, s, "c", "ada", "sandbox", "OK-1", `,"period":{"end":"2026-01-16"}`)
	late := strings.NewReplacer("Slot/s9", "Slot/late", "T09:00", "T11:00", "T09:30", "T11:30").Replace(insuredVisit("ada", "s9"))
	put(t, s, `{"resourceType":"Slot","id":"late","schedule":{"reference":"Schedule/cal"},"status":"free","start":"2026-01-16T11:00:00Z","end":"2026-01-16T11:30:00Z"}`)
	if _, err := create(s, t, late); codeOf(err) != string(coverage.Period) { // it is the 17th there
		t.Fatal(describe(err))
	}
	mustCreate(t, s, insuredVisit("ada", "s9"))
}

func TestStaff_override_with_a_reason(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict)
	node := `{"name":"appointment-resource","resource":` + insuredVisit("ada", "s9") + `}`
	resp := mustCall(t, s, "Appointment", "", "book", node, arg("override-reason", "valueString", `"An emergency"`))
	if got := codesOf(resp.Bundle.Issues); !slices.Contains(got, string(coverage.Missing)) || status(t, s, "Appointment", resp.Bundle.Entries[0].Version.ID) != "booked" {
		t.Errorf("%q", got)
	}
}

// A bundle that brings the coverage with the visit cannot have it looked at before: that comes right after.
func TestTransaction_with_its_own_coverage(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict)
	list := post(t, s, transactionOf(
		entryOf("", "PUT", "Coverage/c", `{"resourceType":"Coverage","id":"c","status":"active","beneficiary":{"reference":"Patient/ada"},"payor":[{"reference":"Organization/sandbox"}],"subscriberId":"OK-1"}`),
		entryOf("", "POST", "Appointment", insuredVisit("ada", "s9"))))
	id := list[1].Response.Version.ID
	if got := status(t, s, "Appointment", id); got != "pending" {
		t.Fatalf("it is %s", got)
	}
	recheckAll(t, s)
	if got := status(t, s, "Appointment", id); got != "booked" {
		t.Errorf("it is %s", got)
	}
}

func TestIdempotent_booking_asks_once(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict)
	cover(t, s, "c", "ada", "sandbox", "OK-1", "")
	var ids []string
	for range 2 {
		body := parse(t, `{"resourceType":"Parameters","parameter":[{"name":"appointment-resource","resource":`+insuredVisit("ada", "s9")+`}]}`)
		resp := do(t, s, Request{Interaction: Operate, Type: "Appointment", Operation: "book", Body: body, IdempotencyKey: "k"})
		ids = append(ids, resp.Bundle.Entries[0].Version.ID)
	}
	if ids[0] != ids[1] || count(t, s, "CoverageEligibilityRequest") != 1 {
		t.Errorf("%q, %d requests", ids, count(t, s, "CoverageEligibilityRequest"))
	}
}

// submit calls $submit as somebody.
func submit(t testing.TB, s *Service, who auth.Principal, resource string) (*Response, error) {
	t.Helper()
	return s.Do(t.Context(), Request{Principal: who, Interaction: Operate, Type: "CoverageEligibilityRequest", Operation: "submit", Body: parse(t, resource)})
}

func eligibility(patient, coverages, more string) string {
	insurance := ""
	if coverages != "" {
		insurance = fmt.Sprintf(`,"insurance":[{"coverage":{"reference":"Coverage/%s"}}]`, coverages)
	}
	return fmt.Sprintf(`{"resourceType":"CoverageEligibilityRequest","status":"active","purpose":["validation","benefits","auth-requirements"],"patient":{"reference":"Patient/%s"},"servicedDate":"2026-01-16","created":"2026-01-15","insurer":{"reference":"Organization/sandbox"},
		"item":[{"category":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/ex-benefitcategory","code":"1"}]}},{"productOrService":{"text":"x"}}]%s%s}`, patient, insurance, more)
}

func TestSubmit(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict, func(_ *Options, so *storage.Options) { so.Unrestricted = false })
	cover(t, s, "adas", "ada", "sandbox", "AUTH-1", "")
	cover(t, s, "slow", "ada", "sandbox", "SLOW-1", "")
	cover(t, s, "bens", "ben", "sandbox", "OK-1", "")
	ada := patientApp("ada", "patient/*.cruds")
	for name, c := range map[string]struct{ coverage, outcome, says string }{
		"complete": {"adas", "complete", `"authorizationRequired": true`},
		"queued":   {"slow", "queued", ``},
	} {
		resp, err := submit(t, s, ada, eligibility("ada", c.coverage, ""))
		if err != nil {
			t.Fatalf("%s: %s", name, describe(err))
		}
		n := parse(t, string(resp.Version.Content))
		if n.ResourceType() != "CoverageEligibilityResponse" || n.GetText("outcome") != c.outcome || !strings.Contains(string(resp.Version.Content), c.says) {
			t.Errorf("%s: %s", name, n.JSON())
		}
		if _, err := s.validate(t.Context(), nil, n); err != nil {
			t.Errorf("%s: %s", name, describe(err))
		}
	}
	resp, err := submit(t, s, ada, `{"resourceType":"Bundle","type":"collection","entry":[{"resource":`+eligibility("ada", "adas", "")+`},{"resource":`+eligibility("ada", "slow", "")+`}]}`)
	if err != nil || len(resp.Bundle.Entries) != 2 {
		t.Fatal(describe(err))
	}
	discovery := strings.Replace(eligibility("ada", "", ""), `"validation","benefits","auth-requirements"`, `"discovery"`, 1)
	put(t, s, `{"resourceType":"Coverage","id":"slow","status":"cancelled","beneficiary":{"reference":"Patient/ada"},"payor":[{"reference":"Organization/sandbox"}]}`)
	resp, err = submit(t, s, ada, discovery)
	if err != nil || !strings.Contains(string(resp.Version.Content), "Coverage/adas") {
		t.Fatal(describe(err))
	}
	// A plain POST is answered too.
	posted, err := s.Do(t.Context(), Request{Principal: ada, Interaction: Create, Type: "CoverageEligibilityRequest", Body: parse(t, eligibility("ada", "adas", ""))})
	if err != nil {
		t.Fatal(describe(err))
	}
	found, err := s.Do(t.Context(), Request{Principal: ada, Interaction: SearchType, Type: "CoverageEligibilityResponse", Query: "request=CoverageEligibilityRequest/" + posted.Version.ID})
	if err != nil || len(found.Bundle.Entries) != 1 {
		t.Fatalf("%s %+v", describe(err), found)
	}
	for name, c := range map[string]struct {
		err  error
		want fhir.Kind
	}{
		"coverage_of_another":    {tried(submit(t, s, ada, eligibility("ada", "bens", ""))), fhir.NotFound},
		"coverage_of_nobody":     {tried(submit(t, s, ada, eligibility("ada", "none", ""))), fhir.NotFound},
		"another_patient":        {tried(submit(t, s, ada, eligibility("ben", "bens", ""))), fhir.Forbidden},
		"mismatch_seen_by_admin": {tried(submit(t, s, admin("user/*.cruds"), eligibility("ada", "bens", ""))), fhir.BusinessRule},
		"doctor_may_not":         {tried(submit(t, s, doctor("doc", "user/*.cruds"), eligibility("ada", "adas", ""))), fhir.Forbidden},
		"scope_without_create":   {tried(submit(t, s, patientApp("ada", "patient/*.rs"), eligibility("ada", "adas", ""))), fhir.Forbidden},
		"scope_without_response": {tried(submit(t, s, patientApp("ada", "patient/CoverageEligibilityRequest.c patient/Coverage.r patient/Patient.r"), eligibility("ada", "adas", ""))), fhir.Forbidden},
		"not_the_payor":          {tried(submit(t, s, ada, strings.Replace(eligibility("ada", "adas", ""), "Organization/sandbox", "Organization/local", 1))), fhir.BusinessRule},
		"draft":                  {tried(submit(t, s, ada, strings.Replace(eligibility("ada", "adas", ""), `"active"`, `"draft"`, 1))), fhir.BusinessRule},
		"another_type":           {tried(submit(t, s, ada, `{"resourceType":"Patient"}`)), fhir.Invalid},
		"bundle_of_others":       {tried(submit(t, s, ada, `{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient"}}]}`)), fhir.Invalid},
		"too_many":               {tried(submit(t, s, ada, `{"resourceType":"Bundle","type":"collection","entry":[`+strings.Repeat(`{},`, 20)+`{}]}`)), fhir.TooCostly},
	} {
		if c.err == nil || fhir.KindOf(c.err) != c.want {
			t.Errorf("%s: %s, want kind %d", name, describe(c.err), c.want)
		}
	}
	// Neither questions nor answers of one patient show to another, and the tables behind show to nobody.
	for _, typ := range []string{"CoverageEligibilityRequest", "CoverageEligibilityResponse", "Coverage", "Task"} {
		resp, err := s.Do(t.Context(), Request{Principal: patientApp("ben", "patient/*.rs"), Interaction: SearchType, Type: typ})
		if err != nil || strings.Contains(fmt.Sprint(resp.Bundle.Entries), "ada") || typ != "Coverage" && *resp.Bundle.Total > 0 {
			t.Errorf("%s: %s %+v", typ, describe(err), resp)
		}
	}
}

func tried(_ *Response, err error) error { return err }

// What a caller may not see pays for nothing, and does not show by how it is refused.
func TestCoverage_of_another_patient_is_as_none(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict, func(_ *Options, so *storage.Options) { so.Unrestricted = false })
	cover(t, s, "bens", "ben", "sandbox", "OK-1", "")
	ada := patientApp("ada", "patient/*.cruds")
	book := func(name string) error {
		body := parse(t, `{"resourceType":"Parameters","parameter":[{"name":"appointment-resource","resource":`+insuredVisit("ada", "s9")+`},`+argRef("coverage", "Coverage/"+name)+`]}`)
		_, err := s.Do(t.Context(), Request{Principal: ada, Interaction: Operate, Type: "Appointment", Operation: "book", Body: body})
		return err
	}
	plain := func(name string) error {
		_, err := s.Do(t.Context(), Request{Principal: ada, Interaction: Create, Type: "Appointment", Body: parse(t, insuredVisit("ada", "s9", name))})
		return err
	}
	same := func(a, b error) bool {
		return describe(a) == strings.ReplaceAll(describe(b), "nobodys", "bens") && a != nil
	}
	if a, b := book("bens"), book("nobodys"); !same(a, b) || fhir.KindOf(a) != fhir.NotFound {
		t.Errorf("$book: %s, and %s", describe(a), describe(b))
	}
	if a, b := plain("bens"), plain("nobodys"); !same(a, b) || codeOf(a) != "unknown-coverage" {
		t.Errorf("POST: %s, and %s", describe(a), describe(b))
	}
	agrees(t, s)
}

// Whoever books, the server looks for all coverages of the patient, those too that the caller's token does not let it search for.
func TestGate_sees_what_the_caller_does_not(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict, func(_ *Options, so *storage.Options) { so.Unrestricted = false })
	cover(t, s, "c", "ada", "sandbox", "OK-1", "")
	narrow := patientApp("ada", "patient/Appointment.cruds")
	resp, err := s.Do(t.Context(), Request{Principal: narrow, Interaction: Create, Type: "Appointment", Body: parse(t, insuredVisit("ada", "s9"))})
	if err != nil || len(resp.Issues) > 0 {
		t.Fatal(describe(err))
	}
	put(t, s, plan(1, ""))
	cover(t, s, "l", "ben", "local", "1", "")
	narrow = patientApp("ben", "patient/Appointment.cruds")
	for i, slot := range []string{"s10", "s11"} {
		_, err = s.Do(t.Context(), Request{Principal: narrow, Interaction: Create, Type: "Appointment", Body: parse(t, insuredVisit("ben", slot))})
		if i == 0 && err != nil || i == 1 && codeOf(err) != string(coverage.Exhausted) {
			t.Fatal(describe(err))
		}
	}
}

// A visit keeps a coverage that whoever moves it is not shown, and nothing tells whether that pays, or is there at all; the
// server looks afterwards. Who would book with one that they are not shown is told that there is none.
func TestLeak_coverage_of_a_visit_that_the_caller_is_not_shown(t *testing.T) {
	t.Parallel()
	for _, gone := range []bool{false, true} {
		t.Run(fmt.Sprint("gone_", gone), func(t *testing.T) {
			s, _ := insured(t, scheduling.CoverageStrict, func(_ *Options, so *storage.Options) { so.Unrestricted = false })
			const secret = `,"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"V"}]}`
			cover(t, s, "hidden", "ada", "sandbox", "OK-1", secret+`,"period":{"end":"2026-01-16"}`)
			id := mustCreate(t, s, insuredVisit("ada", "s9", "hidden")).ID
			offered := mustCreate(t, s, strings.Replace(insuredVisit("ada", "s10", "hidden"), `"booked"`, `"proposed"`, 1)).ID
			cover(t, s, "shown", "ada", "sandbox", "OK-2", "")
			if gone {
				if _, err := s.Do(t.Context(), Request{Principal: auth.Operator("test"), Interaction: Delete, Type: "Coverage", ID: "hidden"}); err != nil {
					t.Fatal(describe(err))
				}
			}
			root := admin("user/*.cruds")
			body := parse(t, `{"resourceType":"Parameters","parameter":[`+arg("start", "valueDateTime", `"2026-01-17T09:00:00Z"`)+`]}`)
			resp, err := s.Do(t.Context(), Request{Principal: root, Interaction: Operate, Type: "Appointment", ID: id, Operation: "reschedule", Body: body})
			if err != nil || len(resp.Issues) > 0 {
				t.Fatalf("%s %v", describe(err), resp)
			}
			if got := s.supports(read(t, s, "Appointment", id), "Coverage"); !slices.Equal(got, []string{"Coverage/hidden"}) {
				t.Errorf("it is paid by %q", got)
			}
			if _, err := s.Do(t.Context(), Request{Principal: root, Interaction: Patch, Type: "Appointment", ID: offered,
				JSONPatch: []byte(`[{"op":"replace","path":"/status","value":"booked"}]`)}); codeOf(err) != "unknown-coverage" {
				t.Errorf("what was offered: %s", describe(err))
			}
			recheckAll(t, s)
			if got := s.supports(read(t, s, "Appointment", id), "Coverage"); !slices.Equal(got, []string{"Coverage/shown"}) {
				t.Errorf("in the end it is paid by %q", got)
			}
		})
	}
}

// Each visit of a series is looked at, and takes from the benefit what the one before has left.
func TestSeries_takes_from_one_benefit(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict)
	put(t, s, plan(2, ""))
	cover(t, s, "c", "ada", "local", "1", "")
	series := func(count int, mode string) (*Response, error) {
		node := strings.Replace(insuredVisit("ada", "s9"), `"slot":[{"reference":"Slot/s9"}],`, "", 1)
		node = strings.Replace(node, `"participant":[`, `"participant":[{"actor":{"reference":"Practitioner/doc"},"status":"accepted"},`, 1)
		return calls(t, s, "Appointment", "", "book", `{"name":"appointment-resource","resource":`+node+`}`, arg("mode", "valueCode", `"`+mode+`"`),
			arg("timing", "valueTiming", fmt.Sprintf(`{"repeat":{"period":1,"periodUnit":"wk","count":%d}}`, count)))
	}
	if _, err := series(3, "all-or-nothing"); codeOf(err) != string(coverage.Exhausted) || !strings.Contains(err.Error(), "Visit 3") || count(t, s, "Appointment") != 0 {
		t.Fatal(describe(err))
	}
	resp, err := series(3, "best-effort")
	if err != nil || *resp.Bundle.Total != 2 || len(resp.Bundle.Entries) != 3 {
		t.Fatal(describe(err))
	}
}

// The Appointment of a transaction that is refused says why at its entry, and nothing of the Bundle stays.
func TestTransaction_is_refused_as_a_whole(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict)
	cover(t, s, "c", "ada", "sandbox", "EXCLUDED-1", "")
	_, err := s.Do(t.Context(), Request{Interaction: Transaction, Body: parse(t, transactionOf(
		entryOf("", "PUT", "Basic/b", `{"resourceType":"Basic","id":"b","code":{"text":"x"}}`), entryOf("", "POST", "Appointment", insuredVisit("ada", "s9"))))})
	if codeOf(err) != string(coverage.Excluded) || !strings.Contains(describe(err), "Bundle.entry[1]") || count(t, s, "Basic") != 0 || status(t, s, "Slot", "s9") != "free" {
		t.Fatal(describe(err))
	}
}

// People are told that a visit is booked when its coverage is settled, not before; and when an insurance no longer holds.
func TestMessages_about_coverage(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	put(t, o.Service, fmt.Sprintf(`{"resourceType":"Organization","id":"sandbox","name":"Payer","extension":[{"url":%q,"valueCode":"sandbox"}]}`, coverage.ExtensionPayerAdapter))
	setPolicy(t, o.Service, scheduling.CoverageStrict, "none")
	cover(t, o.Service, "c", "ada", "sandbox", "AUTH-1", "")
	id := mustCreate(t, o.Service, insuredVisit("ada", "s9")).ID
	if got := o.told(); got != "" {
		t.Fatalf("told before it is booked: %s", got)
	}
	task := tasksOf(t, o.Service, id)[0]
	do(t, o.Service, Request{Interaction: Patch, Type: "Task", ID: task.ID(), JSONPatch: []byte(`[{"op":"replace","path":"/status","value":"completed"}]`)})
	if got := o.told(); !strings.Contains(got, "ada@example.org") || !strings.Contains(got, "doc@example.org") {
		t.Fatalf("told when it is booked: %q", got)
	}
	cover(t, o.Service, "c", "ada", "sandbox", "INACTIVE-1", "")
	recheckAll(t, o.Service)
	if got := o.told(); !strings.Contains(got, "ada@example.org") || strings.Contains(got, "doc@") {
		t.Fatalf("told when the insurance ends: %q", got)
	}
	recheckAll(t, o.Service)
	if got := o.told(); got != "" {
		t.Errorf("told again: %s", got)
	}
}

// Where the payer of the first coverage says no, the next one is asked in the same booking: nobody waits for a payer that answers.
func TestPayer_of_the_next_coverage_is_asked_at_once(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict, func(o *Options, _ *storage.Options) { o.PayerTimeout = 10 * time.Second })
	for i, member := range []string{"INACTIVE-1", "EXCLUDED-1", "EXHAUSTED-1", "OK-1"} {
		cover(t, s, fmt.Sprint("c", i), "ada", "sandbox", member, fmt.Sprintf(`,"order":%d`, i+1))
	}
	v := mustCreate(t, s, insuredVisit("ada", "s9"))
	if n := read(t, s, "Appointment", v.ID); n.GetText("status") != "booked" || !slices.Equal(s.supports(n, "Coverage"), []string{"Coverage/c3"}) {
		t.Errorf("%s", n.JSON())
	}
	if n := count(t, s, "CoverageEligibilityRequest"); n != 4 {
		t.Errorf("%d questions", n)
	}
	// An insurer does not hear of what another one pays for.
	cover(t, s, "first", "ben", "sandbox", "OK-1", `,"order":1`)
	cover(t, s, "second", "ben", "sandbox", "OK-2", `,"order":2`)
	mustCreate(t, s, insuredVisit("ben", "s10"))
	if n := count(t, s, "CoverageEligibilityRequest"); n != 5 {
		t.Errorf("%d questions", n)
	}
}

// The sandbox answers by the member id also where nothing is known of the service.
func TestSandbox_without_a_service(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict)
	for member, want := range map[string]string{"AUTH-1": "pending", "EXCLUDED-1": "service-excluded", "EXHAUSTED-1": "benefit-exhausted", "OK-1": "booked", "CRD-AUTH-1": "pending"} {
		cover(t, s, "c", "ada", "sandbox", member, "")
		resp, err := create(s, t, strings.Replace(insuredVisit("ada", "s9"), `"serviceType":[{"coding":[{"system":"urn:service","code":"check-up"}]}],`, "", 1))
		got := ""
		if e, ok := err.(*fhir.Error); ok {
			got = e.Issues[0].Detail
		} else if err == nil {
			got = parse(t, string(resp.Version.Content)).GetText("status")
			if err := patchStatus(t, s, resp.Version.ID, "cancelled"); err != nil {
				t.Fatal(describe(err))
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", member, got, want)
		}
	}
}
