package leak

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"kiln/fhir"
	"kiln/resources"
)

// write makes one request that changes something, or tries to.
func (w *known) write(r *rand.Rand) Ask {
	n := w.one(r)
	typ := n.ResourceType()
	body := w.changed(r, n)
	q := func() string { return w.where(r, typ).encode() }
	switch r.IntN(14) {
	case 0:
		return Ask{Request: resources.Request{Interaction: resources.Create, Type: typ}, Body: body}
	case 1:
		return Ask{Request: resources.Request{Interaction: resources.Create, Type: typ, IfNoneExist: q()}, Body: body}
	case 2:
		return Ask{Request: resources.Request{Interaction: resources.Update, Type: typ, ID: n.ID(), IfMatch: pick(r, []string{"", "", "1", "7", "*"})}, Body: body}
	case 3:
		return Ask{Request: resources.Request{Interaction: resources.Update, Type: typ, Query: q()}, Body: pick(r, []string{body, strings.Replace(body, `"id":"`+n.ID()+`",`, "", 1)})}
	case 4:
		return Ask{Request: resources.Request{Interaction: resources.Delete, Type: typ, ID: n.ID(), IfMatch: pick(r, []string{"", "", "1", "*"})}}
	case 5:
		return Ask{Request: resources.Request{Interaction: resources.Delete, Type: typ, Query: q()}}
	case 6, 7:
		a := Ask{Request: resources.Request{Interaction: resources.Patch, Type: typ, ID: n.ID(), JSONPatch: []byte(w.patch(r, n))}}
		if r.IntN(3) == 0 {
			a.ID, a.Query = "", q()
		}
		return a
	case 8:
		return w.transaction(r)
	case 9:
		return Ask{Request: resources.Request{Interaction: resources.Operate, Operation: pick(r, []string{"meta-add", "meta-delete"}), Type: typ, ID: n.ID()},
			Body: `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"system":"urn:t","code":"x"}]}}]}`}
	case 10:
		a := Ask{Request: resources.Request{Interaction: resources.Create, Type: "AppointmentResponse"},
			Body: `{"resourceType":"AppointmentResponse","appointment":{"reference":"` + w.some(r, "Appointment") + `"},"actor":{"reference":"` + w.some(r, pick(r, []string{"Patient", "Practitioner"})) + `"},"participantStatus":"` + pick(r, []string{"accepted", "declined"}) + `"}`}
		return a
	case 11:
		a := Ask{Request: resources.Request{Interaction: resources.Create, Type: typ, IdempotencyKey: pick(r, []string{"k1", "k2"})}, Body: body}
		return a
	default:
		return w.schedule(r)
	}
}

func (w *known) some(r *rand.Rand, typ string) string { return typ + "/" + w.of(r, typ).ID() }

// changed is a resource with another patient, another text, or as it is.
func (w *known) changed(r *rand.Rand, n *fhir.Node) string {
	text := string(n.JSON())
	switch r.IntN(4) {
	case 0:
		for range 2 {
			text = strings.ReplaceAll(text, fmt.Sprintf("Patient/p%d", r.IntN(patients)), fmt.Sprintf("Patient/p%d", r.IntN(patients)))
		}
	case 1:
		text = strings.ReplaceAll(text, "Amber", "Zinnia")
	case 2:
		if others := w.byType["Encounter"]; len(others) > 0 {
			text = strings.Replace(text, `"encounter":{"reference":"`, `"encounter":{"reference":"`+w.some(r, "Encounter")+`","display":"`, 1)
		}
	}
	return text
}

func (w *known) patch(r *rand.Rand, n *fhir.Node) string {
	var kids []string
	for _, k := range n.Kids {
		if k.Name != "resourceType" && k.Name != "id" && k.Name != "meta" {
			kids = append(kids, fmt.Sprintf(`{"op":"test","path":"/%s","value":%s}`, k.Name, k.JSON()))
		}
	}
	ops := []string{}
	if len(kids) > 0 && r.IntN(2) == 0 {
		ops = append(ops, pick(r, kids))
	}
	return "[" + strings.Join(append(ops, `{"op":"add","path":"/language","value":"en"}`), ",") + "]"
}

