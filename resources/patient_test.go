package resources

import (
	"strings"
	"testing"

	"kiln/fhir"
)

// Domain 13.16: patients write their own Patient, but neither identifiers nor links; and nothing that says who they are.
func TestPatient_what_patients_write_of_themselves(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	me := `{"resourceType":"Patient","id":"carl","meta":{"tag":[{"system":"` + RegistrationSystem + `","code":"unverified"}]},"identifier":[{"value":"1"}],"active":true,"name":[{"family":"Cherry"}]%s}`
	body := func(text string) *fhir.Node { return parse(t, text) }
	w.put(replaced(me, "%s", ""))
	carl := patientApp("carl", "patient/*.cruds")
	for name, c := range map[string]struct {
		body string
		want fhir.Kind
	}{
		"address":      {replaced(me, "%s", `,"address":[{"city":"Oslo"}]`), ok},
		"name":         {replaced(me, "Cherry%s", "Berry"), ok},
		"identifier":   {replaced(me, `"value":"1"`, `"value":"2"`, "%s", ""), fhir.BusinessRule},
		"link":         {replaced(me, "%s", `,"link":[{"other":{"reference":"Patient/carl"},"type":"seealso"}]`), fhir.BusinessRule},
		"active":       {replaced(me, "true", "false", "%s", ""), fhir.BusinessRule},
		"practitioner": {replaced(me, "%s", `,"generalPractitioner":[{"reference":"Practitioner/stranger"}]`), ok}, // whom they go to is theirs to choose
		"deceased":     {replaced(me, "%s", `,"deceasedBoolean":true`), fhir.BusinessRule},
		"verification": {replaced(me, "unverified", "verified", "%s", ""), fhir.BusinessRule},
	} {
		r := Request{Principal: carl, Interaction: Update, Type: "Patient", ID: "carl", Body: body(replaced(c.body, "%s", ""))}
		if got := w.status(carl, r); got != c.want {
			t.Errorf("%s: kind %d, want %d", name, got, c.want)
		}
	}
	if got := w.status(admin("user/*.cruds"), Request{Interaction: Update, Type: "Patient", ID: "carl", Body: body(replaced(me, `"value":"1"`, `"value":"2"`, "%s", ""))}); got != ok {
		t.Errorf("staff: kind %d", got)
	}
}

func replaced(s string, pairs ...string) string { return strings.NewReplacer(pairs...).Replace(s) }
