package storage_test

import (
	"encoding/json"
	"fmt"

	"pgregory.net/rapid"
)

// This file makes random resources for the comparison with the oracle. Values come from small pools, so that they meet
// again and again, in data and in queries; the pools are full of what has gone wrong somewhere.

type object = map[string]any

var (
	poolStrings = []string{"Łódź", "lodz", "Müller", "MULLER", "muller-lüdenscheidt", "Mu\u0308ller", "Straße", "STRASSE", "Ångström", "O'Brien", "OBrien",
		"van der Berg", "van  der\tBerg", "Σίσυφος", "ΣΊΣΥΦΟΣ", "İnci", "100%", "a_b", `back\slash`, "a,b", "a$b", "a|b", "Ann", "Anna", "anna",
		"ﬁnn", "日本", "日本語", "x", "Nguyễn", " padded "}
	poolSystems = []string{"http://loinc.org", "http://snomed.info/sct", "http://example.org/a|b", "http://example.org/codes",
		"http://terminology.hl7.org/CodeSystem/v3-ActCode", ""}
	poolCodes = []string{"8302-2", "8480-6", "A", "a", "=a", "a,b", "a$b", `a\b`, "a|b", "AMB", "amb", "ΑΒΣ", "αβς", "Straße", ""}
	poolDates = []string{"2019", "2020", "2020-02", "2020-02-29", "2020-03-01", "2021-12-31", "0001", "9999-12-31", "2020-02-30"}
	poolTimes = []string{"2020-02-29T23:30:00-05:00", "2020-03-01T04:30:00Z", "2020-03-01T00:00:00Z", "2020-02-29T23:59:59.999Z",
		"2020-03-01T05:30:00.5+01:00", "2021-12-31T23:59:60Z", "2020-03-01T00:00:00.123456Z", "2019-12-31T23:00:00-01:00"}
	poolNumbers = []string{"5", "5.0", "5.4", "5.40", "5.35", "5.45", "5.449", "100", "99.5", "100.5", "1e2", "0", "-5", "0.0054", "5400", "-0.5", "5.4e3", "54e-1"}
	poolUnits   = []string{"g", "mg", "kg", "ug", "mm[Hg]", "cm", "m", "[in_i]"}
	poolURIs    = []string{"http://example.org/fhir/ValueSet/1", "http://example.org/fhir/ValueSet/123", "http://example.org/fhir/ValueSet/1/a",
		"http://example.org/fhir/", "http://example.org/fhir", "http://example.org/fhirx", "urn:oid:1.2.3", "urn:oid:1.2.3.4", "http://EXAMPLE.org/fhir",
		"http://localhost/fhir/ValueSet/v1", "http://example.org/a_b%25c"}
	poolIDs = []string{"a", "b", "c", "A", "1"}
)

// populated are the types of the random resources.
var populated = []string{"Patient", "Practitioner", "Organization", "Observation", "Encounter", "Condition", "Appointment", "Questionnaire",
	"QuestionnaireResponse", "ValueSet", "MolecularSequence", "Group", "DocumentReference", "RiskAssessment", "Location"}

func pick(t *rapid.T, list ...string) string { return rapid.SampledFrom(list).Draw(t, "pick") }

func maybe(t *rapid.T, o object, name string, value func() any) {
	if rapid.IntRange(0, 9).Draw(t, name) < 7 {
		o[name] = value()
	}
}

// anyPosition is a place on a grid, so that several have the same, sometimes half of one or none that there is.
func anyPosition(t *rapid.T) object {
	o := object{}
	if rapid.IntRange(0, 9).Draw(t, "latitude") > 0 {
		o["latitude"] = json.Number(pick(t, "0", "10.5", "-16.9", "89.999", "52.5200", "91"))
	}
	if rapid.IntRange(0, 9).Draw(t, "longitude") > 0 {
		o["longitude"] = json.Number(pick(t, "0", "10.5", "-179.95", "179.95", "13.4050"))
	}
	return o
}

