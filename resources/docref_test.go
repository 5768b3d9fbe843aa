package resources

import (
	"fmt"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
)

func TestDocref(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	document := func(id, patient, more string) {
		w.put(fmt.Sprintf(`{"resourceType":"DocumentReference","id":%q,"status":"current","subject":{"reference":"Patient/%s"},%s
			"content":[{"attachment":{"url":"https://archive.example.org/%[1]s"},"format":{"system":"urn:ietf:rfc:3986","code":"https://profiles.example.org/%[1]s"}}]}`, id, patient, more))
	}
	const ccd = `"type":{"coding":[{"system":"http://loinc.org","code":"34133-9"}]},`
	document("old", "anna", ccd+`"date":"2024-05-01T10:00:00Z","context":{"period":{"start":"2019-03-01","end":"2019-03-04"}},`)
	document("new", "anna", ccd+`"date":"2024-06-01T10:00:00Z",`)
	document("note", "anna", `"type":{"coding":[{"system":"http://loinc.org","code":"11506-3"}]},"date":"2024-04-01T10:00:00Z",`)
	document("bens", "ben", ccd+`"date":"2024-06-01T10:00:00Z",`)
	w.put(`{"resourceType":"DocumentReference","id":"wrong","status":"entered-in-error","subject":{"reference":"Patient/anna"},"content":[{"attachment":{"title":"x"}}]}`)
	coding := func(code string) string {
		return `{"resourceType":"Parameters","parameter":[{"name":"patient","valueId":"anna"},{"name":"type","valueCoding":{"system":"http://loinc.org","code":"` + code + `"}}]}`
	}
	anna := patientApp("anna", "patient/DocumentReference.s")
	for name, c := range map[string]struct {
		who               auth.Principal
		query, body, want string
	}{
		"all":                      {anna, "patient=anna", "", "new old note"},
		"of_a_type":                {anna, "patient=anna&type=http://loinc.org%7C34133-9", "", "new old"},
		"of_a_type_in_the_body":    {anna, "", coding("11506-3"), "note"},
		"of_two_types":             {anna, "patient=anna&type=http://loinc.org%7C34133-9&type=11506-3", "", "new old note"},
		"of_no_type_there_is":      {anna, "patient=anna&type=a%2Cb", "", ""},
		"of_a_profile":             {anna, "patient=anna&profile=https://profiles.example.org/note", "", "note"},
		"care_since":               {anna, "patient=anna&start=2024-04-15T00:00:00Z", "", "new"},
		"care_until":               {anna, "patient=anna&end=2020-01-01", "", "old"},
		"care_between":             {anna, "patient=anna&start=2019-03-02&end=2024-04-15", "", "old note"},
		"made_when_asked_for":      {anna, "patient=anna&on-demand=true", "", ""},
		"of_nobody":                {anna, "patient=nobody", "", ""},
		"of_another":               {anna, "patient=ben", "", ""},
		"for_who_treats":           {doctor("treats", "user/DocumentReference.rs"), "patient=anna", "", "new old note"},
		"for_a_stranger":           {doctor("stranger", "user/DocumentReference.rs"), "patient=anna", "", ""},
		"of_one_type_by_the_token": {patientApp("anna", "patient/DocumentReference.rs?type=http://loinc.org|11506-3"), "patient=anna", "", "note"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Request{Principal: c.who, Interaction: Operate, Operation: "docref", Type: "DocumentReference", Query: c.query, Safe: c.body == ""}
			if c.body != "" {
				r.Body = parse(t, c.body)
			}
			b := do(t, w.Service, r).Bundle
			var ids []string
			for _, e := range b.Entries {
				ids = append(ids, e.Version.ID)
			}
			if got := strings.Join(ids, " "); got != c.want || b.Type != "searchset" {
				t.Errorf("found %q", got)
			}
		})
	}
	for name, r := range map[string]Request{
		"without_a_patient": {Principal: anna},
		"no_code":           {Principal: anna, Query: "patient=anna&type=urn:x%7C"},
		"not_a_date":        {Principal: anna, Query: "patient=anna&start=yesterday"},
	} {
		r.Interaction, r.Operation, r.Type = Operate, "docref", "DocumentReference"
		if got := w.status(r.Principal, r); got != fhir.Invalid {
			t.Errorf("%s: kind %d", name, got)
		}
	}
	if got := w.status(patientApp("anna", "patient/DocumentReference.r patient/Patient.rs"), Request{Interaction: Operate, Operation: "docref", Type: "DocumentReference", Query: "patient=anna"}); got != fhir.Forbidden {
		t.Errorf("without the right to search: kind %d", got)
	}
}
