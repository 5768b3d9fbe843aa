package resources

import (
	"strings"
	"testing"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// emergency is a practitioner who breaks the glass.
func emergency(id string) auth.Principal {
	p := doctor(id, "user/*.cruds")
	p.BreakGlass = &auth.BreakGlass{Purpose: "BTG", Reason: "unconscious, nobody to ask"}
	return p
}

func TestBreakGlass(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	const never fhir.Kind = 255
	stranger := doctor("stranger", "user/*.cruds")
	w.reads(stranger, fhir.NotFound, "Patient/ben", "Observation/b1")

	t.Run("opens_the_record_of_one_patient_for_half_an_hour", func(t *testing.T) {
		p := emergency("stranger")
		if _, err := w.Do(t.Context(), Request{Interaction: Read, Type: "Observation", ID: "b1", Principal: p}); err != nil {
			t.Fatal(describe(err))
		}
		if left := time.Until(p.BreakGlass.Expires); left < 29*time.Minute || left > 31*time.Minute {
			t.Errorf("it expires in %v", left)
		}
		w.reads(stranger, never, "Patient/ben", "Observation/b1", "Observation/b2")
		w.reads(stranger, fhir.NotFound, "Patient/anna", "Observation/a1")
		if got := w.found(stranger, "Observation", ""); got != "b2 b1" {
			t.Errorf("a search finds %s", got)
		}
		w.reads(doctor("other", "user/*.cruds"), fhir.NotFound, "Patient/ben")
	})
	t.Run("again_goes_on_with_the_same_grant", func(t *testing.T) {
		first, second := emergency("stranger"), emergency("stranger")
		for _, p := range []auth.Principal{first, second} {
			w.reads(p, never, "Patient/ben")
		}
		if !first.BreakGlass.Expires.Equal(second.BreakGlass.Expires) {
			t.Error("two grants")
		}
	})
	t.Run("expired_it_is_closed", func(t *testing.T) {
		w.sql("UPDATE treatment SET high = now() WHERE kind = 0")
		w.reads(stranger, fhir.NotFound, "Patient/ben", "Observation/b1")
		w.sql("DELETE FROM treatment WHERE kind = 0")
	})
	t.Run("lifts_consents_and_labels", func(t *testing.T) {
		treats := doctor("treats", "user/*.cruds")
		w.put(`{"resourceType":"Consent","id":"no","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],"patient":{"reference":"Patient/anna"},"policy":[{"uri":"urn:x"}],"provision":{"type":"deny"}}`)
		w.put(strings.Replace(observation("a3", "anna", "laboratory", "final"), `"status"`, `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}]},"status"`, 1))
		w.reads(treats, fhir.NotFound, "Observation/a1", "Observation/a3")
		w.reads(emergency("treats"), never, "Observation/a1", "Observation/a3")
		w.sql("DELETE FROM treatment WHERE kind = 0")
		w.reads(treats, fhir.NotFound, "Observation/a1", "Observation/a3")
	})
	t.Run("is_for_practitioners_alone", func(t *testing.T) {
		for name, p := range map[string]auth.Principal{"admin": admin("user/*.cruds"), "patient": patientApp("anna", "patient/*.rs"), "backend": backend("system/*.cruds")} {
			p.BreakGlass = &auth.BreakGlass{Purpose: "BTG", Reason: "I want to know"}
			if kind := w.status(p, Request{Interaction: Read, Type: "Observation", ID: "b1"}); kind != fhir.Forbidden {
				t.Errorf("%s: kind %d", name, kind)
			}
		}
	})
	t.Run("not_for_whoever_may_do_everything_anyway", func(t *testing.T) {
		if kind := w.status(auth.Principal{BreakGlass: &auth.BreakGlass{Purpose: "BTG", Reason: "I want to know"}}, Request{Interaction: Read, Type: "Observation", ID: "b1"}); kind != fhir.Forbidden {
			t.Errorf("kind %d", kind)
		}
	})
	t.Run("needs_a_request_about_one_patient", func(t *testing.T) {
		for name, r := range map[string]Request{
			"search of all": {Interaction: SearchType, Type: "Observation"},
			"two patients":  {Interaction: SearchType, Type: "Observation", Query: "patient=anna,ben"},
			"batch":         {Interaction: Batch, Body: parse(t, `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Patient/ben"}}]}`)},
			"history":       {Interaction: HistoryType, Type: "Observation"},
		} {
			if kind := w.status(emergency("stranger"), r); kind != fhir.Invalid {
				t.Errorf("%s: kind %d", name, kind)
			}
		}
		w.reads(stranger, fhir.NotFound, "Patient/ben")
	})
	t.Run("of_what_is_not_there_opens_nothing", func(t *testing.T) {
		p := emergency("stranger")
		w.reads(p, fhir.NotFound, "Patient/nobody", "Observation/nothing")
		if !p.BreakGlass.Expires.IsZero() {
			t.Error("opened")
		}
	})
	t.Run("is_told_to_the_patient_and_to_administrators", func(t *testing.T) {
		w.sql("DELETE FROM treatment WHERE kind = 0")
		w.reads(emergency("stranger"), never, "Patient/ben")
		w.catchUp()
		if got := w.found(patientApp("ben", "patient/*.rs"), "AuditEvent", "subtype=http://dicom.nema.org/resources/ontology/DCM|110127&_elements=id"); got == "" {
			t.Error("the patient does not see it")
		}
		boss := admin("user/*.cruds")
		grants := do(t, w.Service, Request{Interaction: Operate, Operation: "break-glass-grants", Safe: true, Principal: boss}).Resource
		first := grants.At("parameter", "part")
		if n := len(grants.Get("parameter").Kids); n < 3 || !strings.Contains(string(grants.JSON()), "unconscious, nobody to ask") {
			t.Fatalf("%d grants: %s", n, grants.JSON())
		}
		id := first.Kids[0].GetText("valueString")
		review := func(p auth.Principal) fhir.Kind {
			return w.status(p, Request{Interaction: Operate, Operation: "break-glass-review", Principal: p,
				Body: parse(t, `{"resourceType":"Parameters","parameter":[{"name":"grant","valueString":"`+id+`"},{"name":"verdict","valueString":"it was right"}]}`)})
		}
		self := boss
		self.FHIRUser = "Practitioner/stranger"
		for name, c := range map[string]struct {
			p    auth.Principal
			want fhir.Kind
		}{"a practitioner": {stranger, fhir.Forbidden}, "the own": {self, fhir.Forbidden}} {
			if kind := review(c.p); kind != c.want {
				t.Errorf("%s: kind %d", name, kind)
			}
		}
		if kind := review(boss); kind != never {
			t.Errorf("kind %d", kind)
		}
		if kind := review(boss); kind != fhir.Conflict {
			t.Errorf("again: kind %d", kind)
		}
	})
	t.Run("is_for_some_patients_at_a_time", func(t *testing.T) {
		for i := range storage.MaxGlasses + 1 {
			id := "many" + string(rune('a'+i))
			w.put(`{"resourceType":"Patient","id":"` + id + `"}`)
			want := never
			if i == storage.MaxGlasses {
				want = fhir.Throttled
			}
			w.reads(emergency("other"), want, "Patient/"+id)
		}
	})
}