// many adds a list of up to three.
func many(t *rapid.T, o object, name string, value func() any) {
	var list []any
	for range rapid.IntRange(0, 3).Draw(t, name) {
		list = append(list, value())
	}
	if list != nil {
		o[name] = list
	}
}

func anyCoding(t *rapid.T) any {
	c := object{"display": pick(t, poolStrings...)}
	if s := pick(t, poolSystems...); s != "" {
		c["system"] = s
	}
	if s := pick(t, poolCodes...); s != "" {
		c["code"] = s
	}
	return c
}

func anyConcept(t *rapid.T) any {
	c := object{"text": pick(t, poolStrings...)}
	many(t, c, "coding", func() any { return anyCoding(t) })
	return c
}

func anyIdentifier(t *rapid.T) any {
	c := object{}
	maybe(t, c, "system", func() any { return pick(t, poolSystems[:4]...) })
	maybe(t, c, "value", func() any { return pick(t, poolCodes[:len(poolCodes)-1]...) })
	maybe(t, c, "type", func() any { return anyConcept(t) })
	return c
}

func anyDate(t *rapid.T) string { return pick(t, poolDates[:8]...) }

func anyTime(t *rapid.T) string { return pick(t, append(poolTimes, poolDates[:8]...)...) }

func anyPeriod(t *rapid.T) any {
	p := object{}
	maybe(t, p, "start", func() any { return anyTime(t) })
	maybe(t, p, "end", func() any { return anyTime(t) })
	return p
}

func anyNumber(t *rapid.T) json.Number { return json.Number(pick(t, poolNumbers...)) }

func anyQuantity(t *rapid.T) object {
	q := object{"value": anyNumber(t)}
	switch rapid.IntRange(0, 4).Draw(t, "unit") {
	case 0:
	case 1:
		q["unit"] = pick(t, "g", "mg", "Gramm", "mm[Hg]")
	case 2:
		q["system"], q["code"] = "http://example.org/units", pick(t, "g", "lot")
	default:
		q["system"], q["code"], q["unit"] = "http://unitsofmeasure.org", pick(t, append(poolUnits, "nonsense")...), pick(t, "g", "Gramm")
	}
	if rapid.IntRange(0, 4).Draw(t, "comparator") == 0 {
		q["comparator"] = pick(t, "<", "<=", ">", ">=")
	}
	return q
}

func anyRange(t *rapid.T) any {
	low := anyQuantity(t)
	delete(low, "comparator")
	high := object{}
	for k, v := range low {
		high[k] = v
	}
	low["value"], high["value"] = json.Number(pick(t, "0", "5", "5.35")), json.Number(pick(t, "5.4", "100", "5400"))
	r := object{"low": low, "high": high}
	if bound := pick(t, "low", "high", "", ""); bound != "" {
		delete(r, bound)
	}
	return r
}

func anyReference(t *rapid.T, types ...string) any {
	to := pick(t, types...) + "/" + pick(t, poolIDs...)
	switch rapid.IntRange(0, 11).Draw(t, "reference") {
	case 0:
		return object{"identifier": anyIdentifier(t)}
	case 1:
		return object{"display": pick(t, poolStrings...)}
	case 2:
		to = "http://localhost/fhir/" + to
	case 3:
		to = "http://elsewhere.org/fhir/" + to
	case 4:
		to += "/_history/2"
	case 10, 11:
		to = pick(t, "#contained", "#contained", "#a", "#")
	case 5:
		to = pick(t, "#contained", "urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7")
	}
	return object{"reference": to}
}

func anyValue(t *rapid.T, o object) {
	switch rapid.IntRange(0, 8).Draw(t, "value") {
	case 0, 1, 2:
		o["valueQuantity"] = anyQuantity(t)
	case 3:
		o["valueCodeableConcept"] = anyConcept(t)
	case 4:
		o["valueString"] = pick(t, poolStrings...)
	case 5:
		o["valueDateTime"] = anyTime(t)
	case 6:
		o["valuePeriod"] = anyPeriod(t)
	case 7:
		o["valueRange"] = anyRange(t)
	}
}

