package oauth_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/auth"
	"kiln/auth/oauth"
	"kiln/conformance"
	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/resources"
)

// The tests of this file are named after the numbers of design/smart.md that certification kits look at and that no
// other test stands for.

// put stores resources as an operator.
func (w *world) put(bodies ...string) {
	w.Helper()
	for _, text := range bodies {
		body, err := fhir.ParseJSON([]byte(text))
		if err != nil {
			w.Fatal(err)
		}
		if _, err := w.service.Do(w.Context(), resources.Request{
			Interaction: resources.Update, Type: body.GetText("resourceType"), ID: body.GetText("id"), Body: body, Principal: auth.Operator("test"),
		}); err != nil {
			w.Fatalf("%v: %s", err, text)
		}
	}
}

// ids are the resources of a Bundle that an answer is, as Type/id and sorted; nil for other answers.
func (r *response) ids() []string {
	var b struct {
		Entry []struct {
			Resource struct{ ResourceType, ID string }
		}
	}
	if r.StatusCode != 200 || json.Unmarshal([]byte(r.body), &b) != nil {
		return nil
	}
	list := []string{}
	for _, e := range b.Entry {
		list = append(list, e.Resource.ResourceType+"/"+e.Resource.ID)
	}
	slices.Sort(list)
	return list
}

func TestDiscovery_14_statement_is_valid_and_public(t *testing.T) {
	w := newWorld(t)
	r := w.get("/metadata", "", "Origin: https://app.example.org")
	m := r.json(t)
	formats, _ := m["format"].([]any)
	if r.StatusCode != 200 || m["resourceType"] != "CapabilityStatement" || m["fhirVersion"] != "4.0.1" || !slices.Contains(formats, any("application/fhir+json")) ||
		r.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%d %.300s", r.StatusCode, r.body)
	}
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	validator, err := validate.New(registry, validate.Options{Invariants: true})
	if err != nil {
		t.Fatal(err)
	}
	node, err := fhir.ParseJSON([]byte(r.body))
	if err != nil {
		t.Fatal(err)
	}
	for _, issue := range validator.Resource(node) {
		if issue.Severity != fhir.SeverityWarning && issue.Severity != fhir.SeverityInformation {
			t.Errorf("the statement is not valid: %+v", issue)
		}
	}
}

func TestAuthorize_17_unknown_parameters_break_nothing(t *testing.T) {
	w := newWorld(t)
	w.code("ada", "", w.request("public", "launch/patient patient/Patient.rs", "ui_locales", "no", "acr_values", "x", "vendor_extra", "1"))
}

// usCoreTypes are those that US Core asks for with patient scopes, up to 7.0.0.
var usCoreTypes = strings.Fields("AllergyIntolerance CarePlan CareTeam Condition Device DiagnosticReport DocumentReference Goal Immunization Medication MedicationRequest " +
	"Observation Patient Procedure Provenance Encounter Coverage Specimen MedicationDispense RelatedPerson ServiceRequest Location Organization Practitioner")

func TestScopes_51_52_54_62_come_back_as_asked(t *testing.T) {
	w := newWorld(t)
	for _, form := range []string{".rs", ".read"} {
		asked := []string{"launch/patient", "openid", "fhirUser", "offline_access"}
		for _, typ := range usCoreTypes {
			asked = append(asked, "patient/"+typ+form)
		}
		m := w.tokens("ada", "", strings.Join(asked, " "))
		if m["scope"] != strings.Join(asked, " ") {
			t.Errorf("granted %v", m["scope"])
		}
		for _, typ := range usCoreTypes {
			if r := w.get("/"+typ+"?_count=1", m["access_token"].(string)); r.StatusCode != 200 {
				t.Errorf("%s: %d %s", typ, r.StatusCode, r.body)
			}
		}
	}
	request := w.request("secret", "launch openid fhirUser offline_access user/Patient.rs user/Condition.rs", "launch", w.launchValue("secret", "greta", "p1", ""))
	if m := w.token(exchange(w.code("greta", "", request)), basicSecret).json(t); m["scope"] != request.Get("scope") {
		t.Errorf("in an EHR launch: %v", m["scope"])
	}
}

