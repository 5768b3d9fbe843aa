package resources

import (
	"strings"
	"testing"

	"kiln/auth"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// TestAppointment_in_error_is_hidden_from_default_lists is the last effect of row 18 of the transition table.
func TestAppointment_in_error_is_hidden_from_default_lists(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	keep, wrong := mustCreate(t, s, booking("ada", "s9")).ID, mustCreate(t, s, booking("ada", "s10")).ID
	do(t, s, Request{Interaction: Patch, Type: "Appointment", ID: wrong, IfMatch: "1",
		JSONPatch: []byte(`[{"op":"replace","path":"/status","value":"entered-in-error"},{"op":"add","path":"/comment","value":"the wrong patient"}]`)})
	list := func(r Request) (ids string, self string) {
		t.Helper()
		r.Type = "Appointment"
		if r.Interaction == "" {
			r.Interaction = SearchType
		}
		bundle := do(t, s, r).Bundle
		var found []string
		for _, e := range bundle.Entries {
			found = append(found, e.Version.ID)
		}
		return strings.Join(found, " "), bundle.Links[0].URL
	}
	for query, want := range map[string]string{
		"": keep, "patient=Patient/ada": keep, "date=ge2026-01-01&_sort=date": keep, "_count=1&_total=accurate": keep, "slot=Slot/s10": "",
		"status=entered-in-error": wrong, "status:not=cancelled&_sort=date": keep + " " + wrong, "_id=" + wrong: wrong,
		"_lastUpdated=ge2000-01-01&_sort=date": keep + " " + wrong, "_filter=status+eq+entered-in-error": wrong,
	} {
		got, self := list(Request{Query: query})
		if got != want {
			t.Errorf("%q finds %q, want %q", query, got, want)
		}
		if hides := !strings.Contains(query, "status") && !strings.Contains(query, "_id") && !strings.Contains(query, "_last"); strings.Contains(self, "status:not=entered-in-error") != hides {
			t.Errorf("%q: the self link is %s", query, self)
		}
	}
	for _, query := range []string{"status=", "_filter=status", "_lastUpdated=yesterday"} { // what is ignored says nothing of it
		if got, self := list(Request{Query: query, Lenient: true}); got != keep || self != "Appointment?status:not=entered-in-error" {
			t.Errorf("%q finds %q, want %q; the self link is %s", query, got, keep, self)
		}
	}
	if got, _ := list(Request{Compartment: "Patient", CompartmentID: "ada", Query: "_sort=date"}); got != keep {
		t.Errorf("in the compartment: %q", got)
	}
	if got, _ := list(Request{Principal: patientApp("ada", "patient/*.cruds"), Query: "patient=Patient/ada"}); got != keep {
		t.Errorf("the patient finds %q", got)
	}
	if n := read(t, s, "Appointment", wrong); n.GetText("status") != "entered-in-error" || len(versions(t, s, "Appointment", wrong)) != 2 {
		t.Errorf("%s", n.JSON())
	}
}

// TestAppointment_awaiting is the inbox of approvals: those whom this actor has to answer, whoever else has.
func TestAppointment_awaiting(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false })
	setPolicy(t, s, scheduling.CoverageOff, "practitioner")
	put(t, s, `{"resourceType":"Patient","id":"ada","generalPractitioner":[{"reference":"Practitioner/doc"}]}`) // in care, by the database's clock too
	ada, doc := patientApp("ada", "patient/*.cruds"), doctor("doc", "user/*.cruds")
	book := func(name, slot string) string {
		t.Helper()
		body := parse(t, `{"resourceType":"Parameters","parameter":[{"name":"appointment-resource","resource":`+booking("ada", slot)+`}]}`)
		return do(t, s, Request{Principal: ada, Interaction: Operate, Type: "Appointment", Operation: name, Body: body}).Bundle.Entries[0].Version.ID
	}
	inbox := func(p auth.Principal, query string) string {
		t.Helper()
		var ids []string
		for _, e := range do(t, s, Request{Principal: p, Interaction: SearchType, Type: "Appointment", Query: query}).Bundle.Entries {
			ids = append(ids, e.Version.ID)
		}
		return strings.Join(ids, " ")
	}
	first := book("book", "s9")
	book("hold", "s10")
	if got := inbox(doc, "awaiting=Practitioner/doc"); got != first {
		t.Errorf("the doctor's inbox is %q, want %q", got, first)
	}
	if got := inbox(ada, "awaiting=Patient/ada"); got != "" {
		t.Errorf("nothing is for the patient to answer: %q", got)
	}
	answer := func(status, more string) {
		t.Helper()
		do(t, s, Request{Principal: doc, Interaction: Create, Type: "AppointmentResponse", Body: parse(t, `{"resourceType":"AppointmentResponse","appointment":{"reference":"Appointment/`+first+
			`"},"actor":{"reference":"Practitioner/doc"},"participantStatus":"`+status+`"`+more+`}`)})
	}
	answer("tentative", `,"start":"2026-01-16T11:00:00Z","end":"2026-01-16T11:30:00Z"`)
	if mine, docs := inbox(ada, "awaiting=Patient/ada"), inbox(doc, "awaiting=Practitioner/doc"); mine != first || docs != "" {
		t.Errorf("after another time was proposed: patient %q, doctor %q", mine, docs)
	}
	mustCall(t, s, "Appointment", first, "cancel", arg("reason", "valueCodeableConcept", `{"text":"x"}`))
	if got := inbox(ada, "awaiting=Patient/ada"); got != "" {
		t.Errorf("of what is cancelled: %q", got)
	}
}
