package resources

import (
	"strings"
	"testing"
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
