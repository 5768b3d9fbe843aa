package resources

import (
	"slices"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
)

// A scope for the patient in context leads no further because another goes beyond, whatever conditions either has: by no path.
func TestAccess_scopes_in_context_and_beyond(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	for _, id := range []string{"amy", "bob"} {
		w.put(`{"resourceType":"Patient","id":"` + id + `","generalPractitioner":[{"reference":"Practitioner/treats"}]}`)
		w.put(observation(id+"-l1", id, "laboratory", "final"))
		w.put(observation(id+"-v2", id, "vital-signs", "final"))
	}
	w.put(`{"resourceType":"DiagnosticReport","id":"report","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/bob"},"result":[{"reference":"Observation/bob-l1"},{"reference":"Observation/bob-v2"}]}`)
	all := []string{"amy-l1", "amy-v2", "bob-l1", "bob-v2"}
	for text, want := range map[string]string{
		"patient/Observation.rs?category=vital-signs user/Observation.rs?category=laboratory": "amy-l1 amy-v2 bob-l1",
		"patient/Observation.rs user/Observation.rs?category=laboratory":                      "amy-l1 amy-v2 bob-l1",
		"patient/Observation.rs?category=vital-signs user/Observation.rs":                     "amy-l1 amy-v2 bob-l1 bob-v2",
		"patient/Observation.rs?category=vital-signs":                                         "amy-v2",
	} {
		for _, who := range []auth.Principal{doctor("treats", text+" user/DiagnosticReport.rs"), admin(text + " user/DiagnosticReport.rs")} {
			who.Patient = "amy"
			visible := strings.Fields(want)
			for _, id := range all {
				kind := fhir.NotFound
				if slices.Contains(visible, id) {
					kind = ok
				}
				w.reads(who, kind, "Observation/"+id)
			}
			if got := strings.Fields(w.found(who, "Observation", "_id="+strings.Join(all, ","))); !sameSet(got, visible) {
				t.Errorf("%s finds %v, want %v", text, got, visible)
			}
			included := slices.DeleteFunc(slices.Clone(visible), func(id string) bool { return !strings.HasPrefix(id, "bob") })
			if got := strings.Fields(w.found(who, "DiagnosticReport", "_include=DiagnosticReport:result"))[1:]; !sameSet(got, included) {
				t.Errorf("%s includes %v, want %v", text, got, included)
			}
		}
	}
}
