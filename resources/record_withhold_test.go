package resources

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"kiln/fhir"
)

// withheld is the label that keeps a record from its patient.
func withheld(reason, until string) string {
	return fmt.Sprintf(`,"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"NOPAT","extension":[{"url":%q,"extension":[
{"url":"reason","valueString":%q},{"url":"until","valueDateTime":%q}]}]}]}`, fhir.WithholdingExtension, reason, until)
}

func TestPatients_see_results_when_they_are_final(t *testing.T) {
	t.Parallel()
	h := newHospital(t)
	anna := patientApp("anna", "patient/*.rs")
	for typ, hidden := range map[string][]string{"Observation": {"registered", "preliminary"}, "DiagnosticReport": {"registered", "partial", "preliminary"}} {
		for _, state := range lifeOf(typ).States {
			id := h.begin(typ, state)
			want, not := ok, false
			for _, x := range hidden {
				not = not || x == string(state)
			}
			if not {
				want = fhir.NotFound
			}
			h.reads(anna, want, typ+"/"+id)
			h.reads(h.doc, ok, typ+"/"+id)
			h.reads(admin("user/*.rs"), ok, typ+"/"+id)
			if got := h.found(anna, typ, "_id="+id); (got == "") != not {
				t.Errorf("%s %s: found %q", typ, state, got)
			}
		}
	}
	id := h.begin("Observation", "preliminary")
	if err := h.change(h.doc, id, bodyOf("Observation", "final", `,"valueString":"done"`)); err != nil {
		t.Fatal(describe(err))
	}
	t.Run("what_was_preliminary_stays_hidden_in_the_history", func(t *testing.T) {
		resp := do(t, h.Service, Request{Principal: anna, Interaction: HistoryInstance, Type: "Observation", ID: id})
		if len(resp.Bundle.Entries) != 1 || resp.Bundle.Entries[0].Version.Number != 2 {
			t.Errorf("%d versions", len(resp.Bundle.Entries))
		}
		refused(t, h.Service, fhir.NotFound, Request{Principal: anna, Interaction: VRead, Type: "Observation", ID: id, Version: "1"})
	})
	t.Run("no_way_leads_to_a_hidden_result", func(t *testing.T) {
		id := h.begin("Observation", "preliminary")
		h.put(`{"resourceType":"DiagnosticReport","id":"rep","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/anna"},"result":[{"reference":"Observation/` + id + `"}]}`)
		for _, q := range []string{"_id=rep&_include=DiagnosticReport:result", "result.status=preliminary", "result.code:text=x&_id=rep&result=Observation/" + id + "&_include=*"} {
			if got := h.found(anna, "DiagnosticReport", q); strings.Contains(got, id) || strings.Contains(q, "result.") && got != "" {
				t.Errorf("%s finds %q", q, got)
			}
		}
		resp := do(t, h.Service, Request{Principal: anna, Interaction: Operate, Type: "Patient", ID: "anna", Operation: "everything"})
		for _, e := range resp.Bundle.Entries {
			if e.Version.ID == id {
				t.Error("$everything shows it")
			}
		}
	})
	t.Run("what_the_patient_reported_is_the_patients", func(t *testing.T) {
		n, err := h.create(patientApp("anna", "patient/*.cruds"), bodyOf("Observation", "preliminary", ""))
		if err != nil {
			t.Fatal(describe(err))
		}
		h.reads(anna, ok, "Observation/"+n.ID())
	})
	t.Run("the_policy_may_say_otherwise", func(t *testing.T) {
		id := h.begin("Observation", "preliminary")
		h.policy(`UPDATE security_label SET cleared = cleared || '{patient}' WHERE code = 'unreleased'`)
		h.reads(anna, ok, "Observation/"+id)
	})
}

func TestWithholding_is_a_label_with_a_reason_and_an_end(t *testing.T) {
	t.Parallel()
	h := newHospital(t)
	anna := patientApp("anna", "patient/*.rs")
	day := h.clock.Now().Add(24 * time.Hour).Format(time.RFC3339)
	for name, label := range map[string]string{"no_reason": withheld(" ", day), "no_end": strings.Replace(withheld("r", day), `,{"url":"until","valueDateTime":"`+day+`"}`, "", 1),
		"no_extension": `,"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"NOPAT"}]}`,
		"past":         withheld("r", "2020-01-01T00:00:00Z"), "years": withheld("r", "2040-01-01T00:00:00Z")} {
		if _, err := h.create(h.doc, bodyOf("Observation", "final", label)); fhir.KindOf(err) != fhir.BusinessRule && fhir.KindOf(err) != fhir.Unprocessable {
			t.Errorf("%s: %s", name, describe(err))
		}
	}
	_, err := h.create(patientApp("anna", "patient/*.cruds"), bodyOf("Observation", "final", withheld("r", day)))
	h.wantCode(err, fhir.BusinessRule, "withholding")

	// The database keeps time by its own clock.
	for name, c := range map[string]struct {
		until string
		want  fhir.Kind
	}{"withheld": {"9000-01-01T00:00:00Z", fhir.NotFound}, "over": {"2026-01-01T00:00:00Z", ok}} {
		t.Run(name, func(t *testing.T) {
			for _, typ := range []string{"Observation", "Condition", "DocumentReference"} {
				state := lifeOf(typ).States[len(lifeOf(typ).States)-2]
				h.n++
				id := fmt.Sprint("w", h.n)
				h.put(strings.Replace(bodyOf(typ, state, withheld("to be told in person", c.until)), "{", fmt.Sprintf(`{"id":%q,`, id), 1))
				h.reads(anna, c.want, typ+"/"+id)
				h.reads(h.doc, ok, typ+"/"+id)
				if got := h.found(anna, typ, "_id="+id); (got == "") != (c.want == fhir.NotFound) {
					t.Errorf("%s: found %q", typ, got)
				}
			}
		})
	}
	t.Run("released_early", func(t *testing.T) {
		h.put(strings.Replace(bodyOf("Observation", "final", withheld("to be told in person", "9000-01-01T00:00:00Z")), "{", `{"id":"early",`, 1))
		h.reads(anna, fhir.NotFound, "Observation/early")
		if err := h.change(h.doc, "early", bodyOf("Observation", "final", "")); err != nil {
			t.Fatal(describe(err))
		}
		if got := h.status(anna, Request{Interaction: Read, Type: "Observation", ID: "early"}); got != ok {
			t.Errorf("kind %d", got)
		}
	})
	t.Run("imported_by_copy", func(t *testing.T) {
		var entries []string
		for range minBulk {
			entries = append(entries, entryOf("", "POST", "Observation", bodyOf("Observation", "final", withheld("x", "9000-01-01T00:00:00Z"))))
		}
		made := post(t, h.Service, transactionOf(entries...))
		h.reads(anna, fhir.NotFound, "Observation/"+made[3].Response.Version.ID)
	})
}
