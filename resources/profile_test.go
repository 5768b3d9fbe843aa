package resources

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/storage"
)

// checked gives a Service the validator that the server has.
func checked(t testing.TB) func(*Options, *storage.Options) {
	return func(o *Options, _ *storage.Options) {
		v, err := validate.New(o.Registry, validate.Options{Invariants: true})
		if err != nil {
			t.Fatal(err)
		}
		o.Validate = v.Resource
	}
}

func definition(id, url, more string, elements ...string) string {
	return fmt.Sprintf(`{"resourceType":"StructureDefinition","id":%q,"url":%q,"name":"X","status":"active","kind":"resource","abstract":false,
		"type":"Patient","baseDefinition":"http://hl7.org/fhir/StructureDefinition/Patient","derivation":"constraint"%s,
		"differential":{"element":[{"id":"Patient","path":"Patient"},%s]}}`, id, url, more, strings.Join(elements, ","))
}

const (
	bornURL    = "http://example.org/born"
	birthday   = `{"id":"Patient.birthDate","path":"Patient.birthDate","min":1}`
	supported  = `{"id":"Patient.gender","path":"Patient.gender","mustSupport":true}`
	boundURL   = "http://example.org/bound"
	bound      = `{"id":"Patient.maritalStatus","path":"Patient.maritalStatus","min":1,"binding":{"strength":"required","valueSet":"http://example.org/vs"}}`
	claims     = `{"resourceType":"Patient","id":"p","meta":{"profile":["` + bornURL + `"]},"active":true%s}`
	brokenPath = `{"id":"Patient.wings","path":"Patient.wings","min":1}`
)

func claiming(more string) string { return fmt.Sprintf(claims, more) }

func update(t testing.TB, body string) Request {
	n := parse(t, body)
	return Request{Interaction: Update, Type: n.ResourceType(), ID: n.ID(), Body: n}
}

func detailed(issues []fhir.Issue) (list []string) {
	for _, i := range issues {
		list = append(list, strings.TrimSpace(i.Severity+" "+i.Detail+" "+strings.Join(i.Expression, ",")))
	}
	return list
}

func TestProfileIsEnforcedFromItsPostOn(t *testing.T) {
	t.Parallel()
	s := newService(t, checked(t))
	resp := do(t, s, update(t, claiming("")))
	if got := detailed(resp.Issues); len(got) != 1 || got[0] != "warning profile-unknown Patient" {
		t.Fatalf("an unknown profile: %v", got)
	}
	put(t, s, definition("born", bornURL, "", birthday, supported))
	const missing = "[error required Patient]"
	if e := refused(t, s, fhir.Unprocessable, update(t, claiming(`,"language":"en"`))); fmt.Sprint(detailed(e.Issues)) != missing {
		t.Errorf("update: %v", detailed(e.Issues))
	}
	n := parse(t, claiming(""))
	if e := refused(t, s, fhir.Unprocessable, Request{Interaction: Create, Type: "Patient", Body: n}); fmt.Sprint(detailed(e.Issues)) != missing {
		t.Errorf("create: %v", detailed(e.Issues))
	}
	refused(t, s, fhir.Unprocessable, Request{Interaction: Transaction, Body: parse(t, `{"resourceType":"Bundle","type":"transaction","entry":[
		{"resource":`+claiming("")+`,"request":{"method":"POST","url":"Patient"}}]}`)})
	patch := parse(t, `{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"replace"},
		{"name":"path","valueString":"Patient.active"},{"name":"value","valueBoolean":false}]}]}`)
	refused(t, s, fhir.Unprocessable, Request{Interaction: Patch, Type: "Patient", ID: "p", Body: patch})
	do(t, s, update(t, claiming(`,"birthDate":"1984-07-02"`)))
	do(t, s, update(t, `{"resourceType":"Patient","id":"q","active":true}`))

	put(t, s, strings.Replace(definition("born", bornURL, "", birthday), `"active"`, `"retired"`, 1))
	if got := detailed(do(t, s, update(t, claiming(""))).Issues); len(got) != 1 || got[0] != "warning profile-unknown Patient" {
		t.Errorf("after it is retired: %v", got)
	}
	put(t, s, definition("born", bornURL, "", birthday))
	refused(t, s, fhir.Unprocessable, update(t, claiming(`,"language":"de"`)))
	do(t, s, Request{Interaction: Delete, Type: "StructureDefinition", ID: "born"})
	do(t, s, update(t, claiming(`,"language":"de"`)))
}

