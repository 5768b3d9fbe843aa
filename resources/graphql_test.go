package resources

import (
	"fmt"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// TestGraphQL runs queries of the kinds that FHIR R4 graphql.html has, by several callers.
func TestGraphQL(t *testing.T) {
	t.Parallel()
	s := newService(t, func(o *Options, so *storage.Options) { o.Limits.MaxQueriedBytes = 500_000; so.Unrestricted = false })
	for _, body := range []string{
		`{"resourceType":"Practitioner","id":"dr","name":[{"family":"Okafor"}]}`,
		`{"resourceType":"Organization","id":"org","name":"Clinic"}`,
		`{"resourceType":"Patient","id":"anna","active":true,"birthDate":"1984-07-02","_birthDate":{"extension":[{"url":"urn:t","valueDateTime":"1984-07-02T10:00:00Z"}]},
"identifier":[{"system":"urn:i","value":"12345"}],
"name":[{"use":"official","family":"Apple","given":["Anna","Ada"]},{"use":"usual","given":["Annie"]},{"use":"maiden","family":"Pear","given":["Anna","Ada"]}],
"contained":[{"resourceType":"Organization","id":"o","name":"Inside"}],"managingOrganization":{"reference":"#o"},"generalPractitioner":[{"reference":"Practitioner/dr"}]}`,
		`{"resourceType":"Patient","id":"ben","name":[{"family":"Berry"}],"generalPractitioner":[{"reference":"Organization/org"}]}`,
		`{"resourceType":"Observation","id":"o1","status":"final","code":{"coding":[{"system":"urn:c","code":"w"}]},"subject":{"reference":"Patient/anna"},"effectiveDateTime":"2024-01-05","valueQuantity":{"value":61.50,"unit":"kg"},"performer":[{"reference":"Practitioner/dr"}]}`,
		`{"resourceType":"Observation","id":"o2","status":"preliminary","code":{"coding":[{"system":"urn:c","code":"h"}]},"subject":{"reference":"Patient/anna"},"effectiveDateTime":"2024-02-05","valueString":"a, b"}`,
		`{"resourceType":"Observation","id":"o3","status":"final","code":{"coding":[{"system":"urn:c","code":"w"}]},"subject":{"reference":"Patient/ben"},"effectiveDateTime":"2024-03-05"}`,
		`{"resourceType":"Observation","id":"lost","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/anna"},"performer":[{"reference":"Practitioner/gone"},{"display":"somebody"}]}`,
	} {
		put(t, s, body)
	}
	call := func(who auth.Principal, at, query, variables string) Request {
		typ, id, _ := strings.Cut(at, "/")
		body := fhir.Obj(fhir.Str(query).As("query"))
		if variables != "" {
			body.Set("variables", *parse(t, variables))
		}
		return Request{Principal: who, Interaction: Operate, Operation: "graphql", Type: typ, ID: id, Body: &body}
	}
	anna, nobody := patientApp("anna", "patient/*.rs"), auth.Principal{}
	for _, c := range []struct {
		rule            string
		who             auth.Principal
		at, query, vars string
		want            string
	}{
		{"elements", nobody, "Patient/anna", `{ resourceType id name { family given } birthDate _birthDate { extension { valueDateTime } } }`, "",
			`{"resourceType":"Patient","id":"anna","name":[{"family":"Apple","given":["Anna","Ada"]},{"given":["Annie"]},{"family":"Pear","given":["Anna","Ada"]}],"birthDate":"1984-07-02","_birthDate":{"extension":[{"valueDateTime":"1984-07-02T10:00:00Z"}]}}`},
		{"digits_stay", nobody, "Observation/o1", `{ valueQuantity { value unit } valueString }`, "", `{"valueQuantity":{"value":61.50,"unit":"kg"}}`},
		{"aliases_and_types", nobody, "Patient/anna", `{ who: id __typename name(use: usual) { __typename g: given } }`, "", `{"who":"anna","__typename":"Patient","name":[{"__typename":"HumanName","g":["Annie"]}]}`},
		{"fhirpath", nobody, "Patient/anna", `{ name(fhirpath: "family.exists() and use = 'maiden'") { family } }`, "", `{"name":[{"family":"Pear"}]}`},
		{"fhirpath_of_what_is_not_there", nobody, "Patient/anna", `{ name(fhirpath: "family = 'Pear'") { use } }`, "", `{"name":[{"use":"maiden"}]}`},
		{"offset_and_count", nobody, "Patient/anna", `{ name(_offset: 1, _count: 1) { use } }`, "", `{"name":[{"use":"usual"}]}`},
		{"list_of_values", nobody, "Patient/anna", `{ name(use: [official, maiden]) { family } }`, "", `{"name":[{"family":"Apple"},{"family":"Pear"}]}`},
		{"member_that_repeats", nobody, "Patient/anna", `{ name(given: "Annie") { use } }`, "", `{"name":[{"use":"usual"}]}`},
		{"contained", nobody, "Patient/anna", `{ contained { ... on Organization { name } } managingOrganization { resource(type: Organization) { name } } }`, "",
			`{"contained":[{"name":"Inside"}],"managingOrganization":{"resource":{"name":"Inside"}}}`},
		{"references", nobody, "Observation/o1", `{ subject { reference resource { id ... on Patient { birthDate } ... on Group { name } } } performer { a: resource(type: Practitioner) { name { family } } b: resource(type: Organization) { name } } }`, "",
			`{"subject":{"reference":"Patient/anna","resource":{"id":"anna","birthDate":"1984-07-02"}},"performer":[{"a":{"name":[{"family":"Okafor"}]}}]}`},
		{"optional_references", nobody, "Observation/lost", `{ performer { display resource(optional: true) { id } } }`, "", `{"performer":[{},{"display":"somebody"}]}`},
		{"reverse_references", nobody, "Patient/anna", `{ ObservationList(_reference: patient, status: final, _sort: "date") { id } }`, "", `{"ObservationList":[{"id":"o1"},{"id":"lost"}]}`},
		{"read", nobody, "", `{ Patient(id: ben) { name { family } } }`, "", `{"Patient":{"name":[{"family":"Berry"}]}}`},
		{"lists", nobody, "", `{ ObservationList(code: ["urn:c|w", "urn:c|h"], _sort: "-date", _count: 2) { id } none: PatientList(name: "nobody") { id } }`, "", `{"ObservationList":[{"id":"o3"},{"id":"o2"}],"none":[]}`},
		{"offset_of_a_list", nobody, "", `{ ObservationList(code: "w", _sort: "-date", _count: 5, _offset: 1) { id } }`, "", `{"ObservationList":[{"id":"o1"}]}`},
		{"fhirpath_of_a_list", nobody, "", `{ ObservationList(_sort: "date", date: "ge2024", fhirpath: "value.exists()") { id } }`, "", `{"ObservationList":[{"id":"o1"},{"id":"o2"}]}`},
		{"dashes", nobody, "", `{ ObservationList(combo_code: "h") { id } }`, "", `{"ObservationList":[{"id":"o2"}]}`},
		{"commas_are_no_alternatives", nobody, "", `{ ObservationList(value_string: "a, b") { id } }`, "", `{"ObservationList":[{"id":"o2"}]}`},
		{"connection", nobody, "", `{ ObservationConnection(patient: "Patient/anna", _sort: "date") { __typename count offset pagesize edges { mode resource { id } } next } }`, "",
			`{"ObservationConnection":{"__typename":"ObservationConnection","count":3,"offset":0,"pagesize":3,"edges":[{"mode":"match","resource":{"id":"o1"}},{"mode":"match","resource":{"id":"o2"}},{"mode":"match","resource":{"id":"lost"}}]}}`},
		{"variables", nobody, "", `query Q($id: ID!, $use: [code] = ["usual"], $all: Boolean = false) { Patient(id: $id) { name(use: $use) { use family @include(if: $all) } active @skip(if: true) } }`, `{"id":"anna"}`,
			`{"Patient":{"name":[{"use":"usual"}]}}`},
		{"fragments", nobody, "", `query { Patient(id: "anna") { ...P id } } fragment P on Patient { id name(use: usual) { ...N } } fragment N on HumanName { given }`, "", `{"Patient":{"id":"anna","name":[{"given":["Annie"]}]}}`},
		{"one_field_twice", nobody, "Patient/anna", `{ name(use: usual) { use } name(use: usual) { given } }`, "", `{"name":[{"use":"usual","given":["Annie"]}]}`},
		{"flatten", nobody, "Patient/anna", `{ identifier @flatten { system value } active name @flatten { text given family } }`, "",
			`{"system":["urn:i"],"value":["12345"],"active":true,"given":["Anna","Ada","Annie","Anna","Ada"],"family":["Apple","Pear"]}`},
		{"first", nobody, "Patient/anna", `{ name @flatten { given @first family } }`, "", `{"given":["Anna","Annie","Anna"],"family":["Apple","Pear"]}`},
		{"singleton", nobody, "Patient/anna", `{ identifier @flatten { system @singleton value @singleton } name @flatten @first { text given family @singleton } }`, "",
			`{"system":"urn:i","value":"12345","given":["Anna","Ada"],"family":"Apple"}`},
		{"slice", nobody, "Patient/anna", `{ name @flatten @slice(path: "use") { given family @singleton } }`, "",
			`{"given.official":["Anna","Ada"],"family.official":"Apple","given.usual":["Annie"],"given.maiden":["Anna","Ada"],"family.maiden":"Pear"}`},
		{"slice_by_place", nobody, "Patient/anna", `{ name @slice(path: "$index") @flatten { given @first @singleton } }`, "", `{"given.0":"Anna","given.1":"Annie","given.2":"Anna"}`},
		{"a_patient_finds_the_own", anna, "", `{ PatientList { id } ObservationConnection { count edges { resource { id } } } }`, "",
			`{"PatientList":[{"id":"anna"}],"ObservationConnection":{"count":2,"edges":[{"resource":{"id":"o1"}},{"resource":{"id":"lost"}}]}}`},
		{"a_practitioner_finds_who_is_treated", doctor("dr", "user/*.rs"), "", `{ PatientList { id ObservationList(_reference: subject, _sort: "date") { id } } }`, "",
			`{"PatientList":[{"id":"anna","ObservationList":[{"id":"o1"},{"id":"o2"},{"id":"lost"}]}]}`},
	} {
		t.Run(c.rule, func(t *testing.T) {
			n := do(t, s, call(c.who, c.at, c.query, c.vars)).Resource
			if got := string(n.Get("data").JSON()); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	t.Run("from_page_to_page", func(t *testing.T) {
		var ids []string
		query := `{ ObservationConnection(_sort: "date", _count: 1) { edges { resource { id } } next } }`
		for n := 0; query != "" && n < 9; n++ {
			page := do(t, s, call(anna, "", query, "")).Resource.At("data", "ObservationConnection")
			for e := range page.Get("edges").Items() {
				ids = append(ids, e.Get("resource").ID())
			}
			query = ""
			if next := page.GetText("next"); next != "" {
				query = `{ ObservationConnection(cursor: "` + next + `") { edges { resource { id } } next } }`
				refused(t, s, fhir.Invalid, call(nobody, "", query, "")) // it is its caller's
				refused(t, s, fhir.Invalid, call(anna, "", strings.Replace(query, "Observation", "Condition", 1), ""))
			}
		}
		if got := strings.Join(ids, " "); got != "o1 lost" {
			t.Errorf("got %s", got)
		}
	})
	put(t, s, `{"resourceType":"Binary","id":"large","contentType":"text/plain","data":"`+strings.Repeat("AAAA", 100_000)+`"}`)
	put(t, s, `{"resourceType":"Binary","id":"another","contentType":"text/plain","data":"`+strings.Repeat("AAAA", 100_000)+`"}`)
	if got := do(t, s, call(nobody, "Binary/large", `{`+strings.Repeat(" data", 600)+` }`, "")).Resource.Get("data"); len(got.Kids) != 1 {
		t.Errorf("a field written 600 times is there %d times", len(got.Kids))
	}
	many := ""
	for i := range 200 {
		many += fmt.Sprintf(" a%d: data", i)
	}
	deep := strings.Repeat("{ extension ", 40) + "{ url }" + strings.Repeat("}", 40)
	wide := "fragment F0 on Patient { id } "
	for i := range 20 {
		n := string(rune('a' + i))
		before := "F0"
		if i > 0 {
			before = "F" + string(rune('a'+i-1))
		}
		wide += "fragment F" + n + " on Patient { ..." + before + " ..." + before + " } "
	}
	for _, c := range []struct {
		rule            string
		kind            fhir.Kind
		who             auth.Principal
		at, query, vars string
	}{
		{"no_graphql", fhir.Invalid, nobody, "", `{ PatientList `, ""},
		{"no_query", fhir.Invalid, nobody, "", ``, ""},
		{"no_such_type", fhir.Invalid, nobody, "", `{ NonsenseList { id } }`, ""},
		{"no_such_field", fhir.Invalid, nobody, "Patient/anna", `{ nonsense }`, ""},
		{"no_such_field_where_there_is_nothing", fhir.Invalid, nobody, "Patient/anna", `{ communication { nonsense } }`, ""},
		{"no_such_field_of_what_a_reference_names", fhir.Invalid, nobody, "Observation/o1", `{ subject { resource { nonsense } } }`, ""},
		{"no_such_argument", fhir.Invalid, nobody, "Patient/anna", `{ name(nonsense: 1) { family } }`, ""},
		{"arguments_of_a_primitive", fhir.Invalid, nobody, "Patient/anna", `{ birthDate(_count: 1) }`, ""},
		{"fields_of_a_primitive", fhir.Invalid, nobody, "Patient/anna", `{ birthDate { x } }`, ""},
		{"no_fields", fhir.Invalid, nobody, "Patient/anna", `{ name }`, ""},
		{"no_such_search_parameter", fhir.Invalid, nobody, "", `{ PatientList(nonsense: 1) { id } }`, ""},
		{"_include", fhir.NotSupported, nobody, "", `{ PatientList(_include: "Patient:organization") { id } }`, ""},
		{"no_such_fragment", fhir.Invalid, nobody, "Patient/anna", `{ ...F }`, ""},
		{"fragment_in_itself", fhir.Invalid, nobody, "Patient/anna", `{ ...F } fragment F on Patient { id ...F }`, ""},
		{"fragments_that_double", fhir.TooCostly, nobody, "Patient/anna", `{ ...Ft } ` + wide, ""},
		{"too_deep", fhir.TooCostly, nobody, "Patient/anna", deep, ""},
		{"too_long", fhir.TooCostly, nobody, "Patient/anna", `{ id ` + strings.Repeat("a:id ", 20_000) + `}`, ""},
		{"one_text_too_often", fhir.TooCostly, nobody, "Binary/large", `{` + many + ` }`, ""},
		{"names_that_are_too_long", fhir.TooCostly, nobody, "Binary/large", `{ meta @flatten @slice(path: "%resource.data") {` + strings.ReplaceAll(many, "data", "versionId") + ` } }`, ""},
		{"more_values_than_a_search_has", fhir.TooCostly, nobody, "Patient/anna", `query($u: [code]) { name(use: $u) { use } }`, `{"u":["usual"` + strings.Repeat(`,"x"`, 1000) + `]}`},
		{"more_bytes_than_it_looks_at", fhir.TooCostly, nobody, "", `{ a: Binary(id: "large") { id } b: Binary(id: "another") { id } }`, ""},
		{"unknown_directive", fhir.NotSupported, nobody, "Patient/anna", `{ id @nonsense }`, ""},
		{"several_for_a_singleton", fhir.Invalid, nobody, "Patient/anna", `{ name @flatten { family @singleton } }`, ""},
		{"two_fields_of_one_name", fhir.Invalid, nobody, "Patient/anna", `{ x: id x: birthDate }`, ""},
		{"introspection", fhir.NotSupported, nobody, "", `{ __schema { types { name } } }`, ""},
		{"mutation", fhir.NotSupported, nobody, "", `mutation { PatientDelete(id: "anna") { id } }`, ""},
		{"variable_without_a_value", fhir.Invalid, nobody, "", `query($id: ID!) { Patient(id: $id) { id } }`, ""},
		{"variable_of_another_type", fhir.Invalid, nobody, "", `query($id: ID!) { Patient(id: $id) { id } }`, `{"id":true}`},
		{"variable_that_is_not_declared", fhir.Invalid, nobody, "", `{ Patient(id: $id) { id } }`, `{"id":"anna"}`},
		{"which_operation", fhir.Invalid, nobody, "", `query A { Patient(id: "anna") { id } } query B { Patient(id: "ben") { id } }`, ""},
		{"reference_that_leads_nowhere", fhir.NotFound, nobody, "Observation/lost", `{ performer { resource { id } } }`, ""},
		{"index_in_fhirpath", fhir.NotSupported, nobody, "Patient/anna", `{ name(fhirpath: "$index = 0") { use } }`, ""},
		{"faulty_fhirpath", fhir.Invalid, nobody, "Patient/anna", `{ name(fhirpath: "use = ") { use } }`, ""},
		{"more_than_a_list_has", fhir.TooCostly, nobody, "", `{ PatientList(_count: 1001) { id } }`, ""},
		{"reverse_without_a_parameter", fhir.Invalid, nobody, "Patient/anna", `{ ObservationList { id } }`, ""},
		{"reverse_by_no_reference", fhir.Invalid, nobody, "Patient/anna", `{ ObservationList(_reference: nonsense) { id } }`, ""},
		{"forged_cursor", fhir.Invalid, nobody, "", `{ PatientConnection(cursor: "Zm9yZ2Vk") { next } }`, ""},
		{"cursor_that_includes", fhir.Invalid, nobody, "", `{ PatientConnection(cursor: "X2NvdW50PTEmX2luY2x1ZGU9Kg") { next } }`, ""},
		{"another_patient", fhir.NotFound, anna, "", `{ Patient(id: "ben") { id } }`, ""},
		{"about_another_patient", fhir.NotFound, anna, "Patient/ben", `{ id }`, ""},
		{"nobody_there", fhir.NotFound, anna, "Patient/none", `{ id }`, ""},
		{"without_the_scope", fhir.Forbidden, patientApp("anna", "patient/Observation.rs"), "", `{ PatientList { id } }`, ""},
	} {
		t.Run(c.rule, func(t *testing.T) { refused(t, s, c.kind, call(c.who, c.at, c.query, c.vars)) })
	}
}