func anyContext(t *rapid.T) any {
	c := object{"code": anyCoding(t)}
	switch rapid.IntRange(0, 3).Draw(t, "context") {
	case 0:
		c["valueCodeableConcept"] = anyConcept(t)
	case 1:
		c["valueQuantity"] = anyQuantity(t)
	case 2:
		c["valueRange"] = anyRange(t)
	}
	return c
}

func anyName(t *rapid.T) any {
	n := object{}
	maybe(t, n, "family", func() any { return pick(t, poolStrings...) })
	many(t, n, "given", func() any { return pick(t, poolStrings...) })
	maybe(t, n, "use", func() any { return pick(t, "official", "maiden") })
	return n
}

// anyResource makes a resource of a type. Types are weighted by how many kinds of parameters they have.
func anyResource(t *rapid.T, typ, id string, inside bool) []byte {
	o := object{"resourceType": typ, "id": id}
	meta := object{}
	many(t, meta, "tag", func() any { return anyCoding(t) })
	many(t, meta, "profile", func() any { return pick(t, poolURIs...) })
	maybe(t, meta, "source", func() any { return pick(t, poolURIs...) })
	if len(meta) > 0 {
		o["meta"] = meta
	}
	text := func() any { return pick(t, poolStrings...) }
	concept := func() any { return anyConcept(t) }
	identifier := func() any { return anyIdentifier(t) }
	moment := func() any { return anyTime(t) }
	refer := func(types ...string) func() any { return func() any { return anyReference(t, types...) } }
	code := func(codes ...string) func() any { return func() any { return pick(t, codes...) } }
	many(t, o, "identifier", identifier)
	switch typ {
	case "Patient", "Practitioner":
		many(t, o, "name", func() any { return anyName(t) })
		maybe(t, o, "gender", code("male", "female", "MALE", "nonsense"))
		maybe(t, o, "birthDate", func() any { return anyDate(t) })
		maybe(t, o, "active", func() any { return rapid.Bool().Draw(t, "active") })
		many(t, o, "telecom", func() any {
			return object{"system": pick(t, "phone", "email", "url"), "value": pick(t, "555", "A@b.c", "http://x.y")}
		})
		many(t, o, "address", func() any {
			return object{"city": text(), "line": []any{text()}, "country": text(), "use": "home"}
		})
		if typ == "Patient" {
			maybe(t, o, "managingOrganization", refer("Organization"))
			maybe(t, o, "position", func() any { return anyPosition(t) })
			many(t, o, "generalPractitioner", refer("Practitioner", "Organization"))
			many(t, o, "link", func() any { return object{"other": anyReference(t, "Patient"), "type": "seealso"} })
			switch rapid.IntRange(0, 3).Draw(t, "deceased") {
			case 0:
				o["deceasedBoolean"] = rapid.Bool().Draw(t, "dead")
			case 1:
				o["deceasedDateTime"] = anyTime(t)
			case 2:
				o["_birthDate"] = object{"extension": []any{object{"url": "http://x.y", "valueString": "x"}}}
			}
		}
	case "Organization", "Location":
		maybe(t, o, "name", text)
		many(t, o, "alias", text)
		maybe(t, o, "partOf", refer(typ))
		many(t, o, "endpoint", refer("Endpoint"))
		many(t, o, "type", concept)
		if typ == "Location" {
			maybe(t, o, "status", code("active", "suspended"))
			maybe(t, o, "operationalStatus", func() any { return anyCoding(t) })
			maybe(t, o, "managingOrganization", refer("Organization"))
			maybe(t, o, "position", func() any { return anyPosition(t) })
		}
	case "Observation":
		maybe(t, o, "status", code("final", "amended", "FINAL"))
		maybe(t, o, "code", concept)
		many(t, o, "category", concept)
		maybe(t, o, "subject", refer("Patient", "Group", "Location"))
		maybe(t, o, "encounter", refer("Encounter"))
		many(t, o, "performer", refer("Practitioner", "Organization", "Patient"))
		many(t, o, "hasMember", refer("Observation"))
		many(t, o, "focus", refer("Patient", "Condition"))
		anyValue(t, o)
		switch rapid.IntRange(0, 4).Draw(t, "effective") {
		case 0, 1:
			o["effectiveDateTime"] = anyTime(t)
		case 2:
			o["effectivePeriod"] = anyPeriod(t)
		case 3:
			o["effectiveInstant"] = pick(t, poolTimes...)
		case 4:
			o["effectiveTiming"] = object{"event": []any{anyTime(t), anyTime(t)}, "repeat": object{"boundsPeriod": anyPeriod(t)}}
		}
		many(t, o, "component", func() any {
			c := object{"code": anyConcept(t)}
			anyValue(t, c)
			return c
		})
	case "Encounter":
		maybe(t, o, "status", code("finished", "planned"))
		maybe(t, o, "class", func() any { return anyCoding(t) })
		maybe(t, o, "subject", refer("Patient", "Group"))
		many(t, o, "participant", func() any { return object{"individual": anyReference(t, "Practitioner"), "type": []any{anyConcept(t)}} })
		maybe(t, o, "period", func() any { return anyPeriod(t) })
		maybe(t, o, "length", func() any { return anyQuantity(t) })
		maybe(t, o, "partOf", refer("Encounter"))
		many(t, o, "location", func() any { return object{"location": anyReference(t, "Location"), "period": anyPeriod(t)} })
	case "Condition":
		maybe(t, o, "clinicalStatus", concept)
		maybe(t, o, "code", concept)
		maybe(t, o, "subject", refer("Patient", "Group"))
		maybe(t, o, "encounter", refer("Encounter"))
		maybe(t, o, "recordedDate", moment)
		switch rapid.IntRange(0, 4).Draw(t, "onset") {
		case 0:
			o["onsetDateTime"] = anyTime(t)
		case 1:
			o["onsetPeriod"] = anyPeriod(t)
		case 2:
			o["onsetAge"] = anyQuantity(t)
		case 3:
			o["onsetString"] = text()
		case 4:
			o["onsetRange"] = anyRange(t)
		}
	case "Appointment":
		maybe(t, o, "status", code("booked", "pending"))
		maybe(t, o, "start", func() any { return pick(t, poolTimes...) })
		many(t, o, "participant", func() any {
			return object{"actor": anyReference(t, "Patient", "Practitioner", "Location"), "status": pick(t, "accepted", "declined")}
		})
		many(t, o, "serviceType", concept)
		many(t, o, "slot", refer("Slot"))
	case "Questionnaire", "ValueSet":
		maybe(t, o, "url", func() any { return pick(t, poolURIs...) })
		maybe(t, o, "version", code("1", "1.0", "a|b"))
		maybe(t, o, "name", text)
		maybe(t, o, "status", code("active", "draft"))
		maybe(t, o, "date", moment)
		many(t, o, "useContext", func() any { return anyContext(t) })
		many(t, o, "jurisdiction", concept)
		if typ == "Questionnaire" {
			maybe(t, o, "effectivePeriod", func() any { return anyPeriod(t) })
			many(t, o, "subjectType", code("Patient", "Group"))
			many(t, o, "item", func() any { return object{"code": []any{anyCoding(t)}, "definition": pick(t, poolURIs...)} })
		} else {
			o["compose"] = object{"include": []any{object{"system": pick(t, poolURIs...)}, object{"system": pick(t, poolURIs...)}}}
		}
	case "QuestionnaireResponse":
		maybe(t, o, "questionnaire", func() any { return pick(t, poolURIs...) + pick(t, "", "|1", "|1.0") })
		maybe(t, o, "status", code("completed", "amended"))
		maybe(t, o, "subject", refer("Patient", "Group"))
		maybe(t, o, "authored", moment)
		maybe(t, o, "source", refer("Patient", "Practitioner"))
	case "MolecularSequence":
		maybe(t, o, "type", code("dna", "rna"))
		maybe(t, o, "patient", refer("Patient"))
		maybe(t, o, "referenceSeq", func() any {
			return object{"chromosome": anyConcept(t), "referenceSeqId": anyConcept(t), "windowStart": rapid.IntRange(0, 5).Draw(t, "n"), "windowEnd": rapid.IntRange(3, 9).Draw(t, "n")}
		})
		many(t, o, "variant", func() any {
			return object{"start": rapid.IntRange(0, 5).Draw(t, "n"), "end": rapid.IntRange(3, 9).Draw(t, "n")}
		})
	case "Group":
		maybe(t, o, "type", code("person", "device"))
		maybe(t, o, "actual", func() any { return rapid.Bool().Draw(t, "actual") })
		maybe(t, o, "managingEntity", refer("Organization", "Practitioner"))
		many(t, o, "member", func() any { return object{"entity": anyReference(t, "Patient", "Practitioner")} })
		many(t, o, "characteristic", func() any {
			c := object{"code": anyConcept(t), "exclude": rapid.Bool().Draw(t, "exclude")}
			switch rapid.IntRange(0, 2).Draw(t, "value") {
			case 0:
				c["valueCodeableConcept"] = anyConcept(t)
			case 1:
				c["valueBoolean"] = rapid.Bool().Draw(t, "value")
			}
			return c
		})
	case "DocumentReference":
		maybe(t, o, "status", code("current", "superseded"))
		maybe(t, o, "subject", refer("Patient", "Group"))
		maybe(t, o, "date", func() any { return pick(t, poolTimes...) })
		maybe(t, o, "description", text)
		many(t, o, "relatesTo", func() any {
			return object{"code": pick(t, "replaces", "signs"), "target": anyReference(t, "DocumentReference")}
		})
		many(t, o, "content", func() any {
			return object{"attachment": object{"contentType": pick(t, "text/plain", "text/xml"), "language": "de", "url": pick(t, poolURIs...), "creation": anyTime(t)}}
		})
	case "RiskAssessment":
		maybe(t, o, "subject", refer("Patient", "Group"))
		maybe(t, o, "condition", refer("Condition"))
		many(t, o, "prediction", func() any {
			p := object{"qualitativeRisk": anyConcept(t)}
			if rapid.Bool().Draw(t, "decimal") {
				p["probabilityDecimal"] = anyNumber(t)
			} else {
				p["probabilityRange"] = anyRange(t)
			}
			return p
		})
		if rapid.Bool().Draw(t, "occurrence") {
			o["occurrenceDateTime"] = anyTime(t)
		} else {
			o["occurrencePeriod"] = anyPeriod(t)
		}
	default:
		panic(fmt.Sprintf("no generator for %s", typ))
	}
	if !inside && rapid.IntRange(0, 2).Draw(t, "contained") == 0 {
		ids := []string{"contained", "a", "b"} // each once, as FHIR asks for
		many(t, o, "contained", func() any {
			id := ids[0]
			ids = ids[1:]
			return json.RawMessage(anyResource(t, pick(t, "Patient", "Patient", "Practitioner", "Organization", "Observation", "Location", "Group"), id, true))
		})
	}
	text2, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return text2
}

// anyPopulation makes resources with ids of a small pool, so that references meet them.
func anyPopulation(size int) *rapid.Generator[[][]byte] {
	return rapid.Custom(func(t *rapid.T) [][]byte {
		seen := map[string]bool{}
		var list [][]byte
		for i := range size {
			typ := populated[i%len(populated)]
			if i%3 == 0 {
				typ = pick(t, "Observation", "Patient")
			}
			id := pick(t, poolIDs...)
			if seen[typ+"/"+id] {
				id = fmt.Sprintf("x%d", i)
			}
			seen[typ+"/"+id] = true
			list = append(list, anyResource(t, typ, id, false))
		}
		return list
	})
}
