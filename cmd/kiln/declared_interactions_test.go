package main

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"kiln/fhir"
)

// interactions: each type with an official example, or one below, through all that is declared for it.
func (d *declared) interactions() {
	all := []string{"read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type"}
	readOnly := []string{"read", "vread", "history-instance", "search-type"}
	for typ, r := range d.resources() {
		var codes []string
		for i := range r.Get("interaction").Items() {
			codes = append(codes, i.GetText("code"))
		}
		switch {
		case slices.Equal(slices.Sorted(slices.Values(codes)), slices.Sorted(slices.Values(all))):
			d.interactionsOf(typ)
		case slices.Equal(slices.Sorted(slices.Values(codes)), slices.Sorted(slices.Values(readOnly))):
			d.readsOf(typ)
		default:
			d.Errorf("%s declares %v: this test has to learn that", typ, codes)
		}
	}
}

// readsOf goes through a type that only the server itself writes.
func (d *declared) readsOf(typ string) {
	var at string
	for entry := range d.call("GET", typ+"?_count=1", "", 200).body.Get("entry").Items() {
		at = typ + "/" + entry.Get("resource").ID()
	}
	if at == "" {
		d.Errorf("there is no %s to read", typ)
		return
	}
	for _, path := range []string{at, at + "/_history", at + "/_history/1"} {
		d.call("GET", path, "", 200)
	}
}

func (d *declared) interactionsOf(typ string) {
	src, ok := d.registry.Example(typ)
	if own := declaredBodies[typ]; own != "" {
		src, ok = []byte(own), true
	}
	if !ok {
		d.Errorf("there is no example of %s", typ)
		return
	}
	n, err := fhir.ParseJSON(src)
	if err != nil {
		d.Fatal(err)
	}
	n.Remove("id")
	n.Remove("text") // some are empty
	if status := unsigned[typ]; status != "" {
		n.Set("status", fhir.Str(status))
	}
	n.Set("meta", fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str("urn:kiln:declared").As("system"), fhir.Str(typ).As("code"))).As("tag")))
	body := func(id string, more ...fhir.Node) string {
		c := n.Clone()
		if id != "" {
			c.Set("id", fhir.Str(id))
		}
		for _, m := range more {
			c.Set(m.Name, m)
		}
		return string(c.JSON())
	}
	criteria := "_tag=" + url.QueryEscape("urn:kiln:declared|"+typ)
	once, found := map[string]string{"If-None-Exist": criteria}, typ+"?"+criteria
	made := d.with("POST", typ, body(""), once, 201)
	if made.status != 201 {
		return
	}
	id := made.body.ID()
	at := typ + "/" + id
	d.with("POST", typ, body(""), once, 200)
	etag := d.call("GET", at, "", 200).header.Get("ETag")
	d.with("GET", at, "", map[string]string{"If-None-Match": etag}, 304)
	d.with("GET", at, "", map[string]string{"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 304)
	d.call("GET", at+"/_history/1", "", 200)
	language := fhir.Str("de").As("language")
	d.with("PUT", at, body(id, language), map[string]string{"If-Match": etag}, 200)
	d.with("PUT", at, body(id), map[string]string{"If-Match": etag}, 412)
	d.call("PUT", found, body(id, fhir.Str("fr").As("language")), 200)
	patch := map[string]string{"Content-Type": "application/json-patch+json"}
	d.with("PATCH", at, `[{"op":"add","path":"/language","value":"it"}]`, patch, 200)
	d.with("PATCH", found, `[{"op":"add","path":"/language","value":"nl"}]`, patch, 200)
	if n := d.call("GET", found, "", 200).body.Get("total").Text; n != "1" {
		d.Errorf("%s: %s found", found, n)
	}
	d.call("GET", typ+"?_id="+id, "", 200)
	d.call("GET", at+"/_history", "", 200)
	d.call("GET", typ+"/_history", "", 200)
	if !d.delete(at) {
		d.call("PUT", typ+"/"+declaredID(typ), body(declaredID(typ), language), 200, 201)
		return
	}
	d.call("GET", at, "", 410)
	d.call("GET", at+"/_history", "", 200)
	d.call("PUT", typ+"/"+declaredID(typ), body(declaredID(typ)), 201)
	d.delete(found)
	d.call("PUT", typ+"/"+declaredID(typ), body(declaredID(typ)), 201) // and there it stays
	d.call("PUT", typ+"/"+declaredID(typ), body(declaredID(typ), language), 200)
}

// delete deletes, unless it is a record that is kept (docs/records.md).
func (d *declared) delete(path string) bool {
	r := d.call("DELETE", path, "", 200, 204, 405)
	if r.status != http.StatusMethodNotAllowed {
		return true
	}
	if !strings.Contains(string(r.body.JSON()), `"retention"`) {
		d.Errorf("DELETE %s: %s", path, r.body.JSON())
	}
	return false
}

// unsigned are the states in which records can still be changed and deleted.
var unsigned = map[string]string{"Observation": "registered", "DiagnosticReport": "registered", "MedicationRequest": "draft", "Procedure": "preparation",
	"ServiceRequest": "draft", "CarePlan": "draft"}

// declaredID is the instance of a type that interactions leaves behind.
func declaredID(typ string) string { return "declared-" + strings.ToLower(typ) }

// declaredBodies are for types whose official example breaks a rule of this server, or of which there is none.
var declaredBodies = map[string]string{
	"Subscription":                  `{"resourceType":"Subscription","status":"off","reason":"x","criteria":"Patient?family=x","channel":{"type":"rest-hook","endpoint":"https://hooks.example/in"}}`,
	"CodeSystem":                    `{"resourceType":"CodeSystem","url":"http://example.org/declared","status":"draft","content":"complete","concept":[{"code":"a"}]}`,
	"ValueSet":                      `{"resourceType":"ValueSet","url":"http://example.org/declared-set","status":"draft","compose":{"include":[{"system":"http://hl7.org/fhir/administrative-gender"}]}}`,
	"SearchParameter":               `{"resourceType":"SearchParameter","url":"http://example.org/p","name":"P","status":"draft","description":"x","code":"p","base":["Basic"],"type":"token","expression":"Basic.code"}`,
	"Composition":                   `{"resourceType":"Composition","status":"final","type":{"text":"x"},"date":"2020","author":[{"reference":"Organization/demo-clinic"}],"title":"x"}`,
	"DeviceMetric":                  `{"resourceType":"DeviceMetric","type":{"text":"x"},"category":"measurement"}`,
	"DeviceUseStatement":            `{"resourceType":"DeviceUseStatement","status":"active","subject":{"reference":"Patient/demo-tom"},"device":{"reference":"Device/x"}}`,
	"Parameters":                    `{"resourceType":"Parameters","parameter":[{"name":"a","valueString":"b"}]}`,
	"SubstanceNucleicAcid":          `{"resourceType":"SubstanceNucleicAcid"}`,
	"SubstancePolymer":              `{"resourceType":"SubstancePolymer"}`,
	"SubstanceProtein":              `{"resourceType":"SubstanceProtein"}`,
	"SubstanceReferenceInformation": `{"resourceType":"SubstanceReferenceInformation"}`,
	"SubstanceSourceMaterial":       `{"resourceType":"SubstanceSourceMaterial"}`,
}
