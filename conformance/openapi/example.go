package openapi

import (
	"kiln/fhir"
)

// least are examples of types that R4 has no valid example of by itself.
var least = map[string]string{
	"CodeSystem": `{"resourceType":"CodeSystem","url":"http://example.org/fhir/CodeSystem/colours","status":"draft","content":"complete",` +
		`"concept":[{"code":"red","display":"Red"}]}`,
	"ValueSet": `{"resourceType":"ValueSet","url":"http://example.org/fhir/ValueSet/colours","status":"draft",` +
		`"compose":{"include":[{"system":"http://example.org/fhir/CodeSystem/colours"}]}}`,
	"DeviceMetric":       `{"resourceType":"DeviceMetric","type":{"text":"Heart rate"},"category":"measurement"}`,
	"DeviceUseStatement": `{"resourceType":"DeviceUseStatement","status":"active","subject":{"reference":"Patient/example"},"device":{"reference":"Device/example"}}`,
	"Parameters":         `{"resourceType":"Parameters","parameter":[{"name":"example","valueString":"text"}]}`,
}

// example is an official example of a type, without its narrative; or the least that such a resource can be.
func (d *document) example(typ string) fhir.Node {
	data, ok := d.registry.Example(typ)
	if !ok {
		data = []byte(least[typ])
	}
	if n, err := fhir.ParseJSON(data); err == nil {
		n.Remove("text")
		return *n
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

// sampleOf is a valid value of a primitive type.
func sampleOf(primitive string) fhir.Node {
	switch primitive {
	case "boolean":
		return fhir.Boolean(true)
	case "integer", "positiveInt", "unsignedInt", "decimal":
		return fhir.Node{Kind: fhir.Number, Text: "1"}
	case "date":
		return fhir.Str("2026-05-04")
	case "dateTime", "instant":
		return fhir.Str("2026-05-04T10:00:00Z")
	case "uri", "url", "canonical":
		return fhir.Str("http://example.org/fhir")
	}
	return fhir.Str("example")
}
