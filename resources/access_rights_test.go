package resources

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
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

// What holds without a Consent changes for who has asked before, too.
func TestAccess_the_default_of_consent_changes(t *testing.T) {
	t.Parallel()
	var url string
	w := newWard(t, func(_ *Options, so *storage.Options) { url = so.URL })
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	who := doctor("treats", "user/*.rs")
	for _, now := range []struct {
		holds string
		want  fhir.Kind
	}{{"permit", ok}, {"deny", fhir.NotFound}, {"permit", ok}} {
		if _, err := conn.Exec(t.Context(), `UPDATE access_state SET consent_default = $1`, now.holds); err != nil {
			t.Fatal(err)
		}
		if err := w.store.RefreshParameters(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.reads(who, now.want, "Observation/a1")
	}
}

// Rights that were worked out while the policy changed are not kept as those of the new one.
func TestRights_of_a_policy_that_is_over(t *testing.T) {
	t.Parallel()
	was, is := rightsState{policy: &auth.Policy{}, rules: 1}, rightsState{policy: &auth.Policy{}, rules: 2}
	c := &rightsCache{}
	c.keep(was, true, "a", &rights{})
	c.keep(was, false, "b", &rights{})
	c.keep(is, true, "a", &rights{})
	c.keep(was, false, "b", &rights{})
	if c.of != is || c.known["a"] == nil || len(c.known) != 1 {
		t.Errorf("rights of %d callers are known, of state %d", len(c.known), c.of.rules)
	}
}
