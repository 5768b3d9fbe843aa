package resources

import (
	"fmt"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
)

// TestEncounter_from_an_appointment is row 14 of the transition table, from the visit's side.
func TestEncounter_from_an_appointment(t *testing.T) {
	t.Parallel()
	h := newHospital(t)
	visit := func(id, patient string) {
		h.put(fmt.Sprintf(`{"resourceType":"Appointment","id":%q,"status":"booked","serviceType":[{"text":"check-up"}],"start":"2026-03-02T1%d:00:00Z","end":"2026-03-02T1%[2]d:30:00Z",
"participant":[{"actor":{"reference":"Patient/%s"},"status":"accepted"},{"actor":{"reference":"Practitioner/dora"},"status":"accepted"}]}`, id, len(id), patient))
	}
	status := func(id string) string { return read(t, h.Service, "Appointment", id).GetText("status") }
	begin := func(state, appointment string) string {
		return fmt.Sprintf(`{"resourceType":"Encounter","status":%q,"class":{"code":"AMB"},"appointment":[{"reference":"Appointment/%s"}]}`, state, appointment)
	}
	visit("a", "anna")
	n, err := h.create(h.doc, begin("planned", "a"))
	if err != nil {
		t.Fatal(describe(err))
	}
	if !n.At("subject", "reference").IsString("Patient/anna") || !n.At("participant", "individual", "reference").IsString("Practitioner/dora") ||
		!n.At("serviceType", "text").IsString("check-up") || status("a") != "booked" {
		t.Errorf("%s, the appointment is %s", n.JSON(), status("a"))
	}
	n.Set("status", fhir.Str("in-progress"))
	if err := h.change(h.doc, n.ID(), string(n.JSON())); err != nil || status("a") != "fulfilled" {
		t.Errorf("%s, the appointment is %s", describe(err), status("a"))
	}
	t.Run("who_arrives_for_the_appointment_has_arrived_for_the_visit", func(t *testing.T) { // row 12
		visit("eeeee", "anna")
		n, err := h.create(h.doc, begin("planned", "eeeee"))
		if err != nil {
			t.Fatal(describe(err))
		}
		_, err = h.Do(t.Context(), Request{Principal: patientApp("anna", "patient/*.cruds"), Interaction: Patch, Type: "Appointment", ID: "eeeee",
			JSONPatch: []byte(`[{"op":"replace","path":"/status","value":"arrived"}]`)})
		if got := read(t, h.Service, "Encounter", n.ID()).GetText("status"); err != nil || got != "arrived" {
			t.Errorf("%s: the visit is %s", describe(err), got)
		}
	})
	t.Run("never_without_the_matching_patient", func(t *testing.T) {
		visit("bb", "bela")
		wrong := strings.Replace(begin("in-progress", "bb"), "{", `{"subject":{"reference":"Patient/anna"},`, 1)
		for _, p := range []auth.Principal{h.doc, auth.Operator("test"), backend("system/*.cruds")} {
			_, err := h.create(p, wrong)
			h.wantCode(err, fhir.BusinessRule, "subject-mismatch")
		}
		if status("bb") != "booked" {
			t.Errorf("the appointment is %s", status("bb"))
		}
	})
	t.Run("a_cancelled_appointment_begins_no_visit", func(t *testing.T) {
		visit("ccc", "anna")
		if err := patchStatus(t, h.Service, "ccc", "cancelled"); err != nil {
			t.Fatal(describe(err))
		}
		_, err := h.create(h.doc, begin("in-progress", "ccc"))
		h.wantCode(err, fhir.Conflict, "illegal-transition")
	})
	t.Run("a_walk_in_needs_no_appointment", func(t *testing.T) {
		if _, err := h.create(h.doc, bodyOf("Encounter", "in-progress", "")); err != nil {
			t.Error(describe(err))
		}
	})
	t.Run("visit_and_appointment_in_one_transaction", func(t *testing.T) {
		visit("dddd", "anna")
		_, err := h.Do(t.Context(), Request{Interaction: Transaction, Principal: h.doc, Body: parse(t, transactionOf(
			entryOf("", "POST", "Encounter", begin("in-progress", "dddd")),
			entryOf("", "PATCH", "Appointment/dddd", `{"resourceType":"Binary","contentType":"application/json-patch+json","data":"W3sib3AiOiJyZXBsYWNlIiwicGF0aCI6Ii9zdGF0dXMiLCJ2YWx1ZSI6ImZ1bGZpbGxlZCJ9XQ=="}`)))})
		if err != nil || status("dddd") != "fulfilled" {
			t.Errorf("%s, the appointment is %s", describe(err), status("dddd"))
		}
	})
	t.Run("a_diagnosis_is_linked_from_its_visit", func(t *testing.T) {
		n, err := h.create(h.doc, bodyOf("Condition", "active", `,"encounter":{"reference":"Encounter/ea"},"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-category","code":"encounter-diagnosis"}]}]`))
		if err != nil {
			t.Fatal(describe(err))
		}
		if e := read(t, h.Service, "Encounter", "ea"); !e.At("diagnosis", "condition", "reference").IsString("Condition/" + n.ID()) {
			t.Errorf("%s", e.JSON())
		}
	})
	agrees(t, h.Service)
}
