package main

import (
	"maps"
	"net/url"
	"strings"

	"kiln/fhir"
)

// canonicals: each is found by a search on its URL, and read by its id.
func (d *declared) canonicals() {
	wanted := map[string]bool{}
	d.statement.Walk(func(n *fhir.Node) bool {
		switch n.Name {
		case "profile", "definition":
			wanted[n.Text] = true
		case "compartment":
			for _, url := range texts(n) {
				wanted[url] = true
			}
		}
		return true
	})
	var urls, paths []string
	for canonical := range maps.Keys(wanted) {
		parts := strings.Split(canonical, "/")
		if len(parts) < 2 {
			d.Errorf("the canonical %q names no type", canonical)
			continue
		}
		urls, paths = append(urls, canonical), append(paths, parts[len(parts)-2]+"?url="+url.QueryEscape(canonical))
	}
	if len(urls) < 1000 {
		d.Errorf("only %d canonicals", len(urls))
	}
	var reads []string
	for i, found := range d.batch(paths) {
		n := 0
		for entry := range found.Get("entry").Items() {
			if r := entry.Get("resource"); r.GetText("url") == urls[i] {
				reads = append(reads, r.ResourceType()+"/"+r.ID())
				n++
			}
		}
		if n != 1 {
			d.Errorf("%s is found %d times", urls[i], n)
		}
	}
	d.batch(reads)
}

// builtIn: the definitions are for reading. They are in no history and no count of what people have stored.
func (d *declared) builtIn() {
	const at = "StructureDefinition/Patient"
	for range 20 { // the first start loads them beside serving
		if d.call("GET", at, "", 200, 503).status == 200 {
			break
		}
	}
	official := d.call("GET", at, "", 200)
	same := string(official.body.JSON())
	d.call("PUT", at, same, 200) // what changes nothing is no change
	other := official.body.Clone()
	other.Set("title", fhir.Str("Mine"))
	d.call("PUT", at, string(other.JSON()), 422)
	d.with("PATCH", at, `[{"op":"add","path":"/title","value":"Mine"}]`, map[string]string{"Content-Type": "application/json-patch+json"}, 422)
	d.call("DELETE", at, "", 422)
	d.call("DELETE", "OperationDefinition?code=expand", "", 422)
	d.call("POST", at+"/$meta-add", operationArguments["meta-add"], 422)
	if again := d.call("GET", at, "", 200); string(again.body.JSON()) != same {
		d.Errorf("%s is another one now", at)
	}
	if n := d.call("GET", at+"/_history", "", 200).body.Get("total").Text; n != "1" {
		d.Errorf("%s has %s versions", at, n)
	}
	for _, path := range []string{"StructureDefinition/_history", "SearchParameter/_history"} {
		if n := d.call("GET", path, "", 200).body.Get("total").Text; n != "0" {
			d.Errorf("%s tells of %s versions", path, n)
		}
	}
	// One with the same URL is another resource, of the client's.
	other.Remove("id")
	mine := d.call("POST", "StructureDefinition", string(other.JSON()), 201)
	if n := d.call("GET", "StructureDefinition?url=http://hl7.org/fhir/StructureDefinition/Patient", "", 200).body.Get("total").Text; n != "2" {
		d.Errorf("%s StructureDefinitions of Patient", n)
	}
	d.call("DELETE", "StructureDefinition/"+mine.body.ID(), "", 200, 204)
	for query, want := range map[string]string{
		"StructureDefinition?name=HumanName&kind=complex-type": "1", "StructureDefinition?type=Patient&derivation=specialization": "1",
		"StructureDefinition?url=https://kiln.example/fhir/StructureDefinition/held-until": "1", "SearchParameter?base=Slot&code=start": "1",
		"OperationDefinition?code=everything&type=true": "2", "CompartmentDefinition?code=Encounter": "1", "CodeSystem?url=http://hl7.org/fhir/account-status": "1",
		"ValueSet?reference=http://hl7.org/fhir/account-status": "1", "ConceptMap?url=http://hl7.org/fhir/ConceptMap/cm-address-use-v2": "1",
	} {
		if n := d.call("GET", query, "", 200).body.Get("total").Text; n != want {
			d.Errorf("%s: %s found, want %s", query, n, want)
		}
	}
}
