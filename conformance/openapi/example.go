package openapi

import (
	"kiln/fhir"
)

// example is an official example of a type, without its narrative, or the least that such a resource can be.
func (d *document) example(typ string) fhir.Node {
	if data, ok := d.registry.Example(typ); ok {
		if n, err := fhir.ParseJSON(data); err == nil {
			n.Remove("text")
			return *n
		}
	}
	return obj(text("resourceType", typ))
}

// transaction is a Bundle that a newcomer can send.
func transactionExample() fhir.Node {
	n, err := fhir.ParseJSON([]byte(`{"resourceType":"Bundle","type":"transaction","entry":[
{"fullUrl":"urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a","resource":{"resourceType":"Patient","active":true,"name":[{"family":"Example","given":["Ada"]}],"gender":"female","birthDate":"1990-05-04"},"request":{"method":"POST","url":"Patient"}},
{"resource":{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4","display":"Heart rate"}]},"subject":{"reference":"urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"},"effectiveDateTime":"2026-05-04T10:00:00Z","valueQuantity":{"value":61,"unit":"/min","system":"http://unitsofmeasure.org","code":"/min"}},"request":{"method":"POST","url":"Observation"}}]}`))
	if err != nil {
		return obj()
	}
	return *n
}
