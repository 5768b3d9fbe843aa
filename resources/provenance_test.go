package resources

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/auth"
	"kiln/conformance"
	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// attestedClinic is a clinic with coverages whose log is kept from the beginning.
func attestedClinic(t testing.TB) (w *logged, advance func(time.Duration)) {
	var url string
	s, clock := insured(t, scheduling.CoverageWarn, func(o *Options, so *storage.Options) { o.Audit, url = true, so.URL })
	return &logged{&ward{s, t}, url}, func(d time.Duration) { clock.Advance(d) }
}

// untold are the versions of patients' records and of calendars that are the target of no Provenance, or of several, with how
// many. The states of Slots that follow from bookings need none.
func (w *logged) untold() (list []string) {
	w.t.Helper()
	w.catchUp()
	conn, err := pgx.Connect(w.t.Context(), w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(w.t.Context())
	rows, err := conn.Query(w.t.Context(), `
WITH v AS (SELECT type, id, version FROM resource UNION ALL SELECT r.type, r.id, h.version FROM resource_history h JOIN resource r USING (rk)),
t AS (SELECT x ->> 'reference' AS target FROM resource, jsonb_array_elements(content -> 'target') x WHERE type = 'Provenance')
SELECT v.type || '/' || v.id || '/_history/' || v.version || ' ' || (SELECT count(*) FROM t WHERE target = v.type || '/' || v.id || '/_history/' || v.version)
FROM v WHERE v.type NOT IN ('Provenance', 'AuditEvent', 'Practitioner', 'Location', 'Organization', 'InsurancePlan') AND NOT (v.type = 'Slot' AND v.version > 1)
  AND (SELECT count(*) FROM t WHERE target = v.type || '/' || v.id || '/_history/' || v.version) <> 1 ORDER BY 1`)
	if err != nil {
		w.t.Fatal(err)
	}
	if list, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		w.t.Fatal(err)
	}
	return list
}

// of is the Provenance of a version.
func (w *logged) of(version string) *fhir.Node {
	w.t.Helper()
	w.catchUp()
	name, _, _ := strings.Cut(version, "/_history")
	for _, e := range do(w.t, w.Service, Request{Interaction: SearchType, Type: "Provenance", Query: "target=" + name, Principal: auth.Operator("test")}).Bundle.Entries {
		n := parse(w.t, string(e.Version.Content))
		for target := range n.Get("target").Items() {
			if target.GetText("reference") == version {
				return n
			}
		}
	}
	w.t.Fatalf("no Provenance of %s", version)
	return nil
}

// agentsOf says who a Provenance names: who, for whom, and the application.
func agentsOf(n *fhir.Node) string {
	var list []string
	for a := range n.Get("agent").Items() {
		who := a.Get("who")
		text := who.GetText("reference")
		for _, other := range []string{who.Get("identifier").GetText("value"), who.GetText("display")} {
			if text == "" {
				text = other
			}
		}
		if behalf := a.Get("onBehalfOf").GetText("reference"); behalf != "" {
			text += " for " + behalf
		}
		list = append(list, text)
	}
	return strings.Join(list, ", ")
}