func (w *known) transaction(r *rand.Rand) Ask {
	kind, interaction := "transaction", resources.Transaction
	if r.IntN(3) == 0 {
		kind, interaction = "batch", resources.Batch
	}
	var entries []string
	for range 1 + r.IntN(2) {
		n := w.one(r)
		typ := n.ResourceType()
		body := w.changed(r, n)
		if r.IntN(2) == 0 {
			body = strings.Replace(body, `"reference":"Patient/p1"`, `"reference":`+jsonText("Patient?"+w.where(r, "Patient").encode()), 1)
			body = strings.Replace(body, `"reference":"Practitioner/d1"`, `"reference":`+jsonText("Practitioner?"+w.where(r, "Practitioner").encode()), 1)
		}
		switch r.IntN(4) {
		case 0:
			entries = append(entries, fmt.Sprintf(`{"resource":%s,"request":{"method":"PUT","url":"%s/%s"}}`, body, typ, n.ID()))
		case 1:
			entries = append(entries, fmt.Sprintf(`{"resource":%s,"request":{"method":"POST","url":"%s","ifNoneExist":%s}}`, body, typ, jsonText(w.where(r, typ).encode())))
		case 2:
			entries = append(entries, fmt.Sprintf(`{"request":{"method":"DELETE","url":%s}}`, jsonText(pick(r, []string{typ + "/" + n.ID(), typ + "?" + w.where(r, typ).encode()}))))
		default:
			entries = append(entries, fmt.Sprintf(`{"resource":%s,"request":{"method":"POST","url":"%s"}}`, body, typ))
		}
	}
	return Ask{Request: resources.Request{Interaction: interaction}, Body: `{"resourceType":"Bundle","type":"` + kind + `","entry":[` + strings.Join(entries, ",") + `]}`}
}

// schedule runs an operation of scheduling.
func (w *known) schedule(r *rand.Rand) Ask {
	visit := w.of(r, "Appointment")
	var start string
	for _, n := range w.byType["Slot"] {
		if start = n.GetText("start"); r.IntN(4) == 0 {
			break
		}
	}
	run := func(typ, id, code string, parts ...string) Ask {
		return Ask{Request: resources.Request{Interaction: resources.Operate, Operation: code, Type: typ, ID: id},
			Body: `{"resourceType":"Parameters","parameter":[` + strings.Join(parts, ",") + `]}`}
	}
	reason := `{"name":"reason","valueCodeableConcept":{"text":"x"}}`
	ref := func(name, to string) string {
		return `{"name":"` + name + `","valueReference":{"reference":"` + to + `"}}`
	}
	switch r.IntN(9) {
	case 7:
		return run("Patient", "", "merge", ref("source-patient", w.some(r, "Patient")), ref("target-patient", w.some(r, "Patient")))
	case 8:
		return run("CoverageEligibilityRequest", "", "submit", `{"name":"resource","resource":{"resourceType":"CoverageEligibilityRequest","status":"active","purpose":["validation"],"created":"2024-01-01","patient":{"reference":"`+w.some(r, "Patient")+
			`"},"insurer":{"reference":"Organization/o0"},"insurance":[{"coverage":{"reference":"`+w.some(r, "Coverage")+`"}}]}}`)
	case 0:
		return run("Appointment", visit.ID(), "cancel", reason)
	case 1:
		return run("Appointment", visit.ID(), "reschedule", `{"name":"start","valueDateTime":"`+start+`"}`)
	case 2:
		return run("Appointment", "", "find", `{"name":"start","valueDateTime":"`+start[:10]+`"}`, `{"name":"end","valueDateTime":"`+start[:8]+`31"}`, ref("practitioner", w.some(r, "Practitioner")), ref("patient-reference", w.some(r, "Patient")))
	case 3:
		return run("Appointment", "", "book", `{"name":"appointment-resource","resource":{"resourceType":"Appointment","status":"booked","slot":[{"reference":"`+w.some(r, "Slot")+`"}],"participant":[{"actor":{"reference":"`+w.some(r, "Patient")+`"},"status":"accepted"}]}}`)
	case 4:
		return run("Schedule", w.of(r, "Schedule").ID(), "block", `{"name":"start","valueDateTime":"`+start+`"}`, `{"name":"end","valueDateTime":"`+start[:11]+`23:30:00Z"}`, `{"name":"resolve","valueCode":"list"}`)
	case 5:
		return run("Appointment", "", "book", ref("appointment-reference", "Appointment/"+visit.ID()))
	default:
		return run("Appointment", "", "hold", `{"name":"appointment-resource","resource":{"resourceType":"Appointment","status":"proposed","slot":[{"reference":"`+w.some(r, "Slot")+`"}],"participant":[{"actor":{"reference":"`+w.some(r, "Patient")+`"},"status":"accepted"}]}}`)
	}
}
