package resources

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
)

// denial is a Consent that lets nobody see anything of a patient.
func denial(id, patient, status string) string {
	return `{"resourceType":"Consent","id":"` + id + `","status":"` + status + `","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],
"patient":{"reference":"Patient/` + patient + `"},"policyRule":{"text":"x"},"provision":{"type":"deny"}}`
}

// A Consent that denies everything hides the record and not itself: the patient ends it, and so do administrators, who look
// after Consents. Whoever may see no Consents at all sees neither.
func TestAccess_consents_can_be_managed(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	boss, narrow, treats, anna := admin("user/*.cruds"), admin("user/Observation.rs user/Patient.rs"), doctor("treats", "user/*.cruds"), patientApp("anna", "patient/*.cruds")
	put := func(p auth.Principal, body string) fhir.Kind {
		n := parse(t, body)
		return w.status(p, Request{Interaction: Update, Type: "Consent", ID: n.ID(), Body: n, Principal: p})
	}
	w.put(denial("no", "anna", "active"))
	w.reads(boss, fhir.NotFound, "Patient/anna", "Observation/a1")
	w.reads(boss, ok, "Consent/no")
	w.reads(anna, ok, "Consent/no", "Observation/a1")
	w.reads(treats, fhir.NotFound, "Consent/no")
	w.reads(narrow, fhir.Forbidden, "Consent/no")
	if got := w.found(boss, "Consent", "patient=Patient/anna"); got != "no" {
		t.Errorf("an administrator finds %q", got)
	}
	for search, want := range map[string]string{"Consent?patient.name=apple": "", "Consent?_include=Consent:patient": "no", "Patient?_has:Consent:patient:status=active": "", "Consent?_has:Provenance:target:agent=x": ""} {
		typ, query, _ := strings.Cut(search, "?")
		if got := w.found(boss, typ, query); got != want {
			t.Errorf("%s: %q, want %q: the record shows through the Consent", search, got, want)
		}
	}
	if got := put(boss, denial("no", "anna", "inactive")); got != ok {
		t.Fatalf("an administrator ends it: kind %d", got)
	}
	w.reads(boss, ok, "Patient/anna", "Observation/a1")
	if got := put(boss, denial("no", "anna", "active")); got != ok {
		t.Fatalf("an administrator makes it hold again: kind %d", got)
	}
	if got := put(anna, denial("no", "anna", "inactive")); got != ok {
		t.Fatalf("the patient ends it: kind %d", got)
	}
	w.reads(treats, ok, "Observation/a1")
	// Patients write Consents about themselves alone.
	create := func(p auth.Principal, body string) fhir.Kind {
		return w.status(p, Request{Interaction: Create, Type: "Consent", Body: parse(t, body), Principal: p})
	}
	if got := create(anna, denial("x", "anna", "active")); got != ok {
		t.Errorf("the own: kind %d", got)
	}
	w.reads(treats, fhir.NotFound, "Observation/a1")
	if got := create(anna, denial("x", "ben", "active")); got != fhir.Forbidden {
		t.Errorf("another's: kind %d", got)
	}
	if got := put(anna, denial("no", "ben", "active")); got != fhir.Forbidden {
		t.Errorf("moved to another: kind %d", got)
	}
	if got := create(treats, denial("x", "anna", "active")); got != fhir.Forbidden {
		t.Errorf("a practitioner: kind %d", got)
	}
}

