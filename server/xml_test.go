package server_test

import (
	"context"
	"strings"
	"testing"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/xml"
	"kiln/resources"
	"kiln/storage"
)

const (
	fhirXML  = "Content-Type: application/fhir+xml; charset=utf-8"
	patientX = `<Patient xmlns="http://hl7.org/fhir"><id value="p1"/><active value="true"/></Patient>`
)

// resourceOf reads an answer that must be XML.
func (a answer) resourceOf(t *testing.T) *fhir.Node {
	t.Helper()
	if got := a.Header.Get("Content-Type"); got != "application/fhir+xml; charset=utf-8" {
		t.Fatalf("Content-Type %q: %s", got, a.body)
	}
	r4, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	n, err := xml.Decode([]byte(a.body), r4.Schema())
	if err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return n
}

func gives(v *storage.Version) func(context.Context, resources.Request) (*resources.Response, error) {
	return func(context.Context, resources.Request) (*resources.Response, error) {
		return &resources.Response{Version: v}, nil
	}
}

func TestXML_read(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.fake.give = gives(patient(3))
	want, err := fhir.ParseJSON(patient(3).Content)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{"", "Accept: application/fhir+xml"}, {"", "Accept: application/xml"}, {"", "Accept: text/xml"},
		{"?_format=xml", "Accept: application/json"}, {"?_format=application/fhir+xml", "Accept: */*"},
		{"?_format=text/xml&_pretty=true", "Accept: application/json"},
	} {
		a := h.send(t, "GET", "/fhir/Patient/p1"+c[0], "", c[1]).wantStatus(t, 200)
		if n := a.resourceOf(t); !n.Equal(want) {
			t.Errorf("%v: %s", c, a.body)
		}
		if pretty := strings.Contains(a.body, "\n  <id "); pretty != strings.Contains(c[0], "pretty") {
			t.Errorf("%v: %s", c, a.body)
		}
		if a.Header.Get("ETag") != `W/"3"` || !strings.Contains(a.Header.Get("Vary"), "Accept") {
			t.Errorf("%v: %v", c, a.Header)
		}
	}
	if a := h.send(t, "HEAD", "/fhir/Patient/p1", "", "Accept: text/xml").wantStatus(t, 200); a.body != "" {
		t.Error(a.body)
	}
}

func TestXML_write(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{fhirXML, "Content-Type: application/xml", "Content-Type: text/xml;charset=UTF-8"} {
		h := start(t)
		h.fake.give = gives(patient(2))
		a := h.send(t, "PUT", "/fhir/Patient/p1", "\xef\xbb\xbf"+patientX, contentType).wantStatus(t, 200)
		if got := a.Header.Get("Content-Type"); got != "application/fhir+json; charset=utf-8" {
			t.Errorf("the answer to XML is %s, and nobody asked for XML", got)
		}
		if body := string(h.fake.last(t).Body.JSON()); body != `{"resourceType":"Patient","id":"p1","active":true}` {
			t.Errorf("%s: %s", contentType, body)
		}
		h.send(t, "PUT", "/fhir/Patient/p1", patientX, contentType, "Accept: application/fhir+xml").wantStatus(t, 200).resourceOf(t)
		h.send(t, "PATCH", "/fhir/Patient/p1", `<Parameters xmlns="http://hl7.org/fhir"/>`, contentType).wantStatus(t, 200)
		if h.fake.last(t).Body.ResourceType() != "Parameters" {
			t.Error("FHIRPath Patch does not come in XML")
		}
	}
}

func TestXML_bundles(t *testing.T) {
	t.Parallel()
	h := start(t)
	total := int64(1)
	h.fake.give = func(_ context.Context, r resources.Request) (*resources.Response, error) {
		if r.Interaction == resources.Transaction {
			return &resources.Response{Bundle: &resources.Bundle{Type: "transaction-response", Entries: []resources.Entry{
				{Interaction: resources.Create, Response: &resources.Response{Created: true, Version: patient(1)}},
			}}}, nil
		}
		return &resources.Response{Bundle: &resources.Bundle{Type: "searchset", Total: &total,
			Links:   []resources.Link{{Relation: "self", URL: `Patient?name="x"&a=<b>`}},
			Entries: []resources.Entry{{Version: patient(3), Mode: "match", Score: 0.75}},
			Issues:  []fhir.Issue{{Severity: "warning", Code: "not-supported", Text: "<x> & \"y\""}},
		}}, nil
	}
	n := h.send(t, "GET", "/fhir/Patient?name=x", "", "Accept: application/fhir+xml").wantStatus(t, 200).resourceOf(t)
	plain := h.send(t, "GET", "/fhir/Patient?name=x", "").wantStatus(t, 200)
	if want, err := fhir.ParseJSON([]byte(plain.body)); err != nil || !n.Equal(want) {
		t.Errorf("%v\n%s\n%s", err, n.JSON(), plain.body)
	}
	n = h.send(t, "POST", "/fhir/Patient/_search", "name=x&_format=xml", "Content-Type: application/x-www-form-urlencoded").wantStatus(t, 200).resourceOf(t)
	if n.GetText("type") != "searchset" {
		t.Errorf("%s", n.JSON())
	}
	body := `<Bundle xmlns="http://hl7.org/fhir"><type value="transaction"/><entry><resource>` +
		`<Patient><active value="true"/></Patient></resource><request><method value="POST"/><url value="Patient"/></request></entry></Bundle>`
	n = h.send(t, "POST", "/fhir", body, fhirXML, "Accept: application/fhir+xml").wantStatus(t, 200).resourceOf(t)
	if n.At("entry", "response", "status") == nil {
		t.Errorf("%s", n.JSON())
	}
	if got := h.fake.last(t).Body; got.At("entry", "resource", "active") == nil {
		t.Errorf("%s", got.JSON())
	}
}

func TestXML_outcomes(t *testing.T) {
	t.Parallel()
	h := start(t)
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/fhir/Patience/1", "", 404},
		{"GET", "/nowhere", "", 404},
		{"POST", "/fhir/Patient", `<Patient xmlns="http://hl7.org/fhir"><colour/><name><colour/></name></Patient>`, 400},
		{"TRACE", "/fhir/Patient/1", "", 405},
	} {
		n := h.send(t, c.method, c.path, c.body, fhirXML, "Accept: application/fhir+xml").wantStatus(t, c.status).resourceOf(t)
		if n.ResourceType() != "OperationOutcome" {
			t.Errorf("%s", n.JSON())
		}
		if c.status == 400 && (len(n.Get("issue").Kids) != 2 || n.At("issue", "expression").Kids[0].Text != "Patient") {
			t.Errorf("%s", n.JSON())
		}
	}
}

// A resource stored under lenient validation may say what XML cannot.
func TestXML_of_what_has_no_XML_form(t *testing.T) {
	t.Parallel()
	h := start(t)
	odd := patient(1)
	odd.Content = []byte(`{"resourceType":"Patient","id":"p1","colour":"red"}`)
	h.fake.give = gives(odd)
	a := h.send(t, "GET", "/fhir/Patient/p1", "", "Accept: application/fhir+xml").wantStatus(t, 406)
	if n := a.resourceOf(t); !strings.Contains(a.body, "colour") || n.ResourceType() != "OperationOutcome" {
		t.Error(a.body)
	}
	a = h.send(t, "PUT", "/fhir/Patient/p1", patientX, fhirXML, "Accept: application/fhir+xml").wantStatus(t, 200)
	if got := a.Header.Get("Content-Type"); got != "application/fhir+json; charset=utf-8" || a.body != string(odd.Content) {
		t.Errorf("%s: %s", got, a.body)
	}
}
