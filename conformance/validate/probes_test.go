package validate

import (
	"strings"
	"testing"

	"kiln/fhir"
)

// probe is a resource with one fault: where it is, and what it is called. detail "" means the resource is valid;
// detail "json" means that it is refused when it is read.
type probe struct{ name, json, detail, at string }

const (
	patient     = `{"resourceType":"Patient",`
	observation = `{"resourceType":"Observation","status":"final","code":{"text":"x"},`
	collection  = `{"resourceType":"Bundle","type":"collection","entry":[`
)

func div(inner string) string {
	quoted := strings.NewReplacer(`"`, `\"`, "\n", `\n`).Replace(`<div xmlns="http://www.w3.org/1999/xhtml">` + inner + `</div>`)
	return patient + `"text":{"status":"generated","div":"` + quoted + `"}}`
}

// probes follow the table of what other libraries catch and miss (design/libraries.md, section 1).
var probes = []probe{
	// Cardinality and structure.
	{"list_where_single", patient + `"gender":["male"]}`, "single-expected", "Patient.gender"},
	{"single_where_list", patient + `"name":{"family":"x"}}`, "list-expected", "Patient.name"},
	{"single_primitive_where_list", patient + `"name":[{"given":"x"}]}`, "list-expected", "Patient.name[0].given"},
	{"unknown_top", patient + `"foo":1}`, "unknown-element", "Patient.foo"},
	{"unknown_nested", patient + `"contact":[{"name":{"famly":"x"}}]}`, "unknown-element", "Patient.contact[0].name.famly"},
	{"unknown_in_contained", observation + `"subject":{"reference":"#p"},"contained":[{"resourceType":"Patient","id":"p","foo":1}]}`,
		"unknown-element", "Observation.contained[0].foo"},
	{"unknown_in_entry", collection + `{"resource":{"resourceType":"Patient","foo":1}}]}`, "unknown-element", "Bundle.entry[0].resource.foo"},
	{"case_of_a_name", patient + `"Gender":"male"}`, "unknown-element", "Patient.Gender"},
	{"fhir_comments", patient + `"active":true,"fhir_comments":["x"]}`, "unknown-element", "Patient.fhir_comments"},
	{"null_member", patient + `"gender":null}`, "null", "Patient.gender"},
	{"null_in_object_list", patient + `"name":[null]}`, "null", "Patient.name[0]"},
	{"null_without_partner", patient + `"name":[{"given":["a",null]}]}`, "null", "Patient.name[0].given[1]"},
	{"null_with_partner", patient + `"name":[{"given":["a",null],"_given":[null,{"extension":[{"url":"http://x.y/z","valueCode":"c"}]}]}]}`, "", ""},
	{"null_on_both_sides", patient + `"name":[{"given":["a",null],"_given":[{"id":"x"},null]}]}`, "null", "Patient.name[0].given[1]"},
	{"two_choices", observation + `"valueString":"x","valueInteger":1}`, "two-choices", "Observation.value"},
	{"two_choices_by_sibling", observation + `"valueString":"x","_valueInteger":{"extension":[{"url":"http://x.y/z","valueCode":"c"}]}}`,
		"two-choices", "Observation.value"},
	{"wrong_choice_type", observation + `"valueAddress":{"city":"x"}}`, "unknown-element", "Observation.valueAddress"},
	{"bare_choice", observation + `"value":"x"}`, "unknown-element", "Observation.value"},
	{"empty_array", patient + `"name":[]}`, "empty-array", "Patient.name"},
	{"empty_object", patient + `"name":[{}]}`, "empty-object", "Patient.name[0]"},
	{"object_with_id_only", patient + `"name":[{"id":"x"}]}`, "ele-1", "Patient.name[0]"},
	{"empty_string", patient + `"name":[{"family":""}]}`, "empty-string", "Patient.name[0].family"},
	{"blank_string", patient + `"name":[{"family":" \n"}]}`, "blank-string", "Patient.name[0].family"},
	{"object_where_string", patient + `"gender":{"x":1}}`, "json-type", "Patient.gender"},
	{"string_where_object", patient + `"maritalStatus":"M"}`, "json-type", "Patient.maritalStatus"},
	{"no_resource_type", `{"id":"x"}`, "resource-type", "Resource"},
	{"unknown_resource_type", `{"resourceType":"Patent"}`, "resource-type", "Resource"},
	{"abstract_resource_type", `{"resourceType":"DomainResource"}`, "resource-type", "Resource"},
	{"not_an_object", `[]`, "json-type", "Resource"},
	// Required.
	{"required_top", `{"resourceType":"Observation","code":{"text":"x"}}`, "required", "Observation"},
	{"required_nested", patient + `"communication":[{"preferred":true}]}`, "required", "Patient.communication[0]"},
	{"required_in_entry", collection + `{"resource":{"resourceType":"Observation","status":"final"}}]}`, "required", "Bundle.entry[0].resource"},
	{"required_in_contained", observation + `"hasMember":[{"reference":"#o"}],"contained":[{"resourceType":"Observation","id":"o","status":"final"}]}`,
		"required", "Observation.contained[0]"},
	{"required_in_parameters", `{"resourceType":"Parameters","parameter":[{"name":"r","resource":{"resourceType":"Observation","status":"final"}}]}`,
		"required", "Parameters.parameter[0].resource"},
	{"required_given_by_sibling", `{"resourceType":"Observation","code":{"text":"x"},"_status":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"unknown"}]}}`, "", ""},
	{"required_choice", `{"resourceType":"MedicationRequest","status":"active","intent":"order","subject":{"reference":"Patient/1"}}`,
		"required", "MedicationRequest"},
	// Dates and numbers.
	{"month_13", patient + `"birthDate":"2020-13-01"}`, "format-date", "Patient.birthDate"},
	{"february_30", patient + `"birthDate":"2020-02-30"}`, "format-date", "Patient.birthDate"},
	{"no_leap_year", patient + `"birthDate":"2100-02-29"}`, "format-date", "Patient.birthDate"},
	{"date_with_time", patient + `"birthDate":"2020-02-01T00:00:00Z"}`, "format-date", "Patient.birthDate"},
	{"year_alone", patient + `"birthDate":"2020"}`, "", ""},
	{"missing_zone", observation + `"effectiveDateTime":"2020-01-01T10:00:00"}`, "format-dateTime", "Observation.effective"},
	{"hours_and_minutes", observation + `"effectiveDateTime":"2020-01-01T10:00Z"}`, "format-dateTime", "Observation.effective"},
	{"hour_24", observation + `"effectiveDateTime":"2020-01-01T24:00:00Z"}`, "format-dateTime", "Observation.effective"},
	{"leap_second", observation + `"effectiveDateTime":"2016-12-31T23:59:60Z"}`, "", ""},
	{"instant_without_seconds", observation + `"issued":"2020-01-01"}`, "format-instant", "Observation.issued"},
	{"instant_nanoseconds", observation + `"issued":"2020-01-01T10:00:00.123456789-14:00"}`, "", ""},
	{"time_with_zone", observation + `"valueTime":"10:00:00Z"}`, "format-time", "Observation.value"},
	{"time_without_seconds", observation + `"valueTime":"10:00"}`, "format-time", "Observation.value"},
	{"integer_with_fraction", observation + `"valueInteger":1.0}`, "format-integer", "Observation.value"},
	{"integer_beyond_32_bits", observation + `"valueInteger":2147483648}`, "format-integer", "Observation.value"},
	{"integer_with_exponent", observation + `"valueInteger":1e2}`, "format-integer", "Observation.value"},
	{"integer_as_string", observation + `"valueInteger":"1"}`, "json-type", "Observation.value"},
	{"positive_int_zero", patient + `"telecom":[{"system":"phone","value":"1","rank":0}]}`, "format-positiveInt", "Patient.telecom[0].rank"},
	{"unsigned_int_negative", `{"resourceType":"Bundle","type":"searchset","total":-1}`, "format-unsignedInt", "Bundle.total"},
	{"decimal_as_string", observation + `"valueQuantity":{"value":"1.0"}}`, "json-type", "Observation.value.value"},
	{"decimal_forms", observation + `"valueQuantity":{"value":-1.10E-3}}`, "", ""},
	{"boolean_as_string", patient + `"active":"true"}`, "json-type", "Patient.active"},
	// Codes.
	{"wrong_gender", patient + `"gender":"man"}`, "binding", "Patient.gender"},
	{"case_of_a_code", patient + `"gender":"Male"}`, "binding", "Patient.gender"},
	{"wrong_status", `{"resourceType":"Observation","status":"done","code":{"text":"x"}}`, "binding", "Observation.status"},
	{"wrong_nested_gender", patient + `"contact":[{"gender":"f","name":{"text":"x"}}]}`, "binding", "Patient.contact[0].gender"},
	{"code_white_space", `{"resourceType":"Appointment","status":" booked","participant":[{"actor":{"display":"x"},"status":"accepted"}],"start":"2020-01-01T10:00:00Z","end":"2020-01-01T10:00:00Z"}`,
		"format-code", "Appointment.status"},
	{"no_media_type", `{"resourceType":"Binary","contentType":"not a media type"}`, "binding", "Binary.contentType"},
	{"media_type_in_a_list", `{"resourceType":"CapabilityStatement","status":"draft","date":"2020","kind":"requirements","fhirVersion":"4.0.1","format":["json","yaml"],"description":"x","rest":[{"mode":"server"}]}`,
		"binding", "CapabilityStatement.format[1]"},
	{"no_unit_of_UCUM", `{"resourceType":"RiskEvidenceSynthesis","status":"draft","population":{"reference":"EvidenceVariable/1"},"outcome":{"reference":"EvidenceVariable/1"},"riskEstimate":{"unitOfMeasure":{"coding":[{"system":"http://unitsofmeasure.org","code":"furlongs"}]}}}`,
		"binding", "RiskEvidenceSynthesis.riskEstimate.unitOfMeasure"},
	{"wrong_currency", `{"resourceType":"Account","status":"active","coverage":[{"coverage":{"reference":"Coverage/1"}}],"extension":[{"url":"http://x.y/z","valueMoney":{"value":1,"currency":"EURO"}}]}`,
		"binding", "Account.extension[0].value.currency"},
	{"concept_outside_required", `{"resourceType":"Condition","subject":{"reference":"Patient/1"},"clinicalStatus":{"coding":[{"system":"http://x.y","code":"active"}]}}`,
		"binding", "Condition.clinicalStatus"},
	{"concept_one_of_two", `{"resourceType":"Condition","subject":{"reference":"Patient/1"},"clinicalStatus":{"coding":[{"system":"http://x.y","code":"a"},{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]}}`, "", ""},
	{"concept_text_only", `{"resourceType":"Condition","subject":{"reference":"Patient/1"},"clinicalStatus":{"text":"active"}}`,
		"binding", "Condition.clinicalStatus"},
	// References.
	{"wrong_target", observation + `"subject":{"reference":"Medication/1"}}`, "reference-target", "Observation.subject"},
	{"wrong_target_absolute", observation + `"subject":{"reference":"http://x.org/fhir/Medication/1"}}`, "reference-target", "Observation.subject"},
	{"wrong_target_versioned", observation + `"subject":{"reference":"Medication/1/_history/2"}}`, "reference-target", "Observation.subject"},
	{"wrong_target_conditional", observation + `"subject":{"reference":"Medication?identifier=x|a b"}}`, "reference-target", "Observation.subject"},
	{"wrong_target_urn", `{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":"urn:uuid:267b18ce-3d37-4581-9baa-6fada338038b","resource":{"resourceType":"Medication"}},{"resource":` +
		observation + `"subject":{"reference":"urn:uuid:267b18ce-3d37-4581-9baa-6fada338038b"}}}]}`, "reference-target", "Bundle.entry[1].resource.subject"},
	{"wrong_target_contained", observation + `"subject":{"reference":"#m"},"contained":[{"resourceType":"Medication","id":"m"}]}`,
		"reference-target", "Observation.subject"},
	{"wrong_reference_type", observation + `"subject":{"reference":"Patient/1","type":"Group"}}`, "reference-type", "Observation.subject"},
	{"unknown_reference_type", observation + `"subject":{"type":"Patent","display":"x"}}`, "reference-type", "Observation.subject"},
	{"reference_type_alone_wrong", observation + `"subject":{"type":"Medication","identifier":{"value":"x"}}}`, "reference-target", "Observation.subject"},
	{"reference_without_id", observation + `"subject":{"reference":"Patient/"}}`, "format-reference", "Observation.subject"},
	{"reference_to_unknown_type", observation + `"subject":{"reference":"Foo/1"}}`, "format-reference", "Observation.subject"},
	{"reference_with_white_space", observation + `"subject":{"reference":"http://x y"}}`, "format-reference", "Observation.subject"},
	{"reference_dangling_fragment", observation + `"subject":{"reference":"#x"}}`, "ref-1", "Observation.subject"},
	{"reference_empty", observation + `"subject":{"type":"Patient"}}`, "reference-empty", "Observation.subject"},
	{"reference_by_identifier", observation + `"subject":{"identifier":{"value":"1"}}}`, "", ""},
	{"canonical_dangling_fragment", `{"resourceType":"QuestionnaireResponse","status":"completed","questionnaire":"#q"}`,
		"canonical-fragment", "QuestionnaireResponse.questionnaire"},
	// Primitive extensions.
	{"sibling_length", patient + `"name":[{"given":["a","b"],"_given":[{"id":"x"}]}]}`, "sibling-length", "Patient.name[0].given"},
	{"sibling_of_complex", patient + `"_name":[{"id":"x"}]}`, "sibling", "Patient.name"},
	{"sibling_not_an_object", patient + `"gender":"male","_gender":"x"}`, "json-type", "Patient.gender"},
	{"sibling_list_where_single", patient + `"gender":"male","_gender":[{"id":"x"}]}`, "single-expected", "Patient.gender"},
	{"sibling_with_value", patient + `"gender":"male","_gender":{"value":"x"}}`, "unknown-element", "Patient.gender.value"},
	{"sibling_id_only", patient + `"gender":"male","_gender":{"id":"x"}}`, "", ""},
	{"sibling_id_without_value", patient + `"_gender":{"id":"x"}}`, "ele-1", "Patient.gender"},
	// Ids, URIs, base64.
	{"id_underscore", patient + `"id":"a_b"}`, "format-id", "Patient.id"},
	{"id_too_long", patient + `"id":"` + strings.Repeat("a", 65) + `"}`, "format-id", "Patient.id"},
	{"element_id_white_space", patient + `"name":[{"id":"a b","family":"x"}]}`, "format-string", "Patient.name[0].id"},
	{"oid", observation + `"extension":[{"url":"http://x.y","valueOid":"urn:oid:1.02"}]}`, "format-oid", "Observation.extension[0].value"},
	{"uuid", observation + `"extension":[{"url":"http://x.y","valueUuid":"urn:uuid:267B18CE-3d37-4581-9baa-6fada338038b"}]}`,
		"format-uuid", "Observation.extension[0].value"},
	{"uri_white_space", patient + `"implicitRules":"http://x y"}`, "format-uri", "Patient.implicitRules"},
	{"uri_bad_uuid", patient + `"identifier":[{"system":"urn:uuid:1"}]}`, "format-uri", "Patient.identifier[0].system"},
	{"canonical_white_space", patient + `"meta":{"profile":["http://x y"]}}`, "format-canonical", "Patient.meta.profile[0]"},
	{"base64_characters", patient + `"photo":[{"contentType":"image/png","data":"%%%%"}]}`, "format-base64Binary", "Patient.photo[0].data"},
	{"base64_padding", patient + `"photo":[{"contentType":"image/png","data":"YWJ"}]}`, "format-base64Binary", "Patient.photo[0].data"},
	{"base64_line_break", patient + `"photo":[{"contentType":"image/png","data":"YW\nJj"}]}`, "", ""},
	{"attachment_size", patient + `"photo":[{"contentType":"image/png","data":"YWJj","size":4}]}`, "attachment-size", "Patient.photo[0]"},
	// Keys and encoding.
	{"twice", patient + `"gender":"male","gender":"female"}`, "json", ""},
	{"twice_nested", patient + `"name":[{"family":"a","family":"b"}]}`, "json", ""},
	{"control_character", patient + `"name":[{"family":"a\u0001b"}]}`, "control-character", "Patient.name[0].family"},
	{"raw_control_character", patient + "\"name\":[{\"family\":\"a\x01b\"}]}", "json", ""},
	{"nul", patient + `"name":[{"family":"a\u0000b"}]}`, "json", ""},
	{"lone_surrogate", patient + `"name":[{"family":"\ud800"}]}`, "json", ""},
	{"not_a_character", patient + `"name":[{"family":"a\uffff"}]}`, "control-character", "Patient.name[0].family"},
	{"trailing_data", patient + `"active":true} x`, "json", ""},
	{"long_string", patient + `"name":[{"family":"` + strings.Repeat("a", MaxStringLength+1) + `"}]}`, "string-length", "Patient.name[0].family"},
	{"longest_string", patient + `"name":[{"family":"` + strings.Repeat("ä", MaxStringLength) + `"}]}`, "", ""},
	// Narrative.
	{"xhtml_fine", div(`<p class="x">a &lt; &#160;<b>b</b><br/></p><!-- c --><img src="#i" alt="x"/><a href="http://x.y/?a=1&amp;b=2">l</a>`), "", ""},
	{"xhtml_script", div(`<script>alert(1)</script>`), "txt-1", "Patient.text.div"},
	{"xhtml_not_xml", div(`<p>a<br></p>`), "xhtml", "Patient.text.div"},
	{"xhtml_empty", div(` `), "txt-2", "Patient.text.div"},
	{"xhtml_event", div(`<p onclick="x()">a</p>`), "txt-1", "Patient.text.div"},
	{"xhtml_javascript", div(`<a href="java&#x09;script:x()">a</a>`), "txt-1", "Patient.text.div"},
	{"xhtml_data_link", div(`<a href="data:text/html,x">a</a>`), "txt-1", "Patient.text.div"},
	{"xhtml_style", div(`<p style="width: expression(x())">a</p>`), "txt-1", "Patient.text.div"},
	{"xhtml_form", div(`<form>a</form>`), "txt-1", "Patient.text.div"},
	{"xhtml_html_entity", div(`a&nbsp;b`), "xhtml", "Patient.text.div"},
	{"xhtml_comment_trick", div(`a<!--><img src="x" alt="y"/>-->`), "xhtml", "Patient.text.div"},
	{"xhtml_cdata", div(`a<![CDATA[<script>]]>`), "xhtml-markup", "Patient.text.div"},
	{"xhtml_doctype", patient + `"text":{"status":"generated","div":"<!DOCTYPE a><div xmlns=\"http://www.w3.org/1999/xhtml\">a</div>"}}`, "txt-1", "Patient.text.div"},
	{"xhtml_no_namespace", patient + `"text":{"status":"generated","div":"<div>a</div>"}}`, "txt-1", "Patient.text.div"},
	{"xhtml_second_root", patient + `"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">a</div><div/>"}}`, "xhtml", "Patient.text.div"},
	// Contained.
	{"contained_nested", observation + `"subject":{"reference":"#p"},"contained":[{"resourceType":"Patient","id":"p","contained":[{"resourceType":"Organization","id":"o","name":"x"}]}]}`,
		"dom-2", "Observation.contained[0]"},
	{"contained_without_id", observation + `"contained":[{"resourceType":"Patient"}]}`, "contained-id", "Observation.contained[0]"},
	{"contained_twice", observation + `"subject":{"reference":"#p"},"contained":[{"resourceType":"Patient","id":"p"},{"resourceType":"Patient","id":"p"}]}`,
		"contained-duplicate", "Observation.contained[1]"},
	{"contained_unused", observation + `"contained":[{"resourceType":"Patient","id":"p"}]}`, "dom-3", "Observation.contained[0]"},
	{"contained_used_by_another", observation + `"subject":{"reference":"#p"},"contained":[{"resourceType":"Patient","id":"p","managingOrganization":{"reference":"#o"}},{"resourceType":"Organization","id":"o","name":"x"}]}`, "", ""},
	{"contained_refers_to_container", observation + `"contained":[{"resourceType":"Provenance","id":"p","target":[{"reference":"#"}],"recorded":"2020-01-01T00:00:00Z","agent":[{"who":{"display":"x"}}]}]}`, "", ""},
	{"contained_used_by_canonical", `{"resourceType":"QuestionnaireResponse","status":"completed","questionnaire":"#q","contained":[{"resourceType":"Questionnaire","id":"q","status":"active"}]}`, "", ""},
	{"contained_with_version", observation + `"subject":{"reference":"#p"},"contained":[{"resourceType":"Patient","id":"p","meta":{"versionId":"1"}}]}`,
		"dom-4", "Observation.contained[0]"},
	{"contained_with_security", observation + `"subject":{"reference":"#p"},"contained":[{"resourceType":"Patient","id":"p","meta":{"security":[{"code":"R"}]}}]}`,
		"dom-5", "Observation.contained[0]"},
	// Extensions.
	{"extension_without_url", patient + `"extension":[{"valueString":"x"}]}`, "required", "Patient.extension[0]"},
	{"extension_relative_url", patient + `"extension":[{"url":"x","valueString":"x"}]}`, "extension-url", "Patient.extension[0]"},
	{"extension_relative_url_within", patient + `"extension":[{"url":"http://x.y","extension":[{"url":"x","valueString":"x"}]}]}`, "", ""},
	{"extension_two_values", patient + `"extension":[{"url":"http://x.y","valueString":"x","valueCode":"x"}]}`, "two-choices", "Patient.extension[0].value"},
	{"ext-1_both", patient + `"extension":[{"url":"http://x.y","valueString":"x","extension":[{"url":"x","valueString":"x"}]}]}`, "ext-1", "Patient.extension[0]"},
	{"ext-1_none", patient + `"extension":[{"url":"http://x.y"}]}`, "ext-1", "Patient.extension[0]"},
	// Invariants.
	{"pat-1", patient + `"contact":[{"gender":"male"}]}`, "pat-1", "Patient.contact[0]"},
	{"obs-3", observation + `"referenceRange":[{"type":{"text":"x"}}]}`, "obs-3", "Observation.referenceRange[0]"},
	{"obs-6", observation + `"valueString":"x","dataAbsentReason":{"text":"x"}}`, "obs-6", "Observation"},
	{"obs-7", `{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://x","code":"1"}]},"valueString":"x","component":[{"code":{"coding":[{"system":"http://x","code":"1"}]}}]}`, "obs-7", "Observation"},
	{"per-1", patient + `"name":[{"family":"x","period":{"start":"2020-02-02","end":"2020-02-01"}}]}`, "per-1", "Patient.name[0].period"},
	{"per-1_end_of_day", patient + `"name":[{"family":"x","period":{"start":"2020-02-01T10:00:00Z","end":"2020-02-01"}}]}`, "", ""},
	{"qty-3", observation + `"valueQuantity":{"value":1,"code":"kg"}}`, "qty-3", "Observation.value"},
	{"rng-2", observation + `"valueRange":{"low":{"value":2},"high":{"value":1}}}`, "rng-2", "Observation.value"},
	{"sqty-1", observation + `"valueRange":{"low":{"value":2,"comparator":"<"}}}`, "sqty-1", "Observation.value.low"},
	{"cpt-2", patient + `"telecom":[{"value":"1"}]}`, "cpt-2", "Patient.telecom[0]"},
	{"att-1", patient + `"photo":[{"data":"YWJj"}]}`, "att-1", "Patient.photo[0]"},
	{"org-1", `{"resourceType":"Organization","active":true}`, "org-1", "Organization"},
	{"org-2", `{"resourceType":"Organization","name":"x","address":[{"use":"home","city":"x"}]}`, "org-2", "Organization.address[0]"},
	{"app-2", `{"resourceType":"Appointment","status":"proposed","start":"2020-01-01T10:00:00Z","participant":[{"actor":{"display":"x"},"status":"accepted"}]}`, "app-2", "Appointment"},
	{"app-3", `{"resourceType":"Appointment","status":"booked","participant":[{"actor":{"display":"x"},"status":"accepted"}]}`, "app-3", "Appointment"},
	{"app-4_as_meant", `{"resourceType":"Appointment","status":"noshow","cancelationReason":{"text":"x"},"start":"2020-01-01T10:00:00Z","end":"2020-01-01T10:00:00Z","participant":[{"actor":{"display":"x"},"status":"accepted"}]}`, "", ""},
	{"app-4", `{"resourceType":"Appointment","status":"booked","cancelationReason":{"text":"x"},"start":"2020-01-01T10:00:00Z","end":"2020-01-01T10:00:00Z","participant":[{"actor":{"display":"x"},"status":"accepted"}]}`, "app-4", "Appointment"},
	{"con-5", `{"resourceType":"Condition","subject":{"reference":"Patient/1"},"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]},"verificationStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-ver-status","code":"entered-in-error"}]}}`, "con-5", "Condition"},
	{"que-12", `{"resourceType":"Questionnaire","status":"draft","item":[{"linkId":"1","type":"string"},{"linkId":"2","type":"string","enableWhen":[{"question":"1","operator":"=","answerString":"a"},{"question":"1","operator":"=","answerString":"b"}]}]}`, "que-12", "Questionnaire.item[1]"},
	// Bundles.
	{"bdl-1", `{"resourceType":"Bundle","type":"collection","total":1}`, "bdl-1", "Bundle"},
	{"bdl-2", collection + `{"resource":{"resourceType":"Patient"},"search":{"mode":"match"}}]}`, "bdl-2", "Bundle.entry[0]"},
	{"bdl-3", `{"resourceType":"Bundle","type":"transaction","entry":[{"resource":{"resourceType":"Patient"}}]}`, "bdl-3", "Bundle.entry[0]"},
	{"bdl-3_elsewhere", collection + `{"resource":{"resourceType":"Patient"},"request":{"method":"POST","url":"Patient"}}]}`, "bdl-3", "Bundle.entry[0]"},
	{"bdl-4", `{"resourceType":"Bundle","type":"batch-response","entry":[{"resource":{"resourceType":"Patient"}}]}`, "bdl-4", "Bundle.entry[0]"},
	{"bdl-5", collection + `{"fullUrl":"http://x.y/z"}]}`, "bdl-5", "Bundle.entry[0]"},
	{"bdl-7", collection + `{"fullUrl":"http://x/Patient/1","resource":{"resourceType":"Patient"}},{"fullUrl":"http://x/Patient/1","resource":{"resourceType":"Patient"}}]}`, "bdl-7", "Bundle.entry[1]"},
	{"bdl-8", collection + `{"fullUrl":"http://x/Patient/1/_history/1","resource":{"resourceType":"Patient"}}]}`, "bdl-8", "Bundle.entry[0]"},
	{"bdl-9", `{"resourceType":"Bundle","type":"document","timestamp":"2020-01-01T10:00:00Z","entry":[{"resource":{"resourceType":"Composition","status":"final","type":{"text":"x"},"date":"2020","author":[{"display":"x"}],"title":"x"}}]}`, "bdl-9", "Bundle"},
	{"bdl-10", `{"resourceType":"Bundle","type":"document","identifier":{"system":"http://x","value":"1"},"entry":[{"resource":{"resourceType":"Composition","status":"final","type":{"text":"x"},"date":"2020","author":[{"display":"x"}],"title":"x"}}]}`, "bdl-10", "Bundle"},
	{"bdl-11", `{"resourceType":"Bundle","type":"document","identifier":{"system":"http://x","value":"1"},"timestamp":"2020-01-01T10:00:00Z","entry":[{"resource":{"resourceType":"Patient"}}]}`, "bdl-11", "Bundle"},
	{"bdl-12", `{"resourceType":"Bundle","type":"message","entry":[{"resource":{"resourceType":"Patient"}}]}`, "bdl-12", "Bundle"},
	{"bundle_full_url_relative", collection + `{"fullUrl":"Patient/1","resource":{"resourceType":"Patient"}}]}`, "full-url-absolute", "Bundle.entry[0]"},
	{"bundle_full_url_of_another", collection + `{"fullUrl":"http://x/Patient/1","resource":{"resourceType":"Patient","id":"2"}}]}`, "full-url-id", "Bundle.entry[0]"},
	{"bundle_link_twice", `{"resourceType":"Bundle","type":"searchset","link":[{"relation":"next","url":"http://x"},{"relation":"next","url":"http://x"}]}`, "bundle-link", "Bundle.link[1]"},
}

func TestProbes(t *testing.T) {
	t.Parallel()
	v := strictValidator(t)
	valid := 0
	for _, p := range probes {
		if p.detail == "" {
			valid++
		}
		t.Run(p.name, func(t *testing.T) {
			n, err := fhir.ParseJSON([]byte(p.json))
			if p.detail == "json" || err != nil {
				if p.detail != "json" || fhir.KindOf(err) != fhir.Invalid {
					t.Fatalf("reading: %v", err)
				}
				return
			}
			issues := errorsOf(v.Resource(n))
			switch {
			case p.detail == "" && len(issues) == 0:
			case p.detail != "" && len(issues) == 1 && issues[0].Detail == p.detail && issues[0].Expression[0] == p.at &&
				issues[0].Code != "" && issues[0].Text != "":
			default:
				t.Errorf("want one error %q at %s, got:%s", p.detail, p.at, show(issues))
			}
		})
	}
	t.Logf("%d invalid probes and %d valid ones", len(probes)-valid, valid)
}