// An administrator behind a Consent that denies everything cannot tell what it hides from what is not there: by no answer, to
// reads, searches and writes, and not by the AuditEvents of the own requests, which administrators may read.
func TestAccess_administrators_cannot_tell_denied_from_missing(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	w.put(`{"resourceType":"Patient","id":"hid1","identifier":[{"system":"urn:x","value":"hid1"}],"name":[{"family":"Hidden"}]}`)
	w.put(`{"resourceType":"Observation","id":"o-hid1","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/hid1"}}`)
	w.put(`{"resourceType":"Encounter","id":"e-hid1","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/hid1"}}`)
	w.put(`{"resourceType":"Appointment","id":"v-hid1","status":"booked","start":"2030-01-01T09:00:00Z","end":"2030-01-01T09:30:00Z","participant":[{"actor":{"reference":"Patient/hid1"},"status":"accepted"}]}`)
	w.put(`{"resourceType":"Coverage","id":"c-hid1","status":"active","beneficiary":{"reference":"Patient/hid1"},"payor":[{"reference":"Organization/clinic"}]}`)
	w.put(denial("no", "hid1", "active"))
	boss := admin("user/Patient.cruds user/Observation.cruds user/Encounter.cruds user/Appointment.cruds user/Coverage.cruds user/AppointmentResponse.cruds user/Provenance.cruds user/RelatedPerson.cruds user/Communication.cruds user/Task.cruds user/AuditEvent.rs user/Device.cruds")
	body := func(text string) *fhir.Node { return parse(t, text) }
	transaction := func(entries ...string) Request {
		return Request{Interaction: Transaction, Body: body(transactionOf(entries...))}
	}
	// ID stands for the name of a patient: the one who is hidden, and one who never was.
	requests := func(id string) map[string]Request {
		coverage := `{"resourceType":"Coverage","status":"active","beneficiary":{"reference":"Patient/` + id + `"},"payor":[{"reference":"Organization/clinic"}]}`
		return map[string]Request{
			"read":                  {Interaction: Read, Type: "Patient", ID: id},
			"vread":                 {Interaction: VRead, Type: "Observation", ID: "o-" + id, Version: "1"},
			"history":               {Interaction: HistoryInstance, Type: "Encounter", ID: "e-" + id},
			"search by patient":     {Interaction: SearchType, Type: "Observation", Query: "patient=Patient/" + id},
			"search by id":          {Interaction: SearchType, Type: "Appointment", Query: "_id=v-" + id},
			"search by identifier":  {Interaction: SearchType, Type: "Patient", Query: "identifier=urn:x|" + id},
			"compartment":           {Interaction: SearchType, Type: "Observation", Compartment: "Patient", CompartmentID: id},
			"has":                   {Interaction: SearchType, Type: "Patient", Query: "_has:Observation:patient:_id=o-" + id},
			"everything":            {Interaction: Operate, Operation: "everything", Type: "Patient", ID: id, Safe: true},
			"find":                  {Interaction: Operate, Operation: "find", Type: "Appointment", Safe: true, Body: body(`{"resourceType":"Parameters","parameter":[{"name":"start","valueDateTime":"2030-01-01"},{"name":"end","valueDateTime":"2030-01-02"},{"name":"patient-reference","valueReference":{"reference":"Patient/` + id + `"}}]}`)},
			"cancel":                {Interaction: Operate, Operation: "cancel", Type: "Appointment", ID: "v-" + id, Body: body(`{"resourceType":"Parameters","parameter":[{"name":"reason","valueCodeableConcept":{"text":"x"}}]}`)},
			"update":                {Interaction: Update, Type: "Patient", ID: id, Body: body(`{"resourceType":"Patient","id":"` + id + `"}`)},
			"patch":                 {Interaction: Patch, Type: "Coverage", ID: "c-" + id, JSONPatch: []byte(`[{"op":"add","path":"/language","value":"en"}]`)},
			"delete":                {Interaction: Delete, Type: "Coverage", ID: "c-" + id},
			"conditional delete":    {Interaction: Delete, Type: "Coverage", Query: "beneficiary=Patient/" + id},
			"create about":          {Interaction: Create, Type: "Coverage", Body: body(coverage)},
			"create unless":         {Interaction: Create, Type: "Coverage", Body: body(coverage), IfNoneExist: "beneficiary=Patient/" + id},
			"conditional update":    {Interaction: Update, Type: "Coverage", Query: "beneficiary=Patient/" + id, Body: body(coverage)},
			"answer":                {Interaction: Create, Type: "AppointmentResponse", Body: body(`{"resourceType":"AppointmentResponse","appointment":{"reference":"Appointment/v-` + id + `"},"actor":{"reference":"Patient/` + id + `"},"participantStatus":"declined"}`)},
			"provenance":            {Interaction: Create, Type: "Provenance", Body: body(`{"resourceType":"Provenance","recorded":"2024-01-01T00:00:00Z","target":[{"reference":"Observation/o-` + id + `"}],"agent":[{"who":{"reference":"Practitioner/treats"}}]}`)},
			"create in transaction": transaction(entryOf("", "POST", "Coverage", coverage)),
			"update in transaction": transaction(entryOf("", "PUT", "Coverage/c-"+id, strings.Replace(coverage, `"status"`, `"id":"c-`+id+`","status"`, 1))),
			"conditional reference": transaction(entryOf("", "POST", "Communication", `{"resourceType":"Communication","status":"completed","subject":{"reference":"Patient?identifier=urn:x|`+id+`"}}`)),
			"batch":                 {Interaction: Batch, Body: body(`{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Patient/` + id + `"}},{"request":{"method":"GET","url":"Observation?patient=` + id + `"}}]}`)},
			"book":                  {Interaction: Operate, Operation: "book", Type: "Appointment", Body: body(`{"resourceType":"Parameters","parameter":[{"name":"appointment-reference","valueReference":{"reference":"Appointment/v-` + id + `"}}]}`)},
			"validate":              {Interaction: Operate, Operation: "validate", Type: "Coverage", Safe: true, Body: body(coverage)},
			"match":                 {Interaction: Operate, Operation: "match", Type: "Patient", Safe: true, Body: body(`{"resourceType":"Parameters","parameter":[{"name":"resource","resource":{"resourceType":"Patient","name":[{"family":"Hidden"}],"identifier":[{"system":"urn:x","value":"` + id + `"}]}}]}`)},
			"audit of it":           {Interaction: SearchType, Type: "AuditEvent", Query: "entity=Observation/o-" + id + "&_elements=type"},
		}
	}
	varying := regexp.MustCompile(`"(id|lastUpdated|recorded|versionId)": ?"[^"]*"|_cursor=[\w-]*|urn:uuid:[0-9a-f-]*|"query": ?"[^"]*"|new-[0-9a-z-]*|[0-9a-f]{8}-[0-9a-f-]{27}`)
	plain := func(id, text string) string {
		return strings.ReplaceAll(varying.ReplaceAllString(text, "…"), id, "ID")
	}
	answer := func(id string, r Request) string {
		r.Principal = boss
		resp, err := w.Do(t.Context(), r)
		if err != nil {
			return plain(id, describe(err))
		}
		var parts []string
		if resp.Version != nil {
			parts = append(parts, string(resp.Version.Content))
		}
		if resp.Resource != nil {
			parts = append(parts, string(resp.Resource.JSON()))
		}
		if b := resp.Bundle; b != nil {
			if b.Total != nil {
				parts = append(parts, fmt.Sprint("total ", *b.Total))
			}
			for _, e := range b.Entries {
				if e.Version != nil {
					parts = append(parts, string(e.Version.Content))
				}
				if e.Err != nil {
					parts = append(parts, describe(e.Err))
				}
			}
		}
		return plain(id, fmt.Sprint(resp.Created, resp.Deleted, parts))
	}
	told := func(id string) (list []string) {
		w.catchUp()
		resp := do(t, w.Service, Request{Principal: boss, Interaction: SearchType, Type: "AuditEvent", Query: "_sort=_lastUpdated&_count=1000"})
		for _, e := range resp.Bundle.Entries {
			var event struct {
				Agent []struct {
					Requestor bool
					Who       struct{ Identifier struct{ Value string } }
				}
			}
			if err := json.Unmarshal(e.Version.Content, &event); err != nil {
				t.Fatal(err)
			}
			mine := false
			for _, a := range event.Agent {
				mine = mine || a.Requestor && a.Who.Identifier.Value == boss.User
			}
			if text := string(e.Version.Content); mine && strings.Contains(text, id) {
				list = append(list, plain(id, text))
			}
		}
		return list
	}
	hidden, missing := requests("hid1"), requests("mis1")
	for name := range hidden {
		x, y := answer("hid1", hidden[name]), answer("mis1", missing[name])
		if x != y {
			t.Errorf("%s:\nhidden:  %s\nmissing: %s", name, x, y)
		}
	}
	events := map[string]int{}
	for _, text := range told("hid1") {
		events[text]++
	}
	for _, text := range told("mis1") {
		events[text]--
	}
	if len(events) < 10 {
		t.Errorf("%d events", len(events))
	}
	for text, n := range events {
		if n != 0 {
			t.Errorf("%d more for what is hidden than for what is missing: %s", n, text)
		}
	}
}