func TestProfileReachesOtherServers(t *testing.T) {
	t.Parallel()
	var url string
	s := newService(t, checked(t), func(_ *Options, so *storage.Options) { url = so.URL })
	other := newService(t, checked(t), func(_ *Options, so *storage.Options) { so.URL = url })
	do(t, other, update(t, claiming("")))
	put(t, s, definition("born", bornURL, "", birthday))
	if err := other.store.RefreshParameters(t.Context()); err != nil { // what the watch does every two seconds
		t.Fatal(err)
	}
	refused(t, other, fhir.Unprocessable, update(t, claiming(`,"language":"en"`)))
}

func TestLatestVersionOfAProfileHoldsUnlessOneIsNamed(t *testing.T) {
	t.Parallel()
	s := newService(t, checked(t))
	put(t, s, definition("a", bornURL, `,"version":"2.10.0"`, birthday))
	put(t, s, definition("b", bornURL, `,"version":"2.9.0"`, supported))
	refused(t, s, fhir.Unprocessable, update(t, claiming("")))
	do(t, s, update(t, strings.Replace(claiming(""), bornURL, bornURL+"|2.9.0", 1)))
	refused(t, s, fhir.Unprocessable, update(t, strings.Replace(claiming(""), bornURL, bornURL+"|2.10.0", 1)))
	resp := do(t, s, update(t, strings.Replace(claiming(""), bornURL, bornURL+"|3.0.0", 1)))
	if got := detailed(resp.Issues); len(got) != 1 || got[0] != "warning profile-unknown Patient" {
		t.Errorf("a version that is not here: %v", got)
	}
}

func TestProfileThatCannotBeUsedIsRefused(t *testing.T) {
	t.Parallel()
	s := newService(t, checked(t))
	e := refused(t, s, fhir.Unprocessable, update(t, definition("x", "http://example.org/x", "", birthday, brokenPath)))
	if got := fmt.Sprint(detailed(e.Issues)); !strings.Contains(got, "StructureDefinition.differential.element[2].path") {
		t.Errorf("it says %v", got)
	}
	resp := do(t, s, Request{Interaction: Operate, Type: "StructureDefinition", Operation: "validate",
		Body: parse(t, definition("x", "http://example.org/x", "", brokenPath))})
	if got := fmt.Sprint(detailed(resp.Issues)); !strings.Contains(got, "error  StructureDefinition.differential.element[1].path") {
		t.Errorf("$validate says %v", got)
	}
	// FHIR's own definitions are not replaced, and labelled ones check nobody.
	put(t, s, definition("patient", "http://hl7.org/fhir/StructureDefinition/Patient", "", birthday))
	put(t, s, definition("l", bornURL, `,"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"V"}]}`, birthday))
	do(t, s, update(t, claiming("")))
	do(t, s, update(t, strings.Replace(claiming(""), bornURL, "http://hl7.org/fhir/StructureDefinition/Patient", 1)))
}

