package leak

import (
	"context"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/conformance"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/resources"
	"kiln/storage"
	"kiln/storage/terminology"
)

// defined makes databases that hold the built-in definitions, as those of servers do.
var defined = kilntest.Filled(func() (string, error) {
	return "leak " + terminology.Form + " " + conformance.DefinitionsHash() + " " + conformance.PublishedHash(), nil
}, func(ctx context.Context, url string) error {
	registry, err := conformance.R4()
	if err != nil {
		return err
	}
	store, err := storage.Open(ctx, storage.Options{URL: url, Base: base, Registry: registry, PoolSize: 2})
	if err != nil {
		return err
	}
	defer store.Close()
	outcome := make(chan error, 1)
	store.StartTerminology(ctx, func(bool, error) {})
	store.StartDefinitions(ctx, func(_ bool, err error) { outcome <- err })
	return <-outcome
})

// Built-in definitions are public where their type may be read, and of no other type does an operation tell which there
// are.
func TestVerify_with_definitions(t *testing.T) {
	t.Parallel()
	url := defined(t)
	s, store := open(t, url, nil, true, "")
	defer store.Close()
	registry := store.Registry()
	put := func(typ, id, text string) {
		t.Helper()
		n, err := fhir.ParseJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Do(t.Context(), resources.Request{Interaction: resources.Update, Type: typ, ID: id, Body: n}); err != nil {
			t.Fatal(describe(err))
		}
	}
	put("Patient", "a", `{"resourceType":"Patient","id":"a","name":[{"family":"Amber"}]}`)
	const set = `{"resourceType":"ValueSet","id":"ours","url":"http://x/ours","status":"active","compose":{"include":[{"system":"http://hl7.org/fhir/administrative-gender"}]}`
	put("ValueSet", "ours", set+`}`)
	put("ValueSet", "secret", strings.NewReplacer("ours", "secret").Replace(set)+`,"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"V"}]}}`)

	world, err := Sample(t.Context(), s, registry, base, 1)
	if err != nil {
		t.Fatal(err)
	}
	report, err := Verify(t.Context(), s, world, Options{Seed: *seed, Callers: 4, Requests: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		t.Errorf("%s\n  %s\n  %s", f.Caller, f.Ask, f.Problem)
	}

	ask := func(typ, id, code string, params ...string) Ask {
		return Ask{Request: resources.Request{Interaction: resources.Operate, Operation: code, Type: typ, ID: id, Safe: true}, Params: fixed(params...)}
	}
	const gender = "http://hl7.org/fhir/administrative-gender"
	asks := []Ask{
		ask("ValueSet", "administrative-gender", "expand"),
		ask("ValueSet", "administrative-gender", "validate-code", "system="+gender, "code=male"),
		ask("CodeSystem", "administrative-gender", "validate-code", "code=male"),
		ask("CodeSystem", "administrative-gender", "subsumes", "codeA=male", "codeB=female"),
		ask("ConceptMap", "cm-administrative-gender-v3", "translate", "system="+gender, "code=male"),
		ask("ValueSet", "ours", "expand"),
		ask("ValueSet", "secret", "expand"),
	}
	for _, scope := range []string{"user/AuditEvent.rs user/StructureDefinition.rs", "user/ValueSet.rs?status=draft user/CodeSystem.rs?status=retired", "user/*.rs"} {
		who := Caller{scope, auth.Principal{User: "u", Client: "app", Roles: []auth.Role{auth.RoleAdmin}, Scopes: scopes(scope)}}
		v := &session{service: s, world: world, who: who, report: &Report{}, reads: map[string]bool{}}
		for _, a := range asks {
			if problem, err := v.check(t.Context(), a); err != nil || problem != "" {
				t.Errorf("%s: %s: %s %v", scope, a, problem, err)
			}
			_, err := v.as(t.Context(), who, a)
			granted := strings.Contains(scope, "*") || strings.Contains(scope, a.Type)
			if (fhir.KindOf(err) == fhir.Forbidden && err != nil) == granted {
				t.Errorf("%s: %s: %v", scope, a, err)
			}
			if scope == "user/*.rs" && (err == nil) == (a.ID == "secret") {
				t.Errorf("%s: %s: %v", scope, a, err)
			}
		}
		// By url, what is stored and hidden looks as what is not there.
		var answers []string
		for _, name := range []string{"secret", "absent"} {
			a := ask("ValueSet", "", "expand", "url=http://x/"+name)
			resp, err := v.as(t.Context(), who, a)
			answers = append(answers, strings.ReplaceAll(Answer(resp, err), name, "…"))
		}
		if answers[0] != answers[1] {
			t.Errorf("%s: a hidden set by its url: %s", scope, answers[0])
		}
	}
}
