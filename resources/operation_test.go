package resources

import (
	"strings"
	"testing"

	"kiln/auth"
	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/storage"
)

func TestOperations(t *testing.T) {
	t.Parallel()
	s := newService(t)
	call := func(code, typ, id, query, body string) Request {
		r := Request{Interaction: Operate, Operation: code, Type: typ, ID: id, Query: query}
		if body != "" {
			r.Body = parse(t, body)
		}
		return r
	}
	t.Run("every_definition_on_offer_can_be_read_and_is_called_somewhere", func(t *testing.T) {
		for _, o := range s.Operations() {
			if len(places(o)) == 0 || o.Code == "" || o.URL == "" {
				t.Errorf("%s is offered nowhere", o.ID)
			}
		}
	})
	t.Run("answer_of_several_parameters", func(t *testing.T) {
		resp := do(t, s, call("reindex-status", "", "", "", ""))
		if resp.Resource.ResourceType() != "Parameters" {
			t.Fatalf("got %s", resp.Resource.JSON())
		}
	})
	t.Run("arguments_in_url_and_body", func(t *testing.T) {
		resp := do(t, s, call("reindex", "", "", "type=Patient", `{"resourceType":"Parameters","parameter":[{"name":"type","valueCode":"Observation"},{"name":"all","valueBoolean":true}]}`))
		text := string(resp.Resource.JSON())
		if !resp.Accepted || !strings.Contains(text, `"Patient"`) || !strings.Contains(text, `"Observation"`) {
			t.Fatalf("got %s", text)
		}
	})
	for _, c := range []struct {
		rule string
		r    Request
		kind fhir.Kind
		want []string // the expressions
	}{
		{"unknown_operation", call("nothing", "", "", "", ""), fhir.NotFound, nil},
		{"at_another_level", call("reindex", "Patient", "", "", ""), fhir.NotFound, nil},
		{"unknown_argument_in_url", call("reindex", "", "", "types=Patient", ""), fhir.Invalid, []string{"http.types"}},
		{"unknown_argument_in_body", call("reindex", "", "", "", `{"resourceType":"Parameters","parameter":[{"name":"types","valueCode":"Patient"}]}`), fhir.Invalid, []string{"Parameters.parameter[0]"}},
		{"wrong_type", call("reindex", "", "", "", `{"resourceType":"Parameters","parameter":[{"name":"all","valueString":"true"}]}`), fhir.Invalid, []string{"Parameters.parameter[0]"}},
		{"two_of_one", call("reindex", "", "", "all=true&all=false", ""), fhir.Invalid, []string{"Parameters"}},
		{"no_boolean", call("reindex", "", "", "all=yes", ""), fhir.Invalid, []string{"http.all"}},
		{"no_value", call("reindex", "", "", "", `{"resourceType":"Parameters","parameter":[{"name":"all"}]}`), fhir.Invalid, []string{"Parameters.parameter[0]"}},
		{"a_resource_where_none_is_taken", call("reindex", "", "", "", `{"resourceType":"Patient"}`), fhir.Invalid, []string{"resourceType"}},
		{"everything_wrong_at_once", call("reindex", "", "", "all=yes&x=1&type=", ""), fhir.Invalid, []string{"http.all", "http.x", "http.type"}},
		{"what_the_operation_itself_refuses", call("reindex", "", "", "type=Patients", ""), fhir.Invalid, []string{"http.type"}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			e := refused(t, s, c.kind, c.r)
			var got []string
			for _, issue := range e.Issues {
				got = append(got, issue.Expression...)
			}
			if strings.Join(got, " ") != strings.Join(c.want, " ") {
				t.Errorf("%s: at %v, want %v", describe(e), got, c.want)
			}
		})
	}
	t.Run("in_a_batch", func(t *testing.T) {
		entries := do(t, s, Request{Interaction: Batch, Body: parse(t, `{"resourceType":"Bundle","type":"batch","entry":[
			{"request":{"method":"GET","url":"$reindex-status"}},
			{"request":{"method":"POST","url":"$reindex"},"resource":{"resourceType":"Parameters","parameter":[{"name":"type","valueCode":"Patient"}]}},
			{"request":{"method":"GET","url":"$reindex"}},
			{"request":{"method":"POST","url":"Patient/1/$reindex"}}]}`)}).Bundle.Entries
		if entries[0].Err != nil || entries[0].Response.Resource == nil || entries[1].Err != nil || !entries[1].Response.Accepted {
			t.Errorf("%s; %s", describe(entries[0].Err), describe(entries[1].Err))
		}
		if fhir.KindOf(entries[2].Err) != fhir.MethodNotAllowed || fhir.KindOf(entries[3].Err) != fhir.NotFound {
			t.Errorf("%s; %s", describe(entries[2].Err), describe(entries[3].Err))
		}
	})
	t.Run("not_in_a_transaction", func(t *testing.T) {
		refused(t, s, fhir.NotSupported, Request{Interaction: Transaction, Body: parse(t, `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"POST","url":"$reindex"}}]}`)})
	})
}