func TestLaunch_40_patient_in_context_is_readable(t *testing.T) {
	w := newWorld(t)
	for user, patient := range map[string]string{"ada": "p1", "greta": "p2"} {
		m := w.tokens(user, patient, "launch/patient openid fhirUser patient/Patient.rs")
		if m["patient"] != patient {
			t.Fatalf("%v", m)
		}
		if r := w.get("/Patient/"+patient, m["access_token"].(string)); r.StatusCode != 200 || r.json(t)["resourceType"] != "Patient" {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	}
}

func TestLaunch_46_49_fhirContext_only_for_an_appointment(t *testing.T) {
	w := newWorld(t)
	answer := func(appointment string) map[string]any {
		greta, err := w.identity.AccountNamed(t.Context(), "greta")
		if err != nil {
			t.Fatal(err)
		}
		value, err := oauth.AddLaunch(t.Context(), w.identity, oauth.Launch{Client: "secret", Account: greta.ID, Patient: "p1", Appointment: appointment}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		request := w.request("secret", "launch patient/Patient.rs", "launch", value)
		return w.token(exchange(w.code("greta", "", request)), basicSecret).json(t)
	}
	if _, there := answer("")["fhirContext"]; there {
		t.Error("fhirContext where there is nothing to tell")
	}
	list, _ := answer("visit-7")["fhirContext"].([]any)
	if len(list) != 1 || list[0].(map[string]any)["reference"] != "Appointment/visit-7" {
		t.Errorf("fhirContext %v", list)
	}
}

func TestConsent_56_what_was_denied_is_403(t *testing.T) {
	w := newWorld(t)
	m := w.tokens("ada", "", "launch/patient patient/Patient.rs patient/Condition.rs patient/Observation.rs patient/Encounter.rs", without("", "2"), without("", "3"))
	if m["scope"] != "launch/patient patient/Patient.rs patient/Encounter.rs" {
		t.Fatalf("granted %v", m["scope"])
	}
	token := m["access_token"].(string)
	for typ, want := range map[string]int{"Encounter": 200, "Condition": 403, "Observation": 403, "Immunization": 403} {
		for _, r := range []*response{
			w.get("/"+typ+"?patient=p1", token),
			w.send(nil, http.MethodPost, "/fhir/"+typ+"/_search", url.Values{"patient": {"p1"}}, "Authorization: Bearer "+token),
		} {
			if r.StatusCode != want || want == 403 && r.json(t)["resourceType"] != "OperationOutcome" {
				t.Errorf("%s: %d %s", typ, r.StatusCode, r.body)
			}
		}
	}
	if r := w.get("/Condition/c1", token); r.StatusCode != 403 {
		t.Errorf("read: %d", r.StatusCode)
	}
}

func TestGranular_59_60_find_their_kinds_and_no_others(t *testing.T) {
	w := newWorld(t)
	observation := func(id, system, code string) string {
		return `{"resourceType":"Observation","id":"` + id + `","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p1"},"category":[{"coding":[{"system":"` + system + `","code":"` + code + `"}]}]}`
	}
	const observations, core = "http://terminology.hl7.org/CodeSystem/observation-category", "http://hl7.org/fhir/us/core/CodeSystem/us-core-category"
	w.put(observation("lab", observations, "laboratory"), observation("vital", observations, "vital-signs"), observation("sdoh", core, "sdoh"),
		observation("survey", observations, "survey"), observation("other-system", "urn:x", "laboratory"))
	m := w.tokens("ada", "", "launch/patient patient/Patient.rs patient/Condition.rs?category="+category+"problem-list-item "+
		"patient/Observation.rs?category="+observations+"|laboratory patient/Observation.rs?category="+core+"|sdoh")
	token := m["access_token"].(string)
	for query, want := range map[string][]string{
		"/Condition?patient=p1":                              {"Condition/c1"},
		"/Condition?patient=p1&category=problem-list-item":   {"Condition/c1"},
		"/Condition?patient=p1&category=encounter-diagnosis": {},
		"/Observation?patient=p1":                            {"Observation/lab", "Observation/sdoh"},
		"/Observation?patient=p1&category=vital-signs":       {},
		"/Patient?_revinclude=Observation:patient":           {"Observation/lab", "Observation/sdoh", "Patient/p1"},
	} {
		if got := w.get(query, token).ids(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	for path, want := range map[string]int{"/Condition/c1": 200, "/Condition/c2": 404, "/Observation/lab": 200, "/Observation/sdoh": 200, "/Observation/vital": 404, "/Observation/survey": 404, "/Observation/other-system": 404} {
		r := w.get(path, token)
		if r.StatusCode != want || want != 200 && r.json(t)["resourceType"] != "OperationOutcome" {
			t.Errorf("%s: %d %s", path, r.StatusCode, r.body)
		}
	}
}

func TestOpenID_70_fhirUser_is_readable_from_other_origins(t *testing.T) {
	w := newWorld(t)
	m := w.tokens("greta", "p1", "openid fhirUser launch/patient patient/Condition.rs")
	claims := w.verify(m["id_token"].(string))
	r := w.send(nil, http.MethodGet, claims["fhirUser"].(string), nil, "Authorization: Bearer "+m["access_token"].(string), "Origin: https://app.example.org")
	if r.StatusCode != 200 || r.Header.Get("Access-Control-Allow-Origin") != "*" || r.json(t)["id"] != "dr" {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
}

func TestBackend_88_errors_are_json(t *testing.T) {
	w := newWorld(t)
	for name, f := range map[string]url.Values{
		"nothing":        {},
		"no_assertion":   {"grant_type": {"client_credentials"}, "scope": {"system/*.rs"}},
		"scope_missing":  backend(w.assertion("backend", "ES384"), ""),
		"unreadable":     backend("a.b", "system/*.rs"),
		"patient_scopes": backend(w.assertion("backend", "ES384"), "patient/*.rs"),
	} {
		r := w.token(f)
		m := r.json(t)
		code, _ := m["error"].(string)
		if r.StatusCode/100 != 4 || code == "" || r.Header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") || m["access_token"] != nil {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
	}
}

// TestResource_99_patient_scopes_stay_in_the_compartment asks in every way for what is another patient's.
func TestResource_99_patient_scopes_stay_in_the_compartment(t *testing.T) {
	w := newWorld(t)
	w.put(`{"resourceType":"Device","id":"implant","patient":{"reference":"Patient/p2"}}`, `{"resourceType":"Device","id":"own","patient":{"reference":"Patient/p1"}}`,
		`{"resourceType":"Task","id":"t2","status":"requested","intent":"order","for":{"reference":"Patient/p2"}}`,
		`{"resourceType":"Binary","id":"b2","contentType":"text/plain","data":"eA==","securityContext":{"reference":"Patient/p2"}}`,
		`{"resourceType":"Provenance","id":"pr2","recorded":"2026-01-01T00:00:00Z","target":[{"reference":"Condition/c3"}],"agent":[{"who":{"reference":"Practitioner/dr"}}]}`,
		`{"resourceType":"Patient","id":"p3","name":[{"family":"Twin"}],"link":[{"other":{"reference":"Patient/p1"},"type":"seealso"}]}`)
	token := w.tokens("ada", "", "launch/patient patient/*.cruds")["access_token"].(string)
	for _, path := range []string{"/Patient/p2", "/Patient/p2/_history/1", "/Patient/p2/_history", "/Condition/c3", "/Device/implant", "/Task/t2", "/Binary/b2", "/Provenance/pr2",
		"/Patient/p2/Condition", "/Patient/p2/*", "/Patient/p2/$everything", "/Patient/p3"} { // 99a, and 99b: a link makes nobody the same
		if r := w.get(path, token); r.StatusCode != 404 && len(r.ids()) > 0 || r.StatusCode == 200 && r.ids() == nil {
			t.Errorf("%s: %d %s", path, r.StatusCode, r.body)
		}
	}
	for query, want := range map[string][]string{
		"/Condition":                             {"Condition/c1", "Condition/c2"},
		"/Condition?patient=p2":                  {},
		"/Condition?patient=p1,p2":               {"Condition/c1", "Condition/c2"},
		"/Condition?patient.name=smith":          {},
		"/Patient":                               {"Patient/p1"},
		"/Patient?name=smith":                    {},
		"/Patient?_has:Condition:patient:_id=c3": {},
		"/Practitioner?_id=dr&_revinclude=Patient:general-practitioner": {"Patient/p1", "Practitioner/dr"},
		"/Device":                               {"Device/own"},
		"/Task":                                 {},
		"/Provenance":                           {},
		"/Encounter?_include=Encounter:patient": {"Encounter/e1", "Patient/p1"},
	} {
		if got := w.get(query, token).ids(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	if r := w.send(nil, http.MethodPost, "/fhir/Condition/_search", url.Values{"patient": {"p2"}}, "Authorization: Bearer "+token); len(r.ids()) != 0 || r.StatusCode != 200 {
		t.Errorf("_search: %d %s", r.StatusCode, r.body)
	}
	// A paging link of somebody else's is of no use.
	greta := w.tokens("greta", "p1", "launch/patient user/*.rs")["access_token"].(string)
	var page struct {
		Link []struct{ Relation, URL string }
	}
	if err := json.Unmarshal([]byte(w.get("/Condition?_count=1", greta).body), &page); err != nil {
		t.Fatal(err)
	}
	next := ""
	for _, link := range page.Link {
		if link.Relation == "next" {
			next = link.URL
		}
	}
	if r := w.send(nil, http.MethodGet, next, nil, "Authorization: Bearer "+token); next == "" || r.StatusCode < 400 {
		t.Errorf("%s: %d %s", next, r.StatusCode, r.body)
	}
}

// fhir sends a FHIR body.
func (w *world) fhir(method, path, token, body string) *response {
	w.Helper()
	req, err := http.NewRequest(method, w.origin+"/fhir"+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/fhir+json")
	req.Header.Set("Authorization", "Bearer "+token)
	return w.do(req, nil)
}

func TestResource_100_102_103_writes(t *testing.T) {
	w := newWorld(t)
	own := w.tokens("ada", "", "launch/patient patient/*.cruds")["access_token"].(string)
	reading := w.tokens("ada", "", "launch/patient patient/*.rs")["access_token"].(string)
	asUser := w.tokens("ada", "", "user/*.rs")["access_token"].(string)
	coverage := func(id, patient string) string {
		return `{"resourceType":"Coverage","id":"` + id + `","status":"active","beneficiary":{"reference":"Patient/` + patient + `"},"payor":[{"reference":"Organization/o1"}]}`
	}
	w.put(coverage("own", "p1"), coverage("other", "p2"))
	for name, c := range map[string]struct {
		token, method, path, body string
		refused                   []int
	}{
		"103_read_only_creates": {reading, "POST", "/Coverage", coverage("own", "p1"), []int{403}},
		"103_read_only_updates": {reading, "PUT", "/Coverage/own", coverage("own", "p1"), []int{403}},
		"103_read_only_deletes": {reading, "DELETE", "/Coverage/own", "", []int{403}},
		"100_created_elsewhere": {own, "POST", "/Coverage", coverage("own", "p2"), []int{403, 404, 422}},
		"100_moved_out":         {own, "PUT", "/Coverage/own", coverage("own", "p2"), []int{403, 404, 422}},
		"100_moved_in":          {own, "PUT", "/Coverage/other", coverage("other", "p1"), []int{404}},
		"100_deleted_elsewhere": {own, "DELETE", "/Coverage/other", "", []int{403, 404}},
	} {
		r := w.fhir(c.method, c.path, c.token, c.body)
		if !slices.Contains(c.refused, r.StatusCode) || r.json(t)["resourceType"] != "OperationOutcome" {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
	}
	if r := w.fhir("PUT", "/Coverage/own", own, coverage("own", "p1")); r.StatusCode != 200 {
		t.Errorf("what is allowed: %d %s", r.StatusCode, r.body)
	}
	batch := w.fhir("POST", "/", own, `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Condition/c1"}},{"request":{"method":"GET","url":"Condition/c3"}},{"request":{"method":"GET","url":"Condition?patient=p2"}}]}`)
	var answer struct {
		Entry []struct {
			Response struct{ Status string }
			Resource struct{ Total *int }
		}
	}
	if err := json.Unmarshal([]byte(batch.body), &answer); err != nil || len(answer.Entry) != 3 || !strings.HasPrefix(answer.Entry[0].Response.Status, "200") ||
		!strings.HasPrefix(answer.Entry[1].Response.Status, "404") || answer.Entry[2].Resource.Total == nil || *answer.Entry[2].Resource.Total != 0 {
		t.Errorf("100, entry by entry: %d %s", batch.StatusCode, batch.body)
	}
	if got := w.get("/Condition", asUser).ids(); !slices.Equal(got, []string{"Condition/c1", "Condition/c2"}) {
		t.Errorf("102, a patient with user scopes: %v", got)
	}
	// 103: the right to one type opens no other by _include.
	narrow := w.tokens("ada", "", "launch/patient patient/Encounter.rs")["access_token"].(string)
	if got := w.get("/Encounter?_include=Encounter:patient&_revinclude=Condition:encounter", narrow).ids(); !slices.Equal(got, []string{"Encounter/e1"}) {
		t.Errorf("103, _include of a type that was not granted: %v", got)
	}
}

func TestResource_101_types_of_no_patient_are_open(t *testing.T) {
	w := newWorld(t)
	w.put(`{"resourceType":"Location","id":"l1","name":"Room"}`, `{"resourceType":"Medication","id":"m1","code":{"text":"x"}}`,
		`{"resourceType":"PractitionerRole","id":"r1","practitioner":{"reference":"Practitioner/dr"}}`)
	token := w.tokens("ada", "", "launch/patient patient/*.rs")["access_token"].(string)
	for _, key := range []string{"Practitioner/dr", "Organization/o1", "Location/l1", "Medication/m1", "PractitionerRole/r1"} {
		typ, id, _ := strings.Cut(key, "/")
		if r := w.get("/"+key, token); r.StatusCode != 200 {
			t.Errorf("%s: %d %s", key, r.StatusCode, r.body)
		}
		if got := w.get("/"+typ+"?_id="+id, token).ids(); !slices.Equal(got, []string{key}) {
			t.Errorf("%s: %v", typ, got)
		}
	}
}

// TestResource_98_tokens_of_another_server: two servers with the same secret and users, but each with its own database.
func TestResource_98_tokens_of_another_server(t *testing.T) {
	w := newWorld(t)
	other := makeWorld(t)
	m := other.tokens("ada", "", "openid fhirUser offline_access launch/patient patient/*.rs")
	for _, name := range []string{"access_token", "refresh_token", "id_token"} {
		token := m[name].(string)
		if r := w.get("/Patient/p1", token); r.StatusCode != 401 || !strings.Contains(r.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
		}
		if r := w.send(nil, http.MethodPost, "/auth/introspect", url.Values{"token": {token}}, basicSecret); r.StatusCode != 200 || r.body != `{"active":false}` {
			t.Errorf("%s, introspected: %d %s", name, r.StatusCode, r.body)
		}
	}
	if r := w.token(refreshing(m["refresh_token"])); r.StatusCode != 400 && r.StatusCode != 401 {
		t.Errorf("refreshing: %d %s", r.StatusCode, r.body)
	}
	code := other.code("ada", "", other.request("public", "patient/Patient.rs"))
	if r := w.token(exchange(code, "client_id", "public")); r.StatusCode != 400 {
		t.Errorf("a code: %d %s", r.StatusCode, r.body)
	}
	if r := w.token(backend(other.assertion("backend", "ES384"), "system/*.rs")); r.StatusCode != 401 && r.StatusCode != 400 { // for another aud
		t.Errorf("an assertion: %d %s", r.StatusCode, r.body)
	}
}