// A role that is out of use lends its practitioner nothing.
func TestAccess_roles_out_of_use(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	stranger := doctor("stranger", "user/*.rs")
	role := func(active string) {
		w.put(`{"resourceType":"PractitionerRole","id":"role","practitioner":{"reference":"Practitioner/stranger"}` + active + `}`)
	}
	role("")
	w.put(`{"resourceType":"CareTeam","id":"team","status":"active","subject":{"reference":"Patient/ben"},"participant":[{"member":{"reference":"PractitionerRole/role"}}]}`)
	w.reads(stranger, ok, "Observation/b1")
	role(`,"active":false`)
	w.reads(stranger, fhir.NotFound, "Observation/b1")
	role(`,"active":true`)
	w.reads(stranger, ok, "Observation/b1")
}

// Practitioners who treat a patient are told that something of the record is withheld that breaking the glass would show: of the
// record, whatever they search for in it. Nobody else is told.
func TestAccess_suppressed(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	treats := doctor("treats", "user/*.rs")
	says := func(p auth.Principal, typ, query string) bool {
		t.Helper()
		r := Request{Principal: p, Interaction: SearchType, Type: typ, Query: query}
		if typ == "$everything" {
			r = Request{Principal: p, Interaction: Operate, Operation: "everything", Type: "Patient", ID: query, Safe: true}
		}
		resp, err := w.Do(t.Context(), r)
		if err != nil {
			return false
		}
		for _, i := range resp.Bundle.Issues {
			if i.Code == fhir.CodeSuppressed && i.Severity == fhir.SeverityInformation {
				return true
			}
		}
		return false
	}
	every := map[string]string{"Observation": "patient=anna", "Condition": "subject=Patient/anna&code=nothing", "Patient": "_id=anna", "$everything": "anna"}
	all := func(name string, p auth.Principal, want bool) {
		t.Helper()
		for typ, query := range every {
			if got := says(p, typ, query); got != want {
				t.Errorf("%s: %s?%s: %t", name, typ, query, got)
			}
		}
	}
	consent := func(provision string) {
		w.put(strings.Replace(denial("c", "anna", "active"), `{"type":"deny"}`, provision, 1))
	}
	all("nothing is withheld", treats, false)
	w.put(strings.Replace(observation("a3", "anna", "laboratory", "final"), `"status"`, `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}]},"status"`, 1))
	all("a label", treats, true)
	for name, p := range map[string]auth.Principal{"an administrator": admin("user/*.rs"), "the patient": patientApp("anna", "patient/*.rs"), "who does not treat her": doctor("stranger", "user/*.rs"),
		"a backend system": backend("system/*.rs"), "who may not see such types": doctor("treats", "user/Patient.rs user/Condition.rs")} {
		all(name, p, false)
	}
	for _, query := range []string{"", "code=x", "patient=anna,ben", "patient=ben"} {
		if says(treats, "Observation", query) {
			t.Errorf("not of one patient in treatment: %q", query)
		}
	}
	w.reads(emergency("treats"), ok, "Observation/a3")
	all("the glass is broken", treats, false)
	w.sql("DELETE FROM treatment WHERE kind = 0")
	w.put(observation("a3", "anna", "laboratory", "final"))
	all("the label is gone", treats, false)
	consent(`{"type":"deny","provision":[{"type":"permit","actor":[{"role":{"text":"x"},"reference":{"reference":"Practitioner/treats"}}]}]}`)
	all("a Consent that lets him", treats, false)
	consent(`{"type":"permit","provision":[{"type":"deny","class":[{"system":"http://hl7.org/fhir/resource-types","code":"Encounter"}]}]}`)
	all("a Consent that does not, for some", treats, true)
}