func TestBindingsOfProfilesAreAskedOfTheTables(t *testing.T) {
	t.Parallel()
	s := newService(t, checked(t))
	put(t, s, definition("bound", boundURL, "", bound))
	body := func(code string) string {
		return `{"resourceType":"Patient","id":"p","meta":{"profile":["` + boundURL + `"]},"maritalStatus":{"coding":[{"system":"http://example.org/cs","code":"` + code + `"}]}}`
	}
	if got := detailed(do(t, s, update(t, body("z"))).Issues); len(got) != 1 || got[0] != "warning binding-unchecked Patient.maritalStatus" {
		t.Errorf("a value set that is not here: %v", got)
	}
	put(t, s, `{"resourceType":"CodeSystem","id":"cs","url":"http://example.org/cs","status":"active","content":"complete","concept":[{"code":"a"},{"code":"b"}]}`)
	put(t, s, `{"resourceType":"ValueSet","id":"vs","url":"http://example.org/vs","status":"active","compose":{"include":[{"system":"http://example.org/cs"}]}}`)
	do(t, s, update(t, body("a")))
	if e := refused(t, s, fhir.Unprocessable, update(t, body("z"))); detailed(e.Issues)[0] != "error binding Patient.maritalStatus" {
		t.Errorf("a wrong code: %v", detailed(e.Issues))
	}
}

func TestValidateWithProfileStoresNothing(t *testing.T) {
	t.Parallel()
	s := newService(t, checked(t))
	put(t, s, definition("born", bornURL, "", birthday, supported))
	ask := func(resource, profile string) string {
		resp := do(t, s, Request{Interaction: Operate, Type: "Patient", Operation: "validate", Body: parse(t, `{"resourceType":"Parameters","parameter":[
			{"name":"resource","resource":`+resource+`},{"name":"profile","valueUri":"`+profile+`"}]}`)})
		return fmt.Sprint(detailed(resp.Issues))
	}
	const bare = `{"resourceType":"Patient","active":true}`
	if got := ask(bare, bornURL); got != "[error required Patient information must-support Patient]" {
		t.Error(got)
	}
	if got := ask(bare, "http://example.org/none"); got != "[error profile-unknown Patient]" {
		t.Error(got)
	}
	if got := ask(bare, "http://hl7.org/fhir/StructureDefinition/Patient"); got != "[]" {
		t.Error(got)
	}
	if got := ask(`{"resourceType":"Patient","birthDate":"1984","gender":"other"}`, bornURL); got != "[]" {
		t.Error(got)
	}
	if n := count(t, s, "Patient"); n != 0 {
		t.Errorf("$validate stored %d patients", n)
	}
}

// Each of these holds a connection when it comes to know which definitions it needs.
func TestPatchesOnAPoolOfTwoDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	s := newService(t, checked(t), func(_ *Options, so *storage.Options) { so.PoolSize = 2 })
	put(t, s, definition("bound", boundURL, "", bound))
	for i := range 8 {
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","active":true}`, i))
	}
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			patch := parse(t, `{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"add"},
				{"name":"path","valueString":"Patient"},{"name":"name","valueString":"meta"},{"name":"value","valueMeta":{"profile":["`+boundURL+`"]}}]}]}`)
			if _, err := s.Do(t.Context(), Request{Interaction: Patch, Type: "Patient", ID: fmt.Sprintf("p%d", i), Body: patch}); err != nil &&
				fhir.KindOf(err) == fhir.Transient {
				t.Errorf("%v", err)
			}
		})
	}
	work.Wait()
}

func TestLenientStoresAndWarns(t *testing.T) {
	t.Parallel()
	s := newService(t, checked(t), func(o *Options, _ *storage.Options) { o.Lenient = true })
	put(t, s, definition("born", bornURL, "", birthday))
	resp := do(t, s, update(t, claiming(`,"gender":"strange"`)))
	if got := fmt.Sprint(detailed(resp.Issues)); got != "[warning binding Patient.gender warning required Patient]" {
		t.Error(got)
	}
	if got := read(t, s, "Patient", "p").GetText("gender"); got != "strange" {
		t.Errorf("stored as %q", got)
	}
	refused(t, s, fhir.Unprocessable, update(t, claiming(`,"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><script>alert(1)</script></div>"}`)))
}