func TestProvenance_of_every_version(t *testing.T) {
	t.Parallel()
	w, advance := attestedClinic(t)
	s := w.Service
	asked := func(r Request) *storage.Version {
		t.Helper()
		return do(t, s, r).Version
	}
	none := func(after string) {
		t.Helper()
		if list := w.untold(); len(list) > 0 {
			t.Errorf("after %s: %s", after, strings.Join(list, ", "))
		}
	}
	none("what was there")

	cover(t, s, "ok", "ada", "sandbox", "OK-1", "")
	visit := mustCreate(t, s, insuredVisit("ada", "s9", "ok"))
	none("a booking whose payer was asked")
	mustCall(t, s, "Appointment", visit.ID, "reschedule", arg("start", "valueDateTime", `"2026-01-16T10:00:00Z"`))
	mustCall(t, s, "Appointment", visit.ID, "cancel", arg("reason", "valueCodeableConcept", `{"coding":[{"system":"`+reasonSystem+`","code":"pat-fb"}]}`))
	none("moving and cancelling it")
	if n := w.of("Appointment/" + visit.ID + "/_history/3"); !n.At("reason", "coding", "code").IsString("pat-fb") || !n.At("activity", "coding", "code").IsString("UPDATE") ||
		!strings.Contains(string(n.Get("activity").JSON()), `"cancel"`) || n.Get("recorded") == nil {
		t.Errorf("%s", n.JSON())
	}

	self := mustCall(t, s, "Appointment", "", "book", argRef("appointment-reference", "Appointment/"+find(t, s)[0].Version.ID), argRef("patient", "Patient/ben"), arg("self-pay", "valueBoolean", "true"))
	none("a booking with self-pay")
	mustCall(t, s, "Appointment", "", "book", arg("appointment-resource", "resource", insuredVisit("ada", "s9")), arg("override-reason", "valueString", `"urgent"`), argRef("patient", "Patient/ada"))
	none("an override")
	held := mustCall(t, s, "Appointment", "", "hold", argRef("appointment-reference", "Appointment/"+find(t, s)[0].Version.ID), argRef("patient", "Patient/ada")).Bundle.Entries[0].Version
	wait := mustCreate(t, s, `{"resourceType":"Appointment","status":"waitlist","requestedPeriod":[{"start":"2026-01-16","end":"2026-01-20"}],"participant":[{"actor":{"reference":"Patient/ben"},"status":"accepted"},{"actor":{"reference":"Practitioner/doc"},"status":"needs-action"}]}`)
	advance(11 * time.Minute)
	if err := s.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	none("a hold that expired and an offer")
	if got := agentsOf(w.of("Appointment/" + held.ID + "/_history/2")); got != testBase {
		t.Errorf("a hold was ended by %s", got)
	}
	mustCall(t, s, "Appointment", "", "book", argRef("appointment-reference", "Appointment/"+wait.ID))
	mustCall(t, s, "Schedule", "cal", "block", arg("start", "valueDateTime", `"2026-01-20T08:00:00Z"`), arg("end", "valueDateTime", `"2026-01-20T11:00:00Z"`))
	mustCall(t, s, "Schedule", "cal", "block", arg("start", "valueDateTime", `"2026-01-21T08:00:00Z"`), arg("end", "valueDateTime", `"2026-01-21T11:00:00Z"`), arg("reason", "valueString", `"Leave"`))
	put(t, s, `{"resourceType":"Schedule","id":"cal","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":"UTC"},{"url":"`+scheduling.ExtensionAvailability+`","extension":[
		{"url":"daysOfWeek","valueCode":"mon"},{"url":"start","valueTime":"08:00:00"},{"url":"end","valueTime":"12:00:00"}]}],"actor":[{"reference":"Practitioner/doc"}]}`)
	mustCall(t, s, "Schedule", "cal", "generate", arg("from", "valueDate", `"2026-02-01"`), arg("to", "valueDate", `"2026-02-20"`))
	put(t, s, `{"resourceType":"Schedule","id":"cal","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":"UTC"},{"url":"`+scheduling.ExtensionAvailability+`","extension":[
		{"url":"daysOfWeek","valueCode":"tue"},{"url":"start","valueTime":"08:00:00"},{"url":"end","valueTime":"12:00:00"}]}],"actor":[{"reference":"Practitioner/doc"}]}`)
	mustCall(t, s, "Schedule", "cal", "generate", arg("from", "valueDate", `"2026-02-01"`), arg("to", "valueDate", `"2026-02-20"`))
	none("blocks and Slots made and removed")

	setPolicy(t, s, scheduling.CoverageWarn, "practitioner")
	ask := asked(Request{Interaction: Create, Type: "Appointment", Principal: patientApp("ben", "patient/*.cruds"),
		Body: parse(t, strings.Replace(insuredVisit("ben", "s11"), "booked", "pending", 1))})
	boss := auth.Principal{User: "u-boss", Name: "Boss", Client: "desk", Roles: []auth.Role{auth.RoleAdmin}, Scopes: scopes("user/*.cruds")}
	asked(Request{Interaction: Create, Type: "AppointmentResponse", Principal: boss, Body: parse(t,
		fmt.Sprintf(`{"resourceType":"AppointmentResponse","appointment":{"reference":"Appointment/%s"},"actor":{"reference":"Practitioner/doc"},"participantStatus":"accepted"}`, ask.ID))})
	none("an approval")
	if got := agentsOf(w.of("Appointment/" + ask.ID + "/_history/2")); got != "u-boss for Practitioner/doc, desk" {
		t.Errorf("an approval by the desk: %s", got)
	}
	if got := agentsOf(w.of("Appointment/" + ask.ID + "/_history/1")); got != "Patient/ben, app" {
		t.Errorf("a request of the patient: %s", got)
	}

	final := asked(Request{Interaction: Create, Type: "Observation", Body: parse(t, `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/ada"},"valueString":"1"}`)})
	put(t, s, `{"resourceType":"Observation","id":"`+final.ID+`","extension":[{"url":"`+fhir.ChangeReasonExtension+`","valueString":"the wrong line"}],"status":"amended","code":{"text":"x"},"subject":{"reference":"Patient/ada"},"valueString":"2"}`)
	var entries []string
	for i := range 120 {
		patient := []string{"ada", "ben"}[i%2]
		entries = append(entries, entryOf("", "POST", "Condition", fmt.Sprintf(`{"resourceType":"Condition","clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]},"code":{"text":"c%d"},"subject":{"reference":"Patient/%s"}}`, i, patient)))
	}
	entries = append(entries, entryOf("", "PUT", "Patient/ada", `{"resourceType":"Patient","id":"ada","active":true}`))
	post(t, s, transactionOf(entries...))
	asked(Request{Interaction: Create, Type: "Flag", Body: parse(t, `{"resourceType":"Flag","status":"active","code":{"text":"f"},"subject":{"reference":"Patient/ada"}}`),
		Provenance: parse(t, `{"resourceType":"Provenance","agent":[{"who":{"display":"the client"}}]}`)})
	mustCreate(t, s, `{"resourceType":"Flag","id":"f","status":"active","code":{"text":"f"},"subject":{"reference":"Patient/ben"}}`)
	do(t, s, Request{Interaction: Delete, Type: "Flag", Query: "patient=Patient/ben"})
	do(t, s, Request{Interaction: Delete, Type: "Condition", ID: do(t, s, Request{Interaction: SearchType, Type: "Condition", Query: "_count=1"}).Bundle.Entries[0].Version.ID})
	put(t, s, `{"resourceType":"Patient","id":"ada","active":true}`) // changes nothing
	none("records")
	again := self.Bundle.Entries[0].Version.ID
	asked(Request{Interaction: Create, Type: "Encounter", Body: parse(t, `{"resourceType":"Encounter","status":"planned","class":{"code":"AMB"},"appointment":[{"reference":"Appointment/`+again+`"}]}`)})
	mustCall(t, s, "Patient", "", "merge", argRef("source-patient", "Patient/ben"), argRef("target-patient", "Patient/ada"))
	none("a merge")
	valid := 0
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	v, err := validate.New(registry, validate.Options{Invariants: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range do(t, s, Request{Interaction: SearchType, Type: "Provenance", Query: "_count=1000"}).Bundle.Entries {
		for _, issue := range v.Resource(parse(t, string(e.Version.Content))) {
			if issue.Severity != fhir.SeverityInformation {
				t.Errorf("%s %v: %s", issue.Severity, issue.Expression, issue.Text)
			}
		}
		valid++
	}
	if valid < 30 {
		t.Errorf("%d Provenances", valid)
	}
	r, err := s.store.VerifyAudit(t.Context(), 0, "")
	if err != nil || r.Break != "" || r.Foreign != 0 {
		t.Errorf("%+v %v", r, err)
	}
}

// A Provenance is seen by whom its target is seen by.
func TestProvenance_is_as_hidden_as_its_target(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	boss := auth.Operator("test")
	record := func(label, status string) string {
		return do(t, w.Service, Request{Interaction: Create, Type: "Observation", Principal: boss, Body: parse(t, `{"resourceType":"Observation","meta":{"security":[`+label+`]},"status":"`+status+`",
			"code":{"text":"x"},"subject":{"reference":"Patient/anna"},"performer":[{"reference":"Practitioner/treats"}]}`)}).Version.ID
	}
	plain := record("", "final")
	secret := record(`{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"PSY"}`, "final")
	open := record("", "preliminary")
	kept := record(`{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"NOPAT"}`, "final")
	w.catchUp()
	for _, c := range []struct {
		name string
		who  auth.Principal
		want map[string]bool
	}{
		{"patient", patientApp("anna", "patient/*.rs"), map[string]bool{plain: true, secret: true, open: false, kept: false}},
		{"another_patient", patientApp("ben", "patient/*.rs"), map[string]bool{plain: false, secret: false, open: false, kept: false}},
		{"treating", doctor("treats", "user/*.rs"), map[string]bool{plain: true, secret: false, open: true, kept: true}},
		{"stranger", doctor("stranger", "user/*.rs"), map[string]bool{plain: false, secret: false, open: false, kept: false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for id, want := range c.want {
				found := len(do(t, w.Service, Request{Interaction: SearchType, Type: "Provenance", Query: "target=Observation/" + id, Principal: c.who}).Bundle.Entries)
				if (found == 1) != want || found > 1 {
					t.Errorf("%s: %d Provenances, the target is seen: %t", id, found, want)
				}
			}
		})
	}
}
