package xml_test

import (
	"archive/zip"
	"bytes"
	stdxml "encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/xml"
	"kiln/internal/kilntest"
)

func schema(t testing.TB) *fhir.Schema {
	t.Helper()
	r, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	return r.Schema()
}

func parse(t testing.TB, json string) *fhir.Node {
	t.Helper()
	n, err := fhir.ParseJSON([]byte(json))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// examples gives the official examples by name.
func examples(t testing.TB, visit func(name string, json []byte)) {
	t.Helper()
	z, err := zip.OpenReader(kilntest.SharedData(t, "examples", "r4-examples.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		visit(f.Name, data)
	}
}

// wellFormed reads a document with a parser that is not ours.
func wellFormed(t testing.TB, doc []byte) {
	t.Helper()
	d := stdxml.NewDecoder(bytes.NewReader(doc))
	for {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("not well-formed: %v\n%.2000s", err, doc)
		}
	}
}

// roundTrip takes a resource to XML and back, plain and indented, and back to the same XML.
func roundTrip(t testing.TB, n *fhir.Node) []byte {
	t.Helper()
	s := schema(t)
	doc, err := xml.Encode(nil, n, s)
	if err != nil {
		t.Fatal(err)
	}
	wellFormed(t, doc)
	back, err := xml.Decode(doc, s)
	if err != nil {
		t.Fatalf("%v\n%.2000s", err, doc)
	}
	if !n.Equal(back) {
		t.Fatalf("it comes back as something else:\n%.3000s\n%.3000s", n.JSON(), back.JSON())
	}
	if _, err := fhir.ParseJSON(back.JSON()); err != nil {
		t.Fatal(err)
	}
	again, err := xml.Encode(nil, back, s)
	if err != nil || !bytes.Equal(doc, again) {
		t.Fatalf("the XML is not stable: %v\n%.2000s\n%.2000s", err, doc, again)
	}
	people, err := xml.EncodeIndented(nil, n, s)
	if err != nil {
		t.Fatal(err)
	}
	if back, err = xml.Decode(people, s); err != nil || !n.Equal(back) {
		t.Fatalf("indented, it comes back as something else: %v\n%.2000s", err, people)
	}
	return doc
}

func TestExamplesBothWays(t *testing.T) {
	t.Parallel()
	count := 0
	examples(t, func(name string, json []byte) {
		t.Run(name, func(t *testing.T) { roundTrip(t, parse(t, string(json))) })
		count++
	})
	if count != 785 {
		t.Errorf("%d examples", count)
	}
}

const div = `<div xmlns="http://www.w3.org/1999/xhtml">`

func TestBothWays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ json, want string }{
		"attributes": {`{"resourceType":"Patient","id":"a","extension":[{"id":"e","url":"http://x","valueString":"v"}],"name":[{"id":"n","family":"F"}]}`,
			`<Patient xmlns="http://hl7.org/fhir"><id value="a"/><extension id="e" url="http://x"><valueString value="v"/></extension><name id="n"><family value="F"/></name></Patient>`},
		"order_is_that_of_the_definition": {`{"gender":"male","name":[{"given":["G"],"family":"F"}],"resourceType":"Patient","active":true,"id":"a"}`,
			`<id value="a"/><active value="true"/><name><family value="F"/><given value="G"/></name><gender value="male"/>`},
		"nulls": {`{"resourceType":"Patient","name":[{"given":[null,"B",null,"D"],"_given":[{"id":"1"},null,{"extension":[{"url":"u","valueCode":"c"}]},{"id":"4"}]}]}`,
			`<given id="1"/><given value="B"/><given><extension url="u"><valueCode value="c"/></extension></given><given value="D" id="4"/>`},
		"sibling_alone":           {`{"resourceType":"Patient","_birthDate":{"extension":[{"url":"u"}]}}`, `<birthDate><extension url="u"/></birthDate>`},
		"sibling_of_the_id":       {`{"resourceType":"Patient","id":"a","_id":{"id":"x"}}`, `<id value="a" id="x"/>`},
		"digits":                  {`{"resourceType":"Observation","valueQuantity":{"value":1.10}}`, `<value value="1.10"/>`},
		"exponent":                {`{"resourceType":"Observation","valueQuantity":{"value":-0.00E+3}}`, `<value value="-0.00E+3"/>`},
		"integer_and_boolean":     {`{"resourceType":"Patient","deceasedBoolean":false,"multipleBirthInteger":2}`, `<deceasedBoolean value="false"/><multipleBirthInteger value="2"/>`},
		"white_space":             {`{"resourceType":"Patient","name":[{"text":" a\r\n\tb  \"<>&' é 𝄞 "}]}`, `<text value=" a&#xD;&#xA;&#x9;b  &quot;&lt;&gt;&amp;' é 𝄞 "/>`},
		"contained":               {`{"resourceType":"Patient","contained":[{"resourceType":"Group","id":"g"},{"resourceType":"Basic","id":"b"}]}`, `<contained><Group><id value="g"/></Group></contained><contained><Basic>`},
		"bundle":                  {`{"resourceType":"Bundle","entry":[{"fullUrl":"u","resource":{"resourceType":"Basic","id":"b"},"response":{"status":"200","outcome":{"resourceType":"OperationOutcome"}}}]}`, `<resource><Basic><id value="b"/></Basic></resource><response><status value="200"/><outcome><OperationOutcome/></outcome></response>`},
		"parameters":              {`{"resourceType":"Parameters","parameter":[{"name":"a","resource":{"resourceType":"Basic"}},{"name":"b","part":[{"name":"c","valueInteger":1}]}]}`, `<part><name value="c"/><valueInteger value="1"/></part>`},
		"narrative":               {`{"resourceType":"Basic","text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">\r\n<!-- c --><p class='a\"b'>1 &lt; 2&#160;<br/> </p></div>"}}`, "<status value=\"generated\"/>" + div + "\r\n<!-- c --><p class='a\"b'>"},
		"what_the_validator_says": {`{"resourceType":"Patient","name":[{},{"family":""}],"_gender":{},"birthDate":"x"}`, `<name/><name><family value=""/></name><gender/>`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if doc := roundTrip(t, parse(t, c.json)); !strings.Contains(string(doc), c.want) {
				t.Errorf("%s\nlacks %s", doc, c.want)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	text := func(div string) string {
		n := fhir.Obj(fhir.Str("Basic").As("resourceType"), fhir.Obj(fhir.Str(div).As("div")).As("text"))
		return string(n.JSON())
	}
	for name, c := range map[string]struct{ xml, want string }{
		"declaration_comments_and_mark": {"\xef\xbb\xbf<?xml version='1.0' encoding=\"utf-8\" standalone=\"yes\"?>\n<!-- a --><Patient xmlns=\"http://hl7.org/fhir\"><!-- b --> <active\n value = 'true' ><!-- c --></active ></Patient>\n<!-- d -->\n",
			`{"resourceType":"Patient","active":true}`},
		"prefix":                   {`<f:Patient xmlns:f="http://hl7.org/fhir" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="a b"><f:active value="true"/></f:Patient>`, `{"resourceType":"Patient","active":true}`},
		"references":               {`<Patient xmlns="http://hl7.org/fhir"><name><text value="&lt;&#65;&#x1D11E;&apos;&quot;&amp;&gt;&#10;"/></name></Patient>`, `{"resourceType":"Patient","name":[{"text":"<A𝄞'\"&>\n"}]}`},
		"white_space_in_attribute": {"<Patient xmlns=\"http://hl7.org/fhir\"><name><text value=\"a\tb\nc\r\nd\"/></name></Patient>", `{"resourceType":"Patient","name":[{"text":"a b c d"}]}`},
		"narrative_prefix":         {`<Basic xmlns="http://hl7.org/fhir" xmlns:h="http://www.w3.org/1999/xhtml"><text><h:div title='x"y'> <h:p xml:lang="de">a</h:p ><h:br /> </h:div></text></Basic>`, text(`<div xmlns="http://www.w3.org/1999/xhtml" title='x"y'> <p xml:lang="de">a</p ><br/> </div>`)},
		"narrative_inherits":       {`<f:Basic xmlns:f="http://hl7.org/fhir" xmlns="http://www.w3.org/1999/xhtml"><f:text><div id="1">a</div></f:text></f:Basic>`, text(`<div xmlns="http://www.w3.org/1999/xhtml" id="1">a</div>`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, err := xml.Decode([]byte(c.xml), schema(t))
			if err != nil {
				t.Fatal(err)
			}
			if want := parse(t, c.want); !n.Equal(want) {
				t.Errorf("%s\nwant %s", n.JSON(), want.JSON())
			}
			roundTrip(t, n)
		})
	}
}

func nest(open, end string, n int) string { return strings.Repeat(open, n) + strings.Repeat(end, n) }

func in(inner string) string {
	return `<Patient xmlns="http://hl7.org/fhir">` + inner + `</Patient>`
}

func withDiv(inner string) string {
	return in(`<text><status value="generated"/>` + div + inner + `</div></text>`)
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	bomb := `<!DOCTYPE Patient [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>`
	for name, c := range map[string]struct{ xml, at, says string }{
		"empty":                   {"  \n", "", "the body is empty"},
		"entity_bomb":             {bomb + in(`<name><text value="&b;"/></name>`), "", "DOCTYPE"},
		"external_entity":         {`<!DOCTYPE a SYSTEM "file:///etc/passwd">` + in(""), "", "DOCTYPE"},
		"entity_without_doctype":  {in(`<name><text value="&b;"/></name>`), "Patient.name[0]", "&b;"},
		"entity_in_narrative":     {withDiv("&nbsp;"), "Patient.text.div", "&nbsp;"},
		"doctype_in_narrative":    {withDiv("<!DOCTYPE a>"), "Patient.text.div", "DOCTYPE"},
		"processing_instruction":  {in(`<?php x ?>`), "Patient", "processing instructions"},
		"stylesheet":              {`<?xml-stylesheet href="x"?>` + in(""), "", "processing instructions"},
		"late_declaration":        {` <?xml version="1.0"?>` + in(""), "", "processing instructions"},
		"version":                 {`<?xml version="1.1"?>` + in(""), "", "XML 1.0"},
		"no_version":              {`<?xml encoding="UTF-8"?>` + in(""), "", "no version"},
		"encoding":                {`<?xml version="1.0" encoding="UTF-16"?>` + in(""), "", "UTF-8"},
		"cdata":                   {in(`<![CDATA[x]]>`), "Patient", "CDATA"},
		"text":                    {in("\n<active value='true'/> x "), "Patient", "line 2, column 23"},
		"text_in_primitive":       {in("<active>true</active>"), "Patient.active", "text"},
		"unknown_element":         {in("<name/>\n <colour/>"), "Patient", "<colour> is not known in Patient (line 2, column 2)"},
		"unknown_attribute":       {in("<name value='x'/>"), "Patient.name[0]", "the attribute value"},
		"id_attribute":            {`<Patient xmlns="http://hl7.org/fhir" id="x"/>`, "Patient", "the attribute id"},
		"id_element":              {in("<name><id value='x'/></name>"), "Patient.name[0]", "<id> is not known"},
		"nil":                     {in(`<active xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true"/>`), "Patient.active", "nil"},
		"namespace_of_attribute":  {`<f:Patient xmlns:f="http://hl7.org/fhir"><f:active f:value="true"/></f:Patient>`, "Patient.active", "value"},
		"no_namespace":            {`<Patient/>`, "Patient", "namespace"},
		"other_namespace":         {in(`<active xmlns="urn:x" value="true"/>`), "Patient", "namespace"},
		"undeclared_prefix":       {in(`<f:active/>`), "Patient", "not declared"},
		"narrative_in_fhir":       {in(`<text><div/></text>`), "Patient.text", "namespace"},
		"fhir_in_narrative":       {withDiv(`<p xmlns="http://hl7.org/fhir"/>`), "Patient.text.div", "namespace"},
		"svg_in_narrative":        {withDiv(`<svg xmlns="http://www.w3.org/2000/svg"/>`), "Patient.text.div", "namespace"},
		"unknown_type":            {`<Patience xmlns="http://hl7.org/fhir"/>`, "Patience", "not a resource type"},
		"abstract_type":           {`<DomainResource xmlns="http://hl7.org/fhir"/>`, "DomainResource", "not a resource type"},
		"datatype":                {`<HumanName xmlns="http://hl7.org/fhir"/>`, "HumanName", "not a resource type"},
		"order":                   {in("<gender value='male'/><name/>"), "Patient", "<name> must stand before <gender>"},
		"scattered":               {in("<name/><gender value='male'/><name/>"), "Patient", "<name> must stand before"},
		"twice":                   {in("<gender value='male'/><gender value='male'/>"), "Patient", "twice"},
		"two_types":               {in("<deceasedBoolean value='true'/><deceasedDateTime value='2020'/>"), "Patient", "only one type"},
		"boolean":                 {in("<active value='1'/>"), "Patient.active", `"1" is no boolean`},
		"integer":                 {in("<multipleBirthInteger value='+1'/>"), "Patient.multipleBirth", "integer"},
		"huge_exponent":           {`<Observation xmlns="http://hl7.org/fhir"><valueQuantity><value value="1e999999999"/></valueQuantity></Observation>`, "Observation.value.value", "decimal"},
		"json_for_a_number":       {in("<multipleBirthInteger value='[1]'/>"), "Patient.multipleBirth", "integer"},
		"two_roots":               {in("") + in(""), "Patient", "more after"},
		"text_after":              {in("") + "x", "Patient", "more after"},
		"not_closed":              {`<Patient xmlns="http://hl7.org/fhir"><name>`, "Patient.name[0]", "ends before"},
		"wrong_end":               {`<Patient xmlns="http://hl7.org/fhir"></Patience>`, "Patient", "must be closed"},
		"attribute_twice":         {in(`<active value="true" value="true"/>`), "Patient", "twice"},
		"attribute_twice_by_name": {in(`<active xmlns:a="u" xmlns:b="u" a:x="1" b:x="1"/>`), "Patient", "twice"},
		"comment":                 {in(`<!-- a -- b -->`), "Patient", "comment"},
		"less_than":               {in(`<active value="<"/>`), "Patient", "&lt;"},
		"null_character":          {in(`<name><text value="&#0;"/></name>`), "Patient.name[0]", "character"},
		"surrogate":               {in(`<name><text value="&#xD800;"/></name>`), "Patient.name[0]", "character"},
		"control_character":       {in("<name><text value='\x01'/></name>"), "", "U+0001"},
		"not_utf8":                {in("<name><text value='\xff'/></name>"), "", "UTF-8"},
		"container_with_nothing":  {in("<contained/>"), "Patient.contained[0]", "must hold a resource"},
		"container_with_two":      {in("<contained><Basic/><Basic/></contained>"), "Patient.contained[0]", "one resource"},
		"container_attribute":     {in("<contained id='1'><Basic/></contained>"), "Patient.contained[0]", "attribute id"},
		"deep":                    {in(nest("<extension url='u'>", "</extension>", 60)), "", "deeper than"},
		"deeper":                  {in(nest("<extension url='u'>", "</extension>", 100000)), "", "deeper than"},
		"deep_unknown":            {in(nest("<a>", "</a>", 100000)), "Patient", "<a> is not known"},
		"deep_narrative":          {withDiv(nest("<b>", "</b>", 100)), "Patient.text.div", "deeper than"},
		"attributes":              {in("<active " + strings.Repeat("a='' ", 100) + "/>"), "", "twice"},
		"many_faults":             {in(strings.Repeat("<a/>", 100000)), "Patient", "<a> is not known"},
		"xmlns_prefix":            {in(`<active xmlns:xmlns="u"/>`), "Patient", "namespace"},
		"empty_prefix":            {in(`<active xmlns:a=""/>`), "Patient", "namespace"},
		"json":                    {`{"resourceType":"Patient"}`, "", "element must stand here"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := xml.Decode([]byte(c.xml), schema(t))
			if err == nil {
				t.Fatal("it is taken")
			}
			var e *fhir.Error
			if !errors.As(err, &e) || e.Kind != fhir.Invalid || len(e.Issues) > 20 {
				t.Fatalf("%#v", err)
			}
			first := e.Issues[0]
			if c.at != "" && !slices.Equal(first.Expression, []string{c.at}) {
				t.Errorf("at %v, want %s", first.Expression, c.at)
			}
			if c.says != "" && !strings.Contains(first.Text, c.says) && name != "attributes" || !strings.Contains(first.Text, "(line ") {
				t.Errorf("says %s", first.Text)
			}
			if len(first.Text) > 500 {
				t.Errorf("a text of %d bytes", len(first.Text))
			}
		})
	}
}

func TestDecodeTellsAllFaults(t *testing.T) {
	t.Parallel()
	_, err := xml.Decode([]byte(in("<colour/><active value='yes'/><name><colour/><family valu='x'/></name>")), schema(t))
	var e *fhir.Error
	if !errors.As(err, &e) || len(e.Issues) != 4 {
		t.Fatal(err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ json, at string }{
		"no_resource":          {`{"id":"a"}`, ""},
		"unknown_type":         {`{"resourceType":"Patience"}`, "Patience"},
		"unknown_element":      {`{"resourceType":"Patient","colour":"red"}`, "Patient"},
		"bare_choice":          {`{"resourceType":"Patient","deceased":true}`, "Patient"},
		"two_types":            {`{"resourceType":"Patient","deceasedBoolean":true,"deceasedDateTime":"2020"}`, "Patient"},
		"number_for_string":    {`{"resourceType":"Patient","birthDate":2020}`, "Patient.birthDate"},
		"string_for_number":    {`{"resourceType":"Patient","multipleBirthInteger":"2"}`, "Patient.multipleBirth"},
		"null":                 {`{"resourceType":"Patient","birthDate":null}`, "Patient.birthDate"},
		"null_alone":           {`{"resourceType":"Patient","name":[{"given":[null]}]}`, "Patient.name[0].given[0]"},
		"empty_array":          {`{"resourceType":"Patient","name":[]}`, "Patient.name"},
		"array_for_one":        {`{"resourceType":"Patient","birthDate":["2020"]}`, "Patient.birthDate"},
		"one_for_array":        {`{"resourceType":"Patient","name":{}}`, "Patient.name"},
		"length":               {`{"resourceType":"Patient","name":[{"given":["a","b"],"_given":[{"id":"1"}]}]}`, "Patient.name[0].given"},
		"sibling_of_complex":   {`{"resourceType":"Patient","_name":[{"id":"1"}]}`, "Patient"},
		"sibling_of_attribute": {`{"resourceType":"Patient","name":[{"id":"1","_id":{"id":"1"}}]}`, "Patient.name[0]"},
		"control_character":    {`{"resourceType":"Patient","name":[{"text":"\u0001"}]}`, "Patient.name[0].text"},
		"noncharacter":         {`{"resourceType":"Patient","name":[{"text":"\uffff"}]}`, "Patient.name[0].text"},
		"narrative":            {`{"resourceType":"Patient","text":{"div":"<div>a"}}`, "Patient.text.div"},
		"narrative_breaks_out": {`{"resourceType":"Patient","text":{"div":"<div></div></text><active value='true'/><text>"}}`, "Patient.text.div"},
		"narrative_of_two":     {`{"resourceType":"Patient","text":{"div":"<div/><div/>"}}`, "Patient.text.div"},
		"narrative_p":          {`{"resourceType":"Patient","text":{"div":"<p/>"}}`, "Patient.text.div"},
		"narrative_doctype":    {`{"resourceType":"Patient","text":{"div":"<!DOCTYPE div><div/>"}}`, "Patient.text.div"},
		"contained_nothing":    {`{"resourceType":"Patient","contained":[{}]}`, "Patient.contained[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc, err := xml.Encode([]byte("before"), parse(t, c.json), schema(t))
			var e *fhir.Error
			if !errors.As(err, &e) || e.Kind != fhir.Invalid || string(doc) != "before" {
				t.Fatalf("%v %s", err, doc)
			}
			if c.at != "" && !slices.Equal(e.Issues[0].Expression, []string{c.at}) {
				t.Errorf("at %v, want %s", e.Issues[0].Expression, c.at)
			}
		})
	}
}

func TestNarrativeIsMadeXML(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{"\n<div>a</div> ", div + "a</div>"},
		{"<div>&nbsp;&amp;&eacute;<!-- &nbsp; --></div>", div + "&#160;&amp;&#233;<!-- &#160; --></div>"},
		{"<div/>", `<div xmlns="http://www.w3.org/1999/xhtml"/>`},
	} {
		n := fhir.Obj(fhir.Str("Basic").As("resourceType"), fhir.Obj(fhir.Str(c[0]).As("div")).As("text"))
		doc, err := xml.Encode(nil, &n, schema(t))
		if err != nil || !bytes.Contains(doc, []byte("<text>"+c[1]+"</text>")) {
			t.Errorf("%q: %v %s", c[0], err, doc)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		in(`<id value="a"/><name id="1"><given id="1"/><given value="B"/></name>`), withDiv(`<p a="&lt;">x<!-- c --></p>`),
		in(`<contained><Basic/></contained><active/>`), `<f:Basic xmlns:f="http://hl7.org/fhir" xmlns="http://www.w3.org/1999/xhtml"><f:text><div>a</div></f:text></f:Basic>`,
		`<?xml version="1.0"?><Parameters xmlns="http://hl7.org/fhir"><parameter><name value="&#x41;"/><valueDecimal value="1.0"/></parameter></Parameters>`,
		`<Basic xmlns="http://hl7.org/fhir" xmlns:h="http://www.w3.org/1999/xhtml"><text><h:div><h:br /></h:div></text></Basic>`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := xml.Decode(data, schema(t))
		if err != nil {
			if fhir.KindOf(err) != fhir.Invalid {
				t.Fatal(err)
			}
			return
		}
		wellFormed(t, data)
		roundTrip(t, n)
	})
}

