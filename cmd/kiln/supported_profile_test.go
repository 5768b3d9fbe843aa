package main

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"kiln/internal/kilntest"
)

// supportedProfiles reads them from GET /metadata, by type.
func supportedProfiles(t *testing.T, origin string) map[string][]string {
	t.Helper()
	_, body := get(t, origin+"/fhir/metadata")
	var statement struct {
		Rest []struct {
			Resource []struct {
				Type             string
				SupportedProfile []string
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &statement); err != nil {
		t.Fatal(err)
	}
	byType := map[string][]string{}
	for _, r := range statement.Rest[0].Resource {
		if r.SupportedProfile != nil {
			byType[r.Type] = r.SupportedProfile
		}
	}
	return byType
}

// TestSmart_15_supported_profiles: the CapabilityStatement names the profiles that are installed, and one that a client
// stores from then on, and no others.
func TestSmart_15_supported_profiles(t *testing.T) {
	t.Parallel()
	db := "--database-url=" + startedDB(t)
	origin, stop := serve(t, db)
	defer stop()
	if got := supportedProfiles(t, origin); len(got) > 0 {
		t.Errorf("of an empty server: %v", got)
	}
	if a := send(t.Context(), http.MethodPut, origin+"/fhir/StructureDefinition/born", `{"resourceType":"StructureDefinition","id":"born","url":"https://example.org/born","name":"Born","status":"active","kind":"resource","abstract":false,"type":"Patient",
		"baseDefinition":"http://hl7.org/fhir/StructureDefinition/Patient","derivation":"constraint","differential":{"element":[{"id":"Patient","path":"Patient"},{"id":"Patient.birthDate","path":"Patient.birthDate","min":1}]}}`); a.status >= 300 {
		t.Fatalf("%+v", a)
	}
	if got := supportedProfiles(t, origin); len(got) != 1 || !slices.Equal(got["Patient"], []string{"https://example.org/born"}) {
		t.Errorf("after one was stored: %v", got)
	}
	packages := kilntest.SharedData(t, "us-core-reference", "packages", "hl7.fhir.us.core-6.1.0.tgz")
	if code, _, errs := command(t, "package", "install", db, "--log-level=error", packages); code != 0 {
		t.Fatal(errs)
	}
	var got map[string][]string
	const core = "http://hl7.org/fhir/us/core/StructureDefinition/"
	eventually(t, "the server has heard of all of US Core", func() bool {
		got = supportedProfiles(t, origin)
		return slices.Contains(got["Patient"], core+"us-core-patient") && slices.Contains(got["Observation"], core+"us-core-blood-pressure") && len(got["Observation"]) >= 10
	})
	for typ, urls := range got {
		for _, url := range urls {
			if strings.Contains(url, "race") || strings.Contains(url, "CodeableConcept") {
				t.Errorf("%s: %s is no profile of a resource", typ, url)
			}
		}
	}
	req, err := http.NewRequest(http.MethodGet, origin+"/fhir/metadata", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/fhir+xml")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), `<supportedProfile value="`+core+`us-core-patient"/>`) {
		t.Errorf("in XML: %v", err)
	}
}
