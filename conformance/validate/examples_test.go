package validate

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
)

// faultyExamples are the official examples that are not valid, each with the issues' details and the reason. The test
// fails when one of them passes.
var faultyExamples = map[string]struct{ details, reason string }{
	"ActivityDefinition-blood-tubes-supply.json":                      {"txt-2", "the narrative is empty"},
	"ActivityDefinition-heart-valve-replacement.json":                 {"txt-2", "the narrative is empty"},
	"EventDefinition-example.json":                                    {"txt-2", "the narrative is empty"},
	"Questionnaire-zika-virus-exposure-assessment.json":               {"txt-2", "the narrative is empty"},
	"Bundle-10bb101f-a121-4264-a920-67be9cb82c74.json":                {"full-url-id", "fullUrl ends in pat12, the id is pat2"},
	"Bundle-3a0707d3-549e-4467-b8b8-5a2ab3800efe.json":                {"full-url-id", "fullUrl ends in pat12, the id is pat2"},
	"Bundle-lri-example.json":                                         {"full-url-id", "fullUrl ends in lri-x, the id is x"},
	"DeviceMetric-example.json":                                       {"reference-target", "parent: DeviceDefinition"},
	"DeviceUseStatement-example.json":                                 {"reference-target", "reasonReference: Procedure"},
	"MedicationRequest-medrx0301.json":                                {"reference-target", "dispenseRequest.performer: Practitioner"},
	"Observation-clinical-gender.json":                                {"reference-target", "performer: Encounter"},
	"Library-zika-virus-intervention-logic.json":                      {"format-canonical", "the placeholder urn:oid:X.Y.Z"},
	"SearchParameter-codesystem-extensions-CodeSystem-author.json":    {"required", "no base"},
	"SearchParameter-codesystem-extensions-CodeSystem-effective.json": {"required", "no base"},
	"SearchParameter-codesystem-extensions-CodeSystem-end.json":       {"required", "no base"},
	"SearchParameter-codesystem-extensions-CodeSystem-keyword.json":   {"required", "no base"},
	"SearchParameter-codesystem-extensions-CodeSystem-workflow.json":  {"required", "no base"},
	"SearchParameter-valueset-extensions-ValueSet-author.json":        {"required", "no base"},
	"SearchParameter-valueset-extensions-ValueSet-effective.json":     {"required", "no base"},
	"SearchParameter-valueset-extensions-ValueSet-end.json":           {"required", "no base"},
	"SearchParameter-valueset-extensions-ValueSet-keyword.json":       {"required", "no base"},
	"SearchParameter-valueset-extensions-ValueSet-workflow.json":      {"required", "no base"},
	"SearchParameter-questionnaireresponse-extensions-QuestionnaireResponse-item-subject.json": {
		"format-id", "the id has 73 characters"},
	"StructureDefinition-Definition.json": {"sdf-4", "a logical model without baseDefinition"},
	"StructureDefinition-Event.json":      {"sdf-4", "a logical model without baseDefinition"},
	"StructureDefinition-FiveWs.json":     {"sdf-4", "a logical model without baseDefinition"},
	"StructureDefinition-Request.json":    {"sdf-4", "a logical model without baseDefinition"},
	"CodeSystem-v2-0550.json":             {"blank-string", "a code is a no-break space"},
}

func TestOfficialExamplesAreValid(t *testing.T) {
	t.Parallel()
	dir := sharedData(t, "examples")
	v := strictValidator(t)
	for _, archive := range []string{"r4-examples.zip", "r4-definitions.zip"} {
		files, faulty := 0, 0
		readZip(t, filepath.Join(dir, archive), func(name string, data []byte) {
			files++
			issues := errorsOf(v.Resource(parse(t, data)))
			fault, known := faultyExamples[name]
			switch got := details(issues); {
			case got != fault.details:
				t.Errorf("%s: want the faults %q, got %q:%s", name, fault.details, got, show(issues))
			case known:
				faulty++
			}
		})
		t.Logf("%s: %d files, %d with a known fault, the others valid", archive, files, faulty)
	}
}

// details lists the different details of issues, in alphabetical order.
func details(issues []fhir.Issue) string {
	set := map[string]bool{}
	for _, i := range issues {
		set[i.Detail] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(set)), ",")
}

func TestMain(m *testing.M) {
	code := m.Run()
	invariantErrorsLock.Lock()
	for at, err := range invariantErrors {
		fmt.Printf("invariant %s: %s\n", at, err)
	}
	os.Exit(code)
}