func FuzzEncode(f *testing.F) {
	for _, s := range []string{
		`{"resourceType":"Patient","name":[{"given":[null,"B"],"_given":[{"id":"1"},null]}],"multipleBirthInteger":1}`,
		`{"resourceType":"Basic","text":{"div":"<div>&nbsp;<a href=\"x\"/></div>"},"contained":[{"resourceType":"Basic"}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := fhir.ParseJSON(data)
		if err != nil {
			return
		}
		doc, err := xml.Encode(nil, n, schema(t))
		if err != nil {
			return
		}
		wellFormed(t, doc)
		back, err := xml.Decode(doc, schema(t))
		if err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		again, err := xml.Encode(nil, back, schema(t))
		if err != nil || !bytes.Equal(doc, again) {
			t.Fatalf("%v\n%s\n%s", err, doc, again)
		}
	})
}

func benchmark(b *testing.B, run func(n *fhir.Node, doc []byte)) {
	var n *fhir.Node
	examples(b, func(name string, json []byte) {
		if name == "Patient-example.json" {
			n = parse(b, string(json))
		}
	})
	if n == nil {
		b.Fatal("the example is not there")
	}
	doc, err := xml.Encode(nil, n, schema(b))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		run(n, doc)
	}
}

func BenchmarkEncode(b *testing.B) {
	s, buf := schema(b), []byte(nil)
	benchmark(b, func(n *fhir.Node, _ []byte) { buf, _ = xml.Encode(buf[:0], n, s) })
}

func BenchmarkDecode(b *testing.B) {
	s := schema(b)
	benchmark(b, func(_ *fhir.Node, doc []byte) { _, _ = xml.Decode(doc, s) })
}
