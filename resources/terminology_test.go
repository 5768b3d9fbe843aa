package resources

import (
	"net/url"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/storage"
)

func withTerminology(t testing.TB) func(*Options, *storage.Options) {
	return func(_ *Options, so *storage.Options) { so.URL = kilntest.TerminologyDB(t) }
}

// operationCall calls an operation by a line such as "ValueSet/x/$expand?url=…", with a body or "".
func operationCall(t testing.TB, line, body string) Request {
	path, query, _ := strings.Cut(line, "?")
	r := Request{Interaction: Operate}
	parts := strings.Split(path, "/")
	r.Type, r.Operation = parts[0], parts[len(parts)-1][1:]
	if len(parts) == 3 {
		r.ID = parts[1]
	}
	values := url.Values{}
	for pair := range strings.SplitSeq(query, "&") {
		if name, value, ok := strings.Cut(pair, "="); ok {
			values.Add(name, value)
		}
	}
	r.Query = values.Encode()
	if body != "" {
		r.Body = parse(t, body)
	}
	return r
}

func TestTerminology(t *testing.T) {
	t.Parallel()
	s := newService(t, withTerminology(t))
	put(t, s, `{"resourceType":"CodeSystem","id":"cs","url":"http://x/cs","version":"2","name":"Animals","status":"active","content":"complete","caseSensitive":true,
		"valueSet":"http://x/all","property":[{"code":"legs","type":"integer"},{"code":"gone","uri":"http://hl7.org/fhir/concept-properties#inactive","type":"boolean"}],
		"concept":[{"code":"animal","display":"Animal","property":[{"code":"notSelectable","valueBoolean":true}],"concept":[
			{"code":"dog","display":"Dog","definition":"Barks","designation":[{"language":"de","value":"Hund"},{"language":"fr","use":{"system":"http://u","code":"short"},"value":"Chien"}],
				"property":[{"code":"legs","valueInteger":4}],"concept":[{"code":"poodle","display":"Poodle"}]},
			{"code":"cat","display":"Cat","property":[{"code":"legs","valueInteger":4},{"code":"gone","valueBoolean":true}]}]},{"code":"stone","display":"Stone"}]}`)
	put(t, s, `{"resourceType":"ValueSet","id":"vs","url":"http://x/vs","version":"1","status":"active","compose":{"include":[
		{"system":"http://x/cs","filter":[{"property":"concept","op":"is-a","value":"animal"}]},
		{"system":"http://unknown","concept":[{"code":"u1","display":"Unicorn"}]}]}}`)
	put(t, s, `{"resourceType":"ConceptMap","id":"cm","url":"http://x/cm","status":"active","sourceUri":"http://x/vs","targetUri":"http://y/vs","group":[
		{"source":"http://x/cs","target":"http://y","element":[{"code":"dog","target":[{"code":"D","display":"Dee","equivalence":"wider"}]},{"code":"cat"}],
		 "unmapped":{"mode":"fixed","code":"OTHER"}}]}`)
	const lookup = "CodeSystem/$lookup?system=http://x/cs&code=dog"
	for _, c := range []struct {
		rule, call, body string
		want             string // parts of the answer, all of them, split by " & "; those after ! must be absent
	}{
		{"expand_by_url", "ValueSet/$expand?url=http://x/vs", "", `"total":5 & "code":"poodle" & "display":"Unicorn" & "abstract":true,"code":"animal" & unclosed & "unknown-system","valueUri":"http://unknown" & "valueUri":"http://x/cs|2" & !compose`},
		{"expand_instance", "ValueSet/vs/$expand", "", `"total":5`},
		{"expand_official_instance", "ValueSet/administrative-gender/$expand", "", `"total":4 & "code":"unknown" & !unclosed`},
		{"expand_resource", "ValueSet/$expand", `{"resourceType":"ValueSet","status":"active","compose":{"include":[{"system":"http://x/cs","concept":[{"code":"cat","display":"Kitty"},{"code":"nope"}]}]}}`, `"total":1 & "display":"Kitty" & "inactive":true`},
		{"expand_parameters", "ValueSet/$expand", `{"resourceType":"Parameters","parameter":[{"name":"url","valueUri":"http://x/vs"},{"name":"activeOnly","valueBoolean":true}]}`, `"total":4 & !"cat" & "name":"activeOnly","valueBoolean":true`},
		{"expand_of_all_codes", "ValueSet/$expand?url=http://x/all", "", `"total":5 & "url":"http://x/all" & "stone"`},
		{"expand_filter", "ValueSet/$expand?url=http://x/vs&filter=do", "", `"total":1 & "code":"dog"`},
		{"expand_filter_by_designation", "ValueSet/$expand?url=http://x/vs&filter=HUN", "", `"total":1 & "code":"dog"`},
		{"expand_filter_of_unknown_system", "ValueSet/$expand?url=http://x/vs&filter=unic", "", `"total":1 & "u1"`},
		{"expand_page", "ValueSet/$expand?url=http://x/vs&offset=1&count=2", "", `"total":5,"offset":1 & "code":"dog" & "poodle" & !"animal" & !"u1"`},
		{"expand_count_0", "ValueSet/$expand?url=http://x/vs&count=0", "", `"total":5 & !contains`},
		{"expand_beyond_the_end", "ValueSet/$expand?url=http://x/vs&offset=50&count=2", "", `"total":5 & !contains`},
		{"expand_nested", "ValueSet/$expand?url=http://x/vs&excludeNested=false", "", `"code":"dog","display":"Dog","contains":[{"system":"http://x/cs","code":"poodle"`},
		{"expand_for_users", "ValueSet/$expand?url=http://x/vs&excludeNotForUI=true", "", `"total":4 & !"animal"`},
		{"expand_language", "ValueSet/$expand?url=http://x/vs&displayLanguage=de-AT", "", `"display":"Hund" & "display":"Cat"`},
		{"expand_designations", "ValueSet/$expand?url=http://x/vs&includeDesignations=true", "", `"language":"de","value":"Hund" & "Chien"`},
		{"expand_some_designations", "ValueSet/$expand?url=http://x/vs&designation=urn:ietf:bcp:47|de", "", `"Hund" & !"Chien"`},
		{"expand_designations_by_use", "ValueSet/$expand?url=http://x/vs&designation=http://u|short", "", `!"Hund" & "Chien"`},
		{"expand_definition", "ValueSet/$expand?url=http://x/vs&includeDefinition=true", "", `"compose"`},
		{"expand_without_a_system", "ValueSet/$expand?url=http://x/vs&exclude-system=http://unknown", "", `"total":4 & !unclosed`},
		{"expand_context", "ValueSet/$expand?context=http://hl7.org/fhir/StructureDefinition/Patient#Patient.gender", "", `"total":4`},

		{"member", "ValueSet/$validate-code?url=http://x/vs&system=http://x/cs&code=dog", "", `"valueBoolean":true & "valueString":"Dog" & !message`},
		{"no_member", "ValueSet/$validate-code?url=http://x/vs&system=http://x/cs&code=stone", "", `"valueBoolean":false & not in the value set & "Stone"`},
		{"no_code", "ValueSet/$validate-code?url=http://x/vs&system=http://x/cs&code=DOG", "", `"valueBoolean":false`},
		{"of_another_system", "ValueSet/$validate-code?url=http://x/vs&system=http://hl7.org/fhir/administrative-gender&code=male", "", `"valueBoolean":false`},
		{"of_another_unknown_system", "ValueSet/$validate-code?url=http://x/vs&system=http://snomed.info/sct&code=1", "", `"valueBoolean":false`},
		{"abstract", "ValueSet/$validate-code?url=http://x/vs&system=http://x/cs&code=animal", "", `"valueBoolean":false & abstract=true`},
		{"abstract_allowed", "ValueSet/$validate-code?url=http://x/vs&system=http://x/cs&code=animal&abstract=true", "", `"valueBoolean":true`},
		{"inactive_is_told", "ValueSet/$validate-code?url=http://x/vs&system=http://x/cs&code=cat", "", `"valueBoolean":true & is inactive`},
		{"display", "ValueSet/$validate-code?url=http://x/vs&system=http://x/cs&code=dog&display=DOG", "", `"valueBoolean":true`},
		{"display_of_another_language", "ValueSet/$validate-code?url=http://x/vs&system=http://x/cs&code=dog&display=Hund", "", `"valueBoolean":true`},
		{"wrong_display", "ValueSet/$validate-code?url=http://x/vs&system=http://x/cs&code=dog&display=Cat", "", `"valueBoolean":false & is not a display`},
		{"version_of_the_system", "ValueSet/$validate-code?url=http://x/vs&system=http://x/cs&systemVersion=1&code=dog", "", `"valueBoolean":false`},
		{"listed_of_unknown_system", "ValueSet/$validate-code?url=http://x/vs&system=http://unknown&code=u1", "", `"valueBoolean":true & does not have the code system & http://unknown`},
		{"coding", "ValueSet/vs/$validate-code", `{"resourceType":"Parameters","parameter":[{"name":"coding","valueCoding":{"system":"http://x/cs","code":"poodle","display":"Poodle"}}]}`, `"valueBoolean":true`},
		{"concept", "ValueSet/vs/$validate-code", `{"resourceType":"Parameters","parameter":[{"name":"codeableConcept","valueCodeableConcept":{"coding":[{"system":"http://x/cs","code":"stone"},{"system":"http://x/cs","code":"dog"}]}}]}`, `"valueBoolean":true & "Dog"`},
		{"code_in_context", "ValueSet/$validate-code?context=Patient.gender&code=male", "", `"valueBoolean":true & "Male"`},
		{"unit", "ValueSet/$validate-code?url=http://hl7.org/fhir/ValueSet/ucum-units&system=http://unitsofmeasure.org&code=mmol/L", "", `"valueBoolean":true`},
		{"no_unit", "ValueSet/$validate-code?url=http://hl7.org/fhir/ValueSet/ucum-units&system=http://unitsofmeasure.org&code=foot-pounds", "", `"valueBoolean":false`},
		{"unit_of_a_kind", "ValueSet/$validate-code?url=http://hl7.org/fhir/ValueSet/all-distance-units&system=http://unitsofmeasure.org&code=cm", "", `"valueBoolean":true`},
		{"unit_of_another_kind", "ValueSet/$validate-code?url=http://hl7.org/fhir/ValueSet/all-distance-units&system=http://unitsofmeasure.org&code=kg", "", `"valueBoolean":false`},
		{"media_type", "ValueSet/$validate-code?url=http://hl7.org/fhir/ValueSet/mimetypes&system=urn:ietf:bcp:13&code=text/html", "", `"valueBoolean":true`},
		{"language", "ValueSet/$validate-code?url=http://hl7.org/fhir/ValueSet/all-languages&system=urn:ietf:bcp:47&code=de-CH", "", `"valueBoolean":true`},

		{"code_of_system", "CodeSystem/$validate-code?url=http://x/cs&code=dog", "", `"valueBoolean":true & "Dog"`},
		{"no_code_of_system", "CodeSystem/cs/$validate-code?code=fish", "", `"valueBoolean":false & not in the code system`},
		{"official_system_instance", "CodeSystem/administrative-gender/$validate-code?code=male", "", `"valueBoolean":true`},
		{"coding_of_another_system", "CodeSystem/cs/$validate-code", `{"resourceType":"Parameters","parameter":[{"name":"coding","valueCoding":{"system":"http://y","code":"dog"}}]}`, `"valueBoolean":false`},
		{"system_at_hand", "CodeSystem/$validate-code", `{"resourceType":"Parameters","parameter":[{"name":"code","valueCode":"a"},{"name":"codeSystem","resource":{"resourceType":"CodeSystem","url":"http://z","content":"complete","concept":[{"code":"a","display":"Aa"}]}}]}`, `"valueBoolean":true & "Aa"`},

		{"lookup", lookup, "", `"name":"name","valueString":"Animals" & "version","valueString":"2" & "display","valueString":"Dog" & "Hund" & "valueInteger":4 & "parent" & "child" & "valueCode":"poodle" & Barks`},
		{"lookup_some", lookup + "&property=legs", "", `"valueInteger":4 & !"parent" & !"Hund"`},
		{"lookup_language", lookup + "&displayLanguage=de", "", `"display","valueString":"Hund"`},
		{"lookup_a_language", lookup + "&property=lang.fr", "", `"Chien" & !"Hund"`},
		{"lookup_coding", "CodeSystem/$lookup", `{"resourceType":"Parameters","parameter":[{"name":"coding","valueCoding":{"system":"http://x/cs","code":"cat"}}]}`, `"Cat" & "inactive" & "valueBoolean":true`},

		{"subsumes", "CodeSystem/$subsumes?system=http://x/cs&codeA=animal&codeB=poodle", "", `"valueCode":"subsumes"`},
		{"subsumed_by", "CodeSystem/cs/$subsumes?codeA=poodle&codeB=animal", "", `"valueCode":"subsumed-by"`},
		{"equivalent", "CodeSystem/cs/$subsumes?codeA=dog&codeB=dog", "", `"valueCode":"equivalent"`},
		{"not_subsumed", "CodeSystem/cs/$subsumes?codeA=dog&codeB=stone", "", `"valueCode":"not-subsumed"`},
		{"subsumes_codings", "CodeSystem/$subsumes", `{"resourceType":"Parameters","parameter":[{"name":"codingA","valueCoding":{"system":"http://x/cs","code":"dog"}},{"name":"codingB","valueCoding":{"system":"http://x/cs","code":"poodle"}}]}`, `"valueCode":"subsumes"`},

		{"translate", "ConceptMap/$translate?url=http://x/cm&system=http://x/cs&code=dog", "", `"valueBoolean":true & "wider" & "code":"D" & "Dee" & "valueUri":"http://x/cm"`},
		{"translate_instance", "ConceptMap/cm/$translate?system=http://x/cs&code=dog", "", `"valueBoolean":true`},
		{"translate_by_scope", "ConceptMap/$translate?source=http://x/vs&target=http://y/vs&system=http://x/cs&code=dog", "", `"valueBoolean":true`},
		{"translate_elsewhere", "ConceptMap/$translate?target=http://z/vs&system=http://x/cs&code=dog", "", `"valueBoolean":false & "message"`},
		{"translate_nothing", "ConceptMap/cm/$translate?system=http://x/cs&code=cat", "", `"valueBoolean":false & "unmatched"`},
		{"translate_unmapped", "ConceptMap/cm/$translate?system=http://x/cs&code=stone", "", `"valueBoolean":true & "OTHER"`},
		{"translate_back", "ConceptMap/$translate?url=http://x/cm&system=http://y&code=D&reverse=true", "", `"valueBoolean":true & "code":"dog" & "narrower"`},
		{"translate_official", "ConceptMap/$translate?system=http://hl7.org/fhir/administrative-gender&code=male&targetsystem=http://terminology.hl7.org/CodeSystem/v2-0001", "", `"valueBoolean":true & "code":"M" & !v3`},
		{"translate_official_instance", "ConceptMap/101/$translate?system=http://hl7.org/fhir/address-use&code=home", "", `"code":"H"`},
		{"translate_with_a_map_at_hand", "ConceptMap/$translate", `{"resourceType":"Parameters","parameter":[{"name":"code","valueCode":"a"},{"name":"system","valueUri":"http://a"},{"name":"conceptMap","resource":{"resourceType":"ConceptMap","status":"active","group":[{"source":"http://a","target":"http://b","element":[{"code":"a","target":[{"code":"b","equivalence":"equal"}]}]}]}}]}`, `"valueBoolean":true & "code":"b"`},
	} {
		t.Run(c.rule, func(t *testing.T) {
			text := string(do(t, s, operationCall(t, c.call, c.body)).Resource.JSON())
			for part := range strings.SplitSeq(c.want, " & ") {
				if absent, ok := strings.CutPrefix(part, "!"); ok == strings.Contains(text, absentOr(part, absent, ok)) {
					t.Errorf("%s: want %s in\n%s", c.call, part, text)
				}
			}
		})
	}
	for _, c := range []struct {
		rule, call, body string
		kind             fhir.Kind
		want             string // in the text
	}{
		{"no_such_value_set", "ValueSet/$expand?url=http://nope", "", fhir.NotFound, "http://nope"},
		{"no_such_instance", "ValueSet/nope/$expand", "", fhir.NotFound, "nope"},
		{"no_such_version", "ValueSet/$expand?url=http://x/vs|9", "", fhir.NotFound, "http://x/vs|9"},
		{"absent_system", "ValueSet/$expand?url=http://snomed.info/sct?fhir_vs", "", fhir.NotFound, "kiln terminology load --system snomed"},
		{"absent_loinc", "ValueSet/$expand?url=http://loinc.org/vs", "", fhir.NotFound, "http://loinc.org"},
		{"absent_in_official_set", "ValueSet/observation-codes/$expand", "", fhir.NotFound, "http://loinc.org"},
		{"absent_in_validation", "ValueSet/$validate-code?url=http://hl7.org/fhir/ValueSet/observation-codes&system=http://loinc.org&code=8302-2", "", fhir.NotFound, "http://loinc.org"},
		{"absent_in_lookup", "CodeSystem/$lookup?system=http://snomed.info/sct&code=22298006", "", fhir.NotFound, "http://snomed.info/sct"},
		{"absent_in_subsumes", "CodeSystem/$subsumes?system=http://loinc.org&codeA=1&codeB=2", "", fhir.NotFound, "http://loinc.org"},
		{"code_that_is_none", "CodeSystem/$lookup?system=http://x/cs&code=fish", "", fhir.NotFound, "fish"},
		{"subsumes_of_no_code", "CodeSystem/$subsumes?system=http://x/cs&codeA=dog&codeB=fish", "", fhir.NotFound, "fish"},
		{"endless", "ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/ucum-units", "", fhir.TooCostly, "built by rules"},
		{"nothing_to_expand", "ValueSet/$expand", "", fhir.Invalid, "url, valueSet, context"},
		{"two_to_expand", "ValueSet/vs/$expand?url=http://x/vs", "", fhir.Invalid, "none of"},
		{"code_without_system", "ValueSet/$validate-code?url=http://x/vs&code=dog", "", fhir.Invalid, "system"},
		{"code_and_coding", "ValueSet/vs/$validate-code", `{"resourceType":"Parameters","parameter":[{"name":"code","valueCode":"a"},{"name":"coding","valueCoding":{"code":"a"}}]}`, fhir.Invalid, "one of"},
		{"coding_without_code", "ValueSet/vs/$validate-code", `{"resourceType":"Parameters","parameter":[{"name":"coding","valueCoding":{"system":"http://x/cs"}}]}`, fhir.Invalid, "code"},
		{"negative_count", "ValueSet/vs/$expand?count=-1", "", fhir.Invalid, "count"},
		{"the_past", "ValueSet/vs/$expand?date=2010-01-01", "", fhir.NotSupported, "present"},
		{"other_snomed_set", "ValueSet/$expand?url=http://snomed.info/sct?fhir_vs=ecl/*", "", fhir.NotSupported, "fhir_vs"},
		{"hopeless_regex", "ValueSet/$expand", `{"resourceType":"ValueSet","status":"active","compose":{"include":[{"system":"http://x/cs","filter":[{"property":"code","op":"regex","value":"(a"}]}]}}`, fhir.Unprocessable, "regular expression"},
		{"filter_by_no_code", "ValueSet/$expand", `{"resourceType":"ValueSet","status":"active","compose":{"include":[{"system":"http://x/cs","filter":[{"property":"concept","op":"is-a","value":"fish"}]}]}}`, fhir.Unprocessable, "fish"},
		{"unknown_operator", "ValueSet/$expand", `{"resourceType":"ValueSet","status":"active","compose":{"include":[{"system":"http://x/cs","filter":[{"property":"concept","op":"like","value":"fish"}]}]}}`, fhir.NotSupported, "like"},
		{"no_map", "ConceptMap/$translate?url=http://nope&system=http://x/cs&code=dog", "", fhir.NotFound, "http://nope"},
		{"circle", "CodeSystem/$validate-code", `{"resourceType":"Parameters","parameter":[{"name":"code","valueCode":"a"},{"name":"codeSystem","resource":{"resourceType":"CodeSystem","content":"complete","concept":[{"code":"a","property":[{"code":"parent","valueCode":"b"}]},{"code":"b","property":[{"code":"parent","valueCode":"a"}]}]}}]}`, fhir.Unprocessable, "circle"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if e := refused(t, s, c.kind, operationCall(t, c.call, c.body)); !strings.Contains(e.Error(), c.want) {
				t.Errorf("%s: %v, want %q in it", c.call, e, c.want)
			}
		})
	}
}

func absentOr(part, absent string, ok bool) string {
	if ok {
		return absent
	}
	return part
}
