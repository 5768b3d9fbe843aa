package resources

import (
	"strings"
	"testing"

	"kiln/fhir"
)

func TestXProvenance(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	boss := admin("user/*.cruds")
	header := func() *fhir.Node {
		return parse(t, `{"resourceType":"Provenance","recorded":"2024-01-01T00:00:00Z","agent":[{"who":{"reference":"Practitioner/treats"}}]}`)
	}
	of := func(id string) []*fhir.Node {
		var list []*fhir.Node
		for _, e := range do(t, w.Service, Request{Interaction: SearchType, Type: "Provenance", Query: "target=" + id, Principal: boss}).Bundle.Entries {
			list = append(list, parse(t, string(e.Version.Content)))
		}
		return list
	}
	t.Run("tells_of_the_version_that_was_made", func(t *testing.T) {
		made := do(t, w.Service, Request{Interaction: Create, Type: "Patient", Body: parse(t, `{"resourceType":"Patient"}`), Provenance: header(), Principal: boss}).Version
		list := of("Patient/" + made.ID)
		if len(list) != 1 || list[0].At("target").GetText("reference") != "" && list[0].At("target", "reference") == nil {
			t.Fatalf("%d Provenances", len(list))
		}
		if got := list[0].At("target", "reference").Text; got != "Patient/"+made.ID+"/_history/1" {
			t.Errorf("of %s", got)
		}
	})
	t.Run("is_noted_too", func(t *testing.T) {
		before := w.entries()
		do(t, w.Service, Request{Interaction: Patch, Type: "Patient", ID: "ben", JSONPatch: []byte(`[{"op":"add","path":"/active","value":true}]`), Provenance: header(), Principal: boss})
		if n := w.entries() - before; n != 2 {
			t.Errorf("%d entries", n)
		}
		if len(of("Patient/ben")) != 1 {
			t.Error("not there")
		}
	})
	t.Run("of_a_transaction_has_all_targets", func(t *testing.T) {
		resp := do(t, w.Service, Request{Interaction: Transaction, Provenance: header(), Principal: boss, Body: parse(t, `{"resourceType":"Bundle","type":"transaction","entry":[
{"resource":{"resourceType":"Organization","name":"x"},"request":{"method":"POST","url":"Organization"}},
{"resource":{"resourceType":"Organization","name":"y"},"request":{"method":"POST","url":"Organization"}},{"request":{"method":"GET","url":"Patient/anna"}}]}`)})
		list := of("Organization/" + resp.Bundle.Entries[0].Response.Version.ID)
		if len(list) != 1 || len(list[0].Get("target").Kids) != 2 {
			t.Errorf("got %d", len(list))
		}
	})
	t.Run("what_is_wrong_with_it_undoes_the_write", func(t *testing.T) {
		for name, c := range map[string]struct {
			n    string
			r    Request
			want fhir.Kind
		}{
			"not granted": {`{"resourceType":"Provenance","agent":[{"who":{"display":"x"}}]}`, Request{Interaction: Update, Type: "Patient", ID: "anna", Principal: patientApp("anna", "patient/*.cruds"),
				Body: parse(t, `{"resourceType":"Patient","id":"anna","name":[{"family":"Apple"}],"language":"nb","generalPractitioner":[{"reference":"Practitioner/treats"}],"managingOrganization":{"reference":"Organization/clinic"}}`)}, fhir.Forbidden},
		} {
			c.r.Provenance = parse(t, c.n)
			if kind := w.status(c.r.Principal, c.r); kind != c.want {
				t.Errorf("%s: kind %d", name, kind)
			}
			if text := string(read(t, w.Service, "Patient", "anna").JSON()); strings.Contains(text, `"nb"`) {
				t.Errorf("%s: written nevertheless", name)
			}
		}
	})
	t.Run("without_a_change_there_is_none", func(t *testing.T) {
		body := read(t, w.Service, "Organization", "clinic")
		do(t, w.Service, Request{Interaction: Update, Type: "Organization", ID: "clinic", Body: body, Provenance: header(), Principal: boss})
		if n := len(of("Organization/clinic")); n != 0 {
			t.Errorf("%d", n)
		}
	})
}
