package fhirpackage

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/auth"
	"kiln/conformance"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/resources"
	"kiln/server"
	"kiln/storage"
)

func searchParameter(id, version, code, base, kind, expression string) string {
	return fmt.Sprintf(`{"resourceType":"SearchParameter","id":%q,"url":"http://example.org/SearchParameter/%s","version":%q,"name":"x","status":"active",`+
		`"description":"x","code":%q,"base":[%q],"type":%q,"expression":%q}`, id, id, version, code, base, kind, expression)
}

// The SearchParameters of a package: what FHIR has already is left to it, what is new is found by, also in what was here before, and what
// cannot be used keeps out nothing else.
func TestSearchParameters(t *testing.T) {
	t.Parallel()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	const base = "http://localhost:8080/fhir"
	store, err := storage.Open(t.Context(), storage.Options{URL: kilntest.DB(t), Base: base, Registry: registry, Unrestricted: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	service, err := resources.New(resources.Options{Store: store, Registry: registry, Base: base, Lenient: true, Anonymous: auth.Operator("test")})
	if err != nil {
		t.Fatal(err)
	}
	put := func(typ, id, body string) {
		t.Helper()
		n, err := fhir.ParseJSON([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := service.Do(t.Context(), resources.Request{Interaction: resources.Update, Type: typ, ID: id, Body: n}); err != nil {
			t.Fatal(err)
		}
	}
	put("CareTeam", "old", `{"resourceType":"CareTeam","id":"old","participant":[{"role":[{"coding":[{"system":"http://snomed.info/sct","code":"17561000"}]}]}]}`)
	put("Condition", "old", `{"resourceType":"Condition","id":"old","subject":{"reference":"Patient/x"},"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/condition-assertedDate","valueDateTime":"2020-05-01"}]}`)
	install := func(version string, files ...string) Result {
		t.Helper()
		p, err := Read(packed(t, append([]string{"package/package.json", `{"name":"example.test","version":"` + version + `","fhirVersions":["4.0.1"]}`}, files...)...))
		if err != nil {
			t.Fatal(err)
		}
		r, err := Install(t.Context(), service, store, p)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	of := func(version string) []string {
		return []string{
			"package/same.json", searchParameter("same", version, "birthdate", "Patient", "date", "Patient.birthDate"),
			"package/part.json", searchParameter("part", version, "onset-date", "Condition", "date", "Condition.onset.as(dateTime)"),
			"package/id.json", searchParameter("id", version, "_id", "Patient", "token", "Patient.id"),
			"package/other.json", searchParameter("other", version, "death-date", "Patient", "date", "Patient.birthDate"),
			"package/kind.json", searchParameter("kind", version, "gender", "Patient", "string", "Patient.gender"),
			"package/nothing.json", searchParameter("nothing", version, "foot", "Patient", "token", "Patient.foot"),
			"package/composite.json", searchParameter("composite", version, "pair", "Patient", "composite", "Patient"),
			"package/role.json", searchParameter("role", version, "role", "CareTeam", "token", "CareTeam.participant.role"),
			"package/asserted.json", searchParameter("asserted", version, "asserted-date", "Condition", "date",
				"Condition.extension.where(url = 'http://hl7.org/fhir/StructureDefinition/condition-assertedDate').valueDateTime"),
		}
	}
	refused := func(r Result) (files []string) {
		for _, f := range r.Refused {
			if f.Reason == "" {
				t.Errorf("%s is refused without a reason", f.File)
			}
			files = append(files, f.File)
		}
		return files
	}
	no := []string{"other.json", "kind.json", "nothing.json", "composite.json"}
	r := install("1", of("1")...)
	if r.Stored != 2 || r.BuiltIn != 3 || r.Unchanged != 0 || !slices.Equal(refused(r), no) || !slices.Equal(r.Reindexed, []string{"CareTeam", "Condition"}) {
		t.Errorf("the first time: %+v", r)
	}
	jobs, err := store.Reindexes(t.Context(), 10)
	if err != nil || len(jobs) != 1 || jobs[0].Total != 2 && jobs[0].Status != "waiting" {
		t.Errorf("reindex jobs %+v, %v", jobs, err)
	}
	// The same again, also while the index is being built.
	if r := install("1", of("1")...); r.Stored != 0 || r.BuiltIn != 3 || r.Unchanged != 2 || !slices.Equal(refused(r), no) {
		t.Errorf("again: %+v", r)
	}
	if again, err := store.Reindexes(t.Context(), 10); err != nil || len(again) != len(jobs) {
		t.Errorf("reindex jobs %+v, %v", again, err)
	}
	capabilities := server.Capabilities(store.Registry, store.SupportedProfiles, store.Building, strings.TrimSuffix(base, "/fhir"), "test", nil, false, nil, time.Now)
	const unfinished = "resources from before it are not found by it"
	if content, _ := capabilities(); !strings.Contains(string(content), "http://example.org/SearchParameter/role") || !strings.Contains(string(content), unfinished) {
		t.Error("the CapabilityStatement does not say that role is being built")
	}

	working, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); store.Work(working, func(err error) { t.Error(err) }) }()
	patience, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for ready := false; !ready; {
		states, err := store.ParameterStates(patience)
		if err != nil {
			t.Fatalf("%v: %+v", err, states)
		}
		ready = len(states) == 2 && !slices.ContainsFunc(states, func(s storage.ParameterState) bool { return !s.Ready })
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	<-done
	if err := store.RefreshParameters(t.Context()); err != nil {
		t.Fatal(err)
	}
	if content, _ := capabilities(); !strings.Contains(string(content), "http://example.org/SearchParameter/role") || strings.Contains(string(content), unfinished) {
		t.Error("the CapabilityStatement does not say that role is built")
	}
	describe := server.Descriptions(store.Registry, strings.TrimSuffix(base, "/fhir"), "test", nil, nil)
	if doc, ok := describe("CareTeam"); !ok || !strings.Contains(string(doc), `"role"`) {
		t.Error("the description of CareTeam does not have role")
	}
	for typ, query := range map[string]string{"CareTeam": "role=http://snomed.info/sct|17561000", "Condition": "asserted-date=2020-05"} {
		resp, err := service.Do(t.Context(), resources.Request{Interaction: resources.SearchType, Type: typ, Query: query})
		if err != nil || len(resp.Bundle.Entries) != 1 || resp.Bundle.Entries[0].Version.ID != "old" {
			t.Errorf("%s?%s: %+v, %v", typ, query, resp, err)
		}
	}
	before, err := store.ParameterStates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r := install("1", of("1")...); r.Stored != 0 || r.Unchanged != 2 || r.Reindexed != nil {
		t.Errorf("once it is built: %+v", r)
	}
	// Another version that says the same stands for nothing new; one that says something else under the same URL is refused.
	other := of("2")
	if r := install("2", other...); r.Stored != 0 || r.Unchanged != 2 || r.Reindexed != nil || !slices.Equal(refused(r), no) {
		t.Errorf("another version: %+v", r)
	}
	if r := install("3", "package/role.json", searchParameter("role", "3", "role", "CareTeam", "token", "CareTeam.category")); r.Stored != 0 || len(r.Refused) != 1 ||
		!strings.Contains(r.Refused[0].Reason, "CareTeam.participant.role") {
		t.Errorf("another meaning: %+v", r)
	}
	if after, err := store.ParameterStates(t.Context()); err != nil || !reflect.DeepEqual(after, before) {
		t.Errorf("after installing what was here: %v, %v; before: %v", after, err, before)
	}
	list, err := store.Packages(t.Context())
	if err != nil || len(list) != 3 || list[0].Resources != 2 || list[1].Resources != 2 || list[2].Resources != 0 {
		t.Errorf("packages %+v, %v", list, err)
	}
}