// Arguments that are no valid Parameters are refused, wherever they come; what is in a resource that they carry is the
// operation's matter.
func TestOperations_take_valid_Parameters_only(t *testing.T) {
	t.Parallel()
	s := newService(t, checked(t))
	put(t, s, `{"resourceType":"Patient","id":"p","active":true}`)
	for _, r := range []Request{
		{Interaction: Operate, Operation: "meta", Type: "Patient", ID: "p", Body: parse(t, `{"resourceType":"Parameters","language":{}}`)},
		{Interaction: Patch, Type: "Patient", ID: "p", Body: parse(t, `{"resourceType":"Parameters","language":5}`)},
	} {
		e := refused(t, s, fhir.Invalid, r)
		if at := e.Issues[0].Expression; len(at) != 1 || at[0] != "Parameters.language" {
			t.Errorf("%s: %v", r.Interaction, e.Issues)
		}
	}
	resp := do(t, s, Request{Interaction: Operate, Operation: "validate", Type: "Patient",
		Body: parse(t, `{"resourceType":"Parameters","parameter":[{"name":"resource","resource":{"resourceType":"Patient","gender":"x"}}]}`)})
	if resp == nil {
		t.Error("a faulty resource to be validated was refused")
	}
}

// $validate tells what FHIR calls best practice; a write does not.
func TestValidate_tells_best_practice(t *testing.T) {
	t.Parallel()
	s := newService(t, checked(t), func(o *Options, _ *storage.Options) {
		v, err := validate.New(o.Registry, validate.Options{Invariants: true, BestPractice: true})
		if err != nil {
			t.Fatal(err)
		}
		o.Advise = v.Resource
	})
	const bare = `{"resourceType":"Patient","id":"p","active":true}`
	resp := do(t, s, Request{Interaction: Operate, Operation: "validate", Type: "Patient", Body: parse(t, bare)})
	if got := detailed(resp.Issues); len(got) != 1 || got[0] != "warning dom-6 Patient" {
		t.Errorf("$validate: %v", got)
	}
	if resp := do(t, s, update(t, bare)); len(resp.Issues) != 0 {
		t.Errorf("update: %v", detailed(resp.Issues))
	}
}

// TestMeta_in_use asks which labels a type, or the server, has, by several callers: each learns of what a search would find.
func TestMeta_in_use(t *testing.T) {
	t.Parallel()
	s := newService(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false })
	put(t, s, `{"resourceType":"Practitioner","id":"dr"}`)
	put(t, s, `{"resourceType":"Patient","id":"anna","meta":{"tag":[{"system":"urn:t","code":"one,two|three","display":"Annas"},{"code":"bare"}]},"generalPractitioner":[{"reference":"Practitioner/dr"}]}`)
	put(t, s, `{"resourceType":"Patient","id":"ben","meta":{"tag":[{"system":"urn:t","code":"bens"},{"code":"bare"}],"profile":["http://example.org/p|1"]}}`)
	put(t, s, `{"resourceType":"Patient","id":"cara","meta":{"tag":[{"system":"urn:t","code":"went"}]}}`)
	put(t, s, `{"resourceType":"Patient","id":"cara"}`)
	put(t, s, `{"resourceType":"Observation","id":"o","meta":{"security":[{"system":"urn:s","code":"anybody"}],"tag":[{"code":"bare"}]},"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/anna"}}`)
	do(t, s, Request{Interaction: Update, Type: "Patient", ID: "cara", Body: parse(t, `{"resourceType":"Patient","id":"cara","meta":{"tag":[{"system":"urn:t","code":"kept"}]}}`)})
	do(t, s, Request{Interaction: Delete, Type: "Patient", ID: "cara"})
	for _, c := range []struct {
		rule string
		who  auth.Principal
		typ  string
		want string
	}{
		{"of_a_type", auth.Principal{}, "Patient", `{"profile":["http://example.org/p|1"],"tag":[{"code":"bare"},{"code":"bens","system":"urn:t"},{"code":"one,two|three","system":"urn:t","display":"Annas"}]}`},
		{"of_another", auth.Principal{}, "Observation", `{"security":[{"code":"anybody","system":"urn:s"}],"tag":[{"code":"bare"}]}`},
		{"of_none", auth.Principal{}, "Slot", "none"},
		{"of_all", auth.Principal{}, "", ""},
		{"of_a_patient", patientApp("anna", "patient/*.rs"), "Patient", `{"tag":[{"code":"bare"},{"code":"one,two|three","system":"urn:t","display":"Annas"}]}`},
		{"of_a_practitioner", doctor("dr", "user/*.rs"), "Patient", `{"tag":[{"code":"bare"},{"code":"one,two|three","system":"urn:t","display":"Annas"}]}`},
		{"of_all_with_a_scope", patientApp("anna", "patient/Observation.rs"), "", `{"security":[{"code":"anybody","system":"urn:s"}],"tag":[{"code":"bare"}]}`},
	} {
		t.Run(c.rule, func(t *testing.T) {
			n := do(t, s, Request{Principal: c.who, Interaction: Operate, Operation: "meta", Type: c.typ, Safe: true}).Resource
			got := "none"
			for p := range n.Get("parameter").Items() {
				got = string(p.Get("valueMeta").JSON())
			}
			if c.rule == "of_all" {
				for _, part := range []string{"http://example.org/p|1", "urn:s", "bens"} {
					if !strings.Contains(got, part) {
						t.Errorf("%s is not in %s", part, got)
					}
				}
				return
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	refused(t, s, fhir.Forbidden, Request{Principal: patientApp("anna", "patient/Observation.rs"), Interaction: Operate, Operation: "meta", Type: "Patient", Safe: true})
	refused(t, s, fhir.NotFound, Request{Interaction: Operate, Operation: "meta", Type: "Nonsense", Safe: true})
}
