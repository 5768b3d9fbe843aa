package resources

import (
	"fmt"
	"html"
	"strings"

	"kiln/fhir"
	"kiln/resources/records"
)

// narrative is a Narrative that the server made of data. div is XHTML, escaped.
func narrative(div string) fhir.Node {
	return fhir.Obj(fhir.Str("generated").As("status"), fhir.Str(`<div xmlns="http://www.w3.org/1999/xhtml">`+div+`</div>`).As("div"))
}

func paragraph(text, before, after string) string {
	return "<p>" + html.EscapeString(before+plain(text)+after) + "</p>"
}

// maxCell is how much of a text one cell of a narrative shows.
const maxCell = 300

// plain is a text for people on one line: XHTML has no place for control characters.
func plain(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xfffe || r == 0xffff }), " ")
	if runes := []rune(text); len(runes) > maxCell {
		text = string(runes[:maxCell]) + "…"
	}
	return text
}

// table lists records: what, when, and more about it.
func table(list []*fhir.Node, more bool) string {
	var b strings.Builder
	b.WriteString("<table><thead><tr><th>What</th><th>When</th><th>Status</th><th>More</th></tr></thead><tbody>")
	for _, n := range list {
		b.WriteString("<tr>")
		for _, cell := range []string{titleOf(n), whenOf(n), statusOf(n), moreOf(n)} {
			b.WriteString("<td>" + html.EscapeString(plain(cell)) + "</td>")
		}
		b.WriteString("</tr>")
	}
	b.WriteString("</tbody></table>")
	if more {
		fmt.Fprintf(&b, "<p>Only the newest %d of each kind are listed.</p>", maxSection)
	}
	return b.String()
}

// labelOf is what people read of a CodeableConcept.
func labelOf(concept *fhir.Node) string {
	if text := concept.GetText("text"); text != "" {
		return text
	}
	code := ""
	for c := range concept.Get("coding").Items() {
		if text := c.GetText("display"); text != "" {
			return text
		}
		if code == "" {
			code = c.GetText("code")
		}
	}
	return code
}

func labelOfPerson(n *fhir.Node) string {
	for name := range n.Get("name").Items() {
		if text := name.GetText("text"); text != "" {
			return text
		}
		var parts []string
		for given := range name.Get("given").Items() {
			parts = append(parts, given.Text)
		}
		return strings.TrimSpace(strings.Join(append(parts, name.GetText("family")), " "))
	}
	return "a patient"
}

// titleOf is what a record is about.
func titleOf(n *fhir.Node) string {
	for _, element := range []string{"code", "vaccineCode", "medicationCodeableConcept"} {
		if text := labelOf(n.Get(element)); text != "" {
			return text
		}
	}
	for _, element := range []string{"medicationReference", "device"} {
		if r := n.Get(element); r != nil {
			return referenceText(r)
		}
	}
	for _, element := range []string{"title", "description"} {
		if text := n.GetText(element); text != "" {
			return text
		}
	}
	if text := labelOf(n.Get("type")); text != "" {
		return text
	}
	for c := range n.Get("category").Items() {
		return labelOf(c)
	}
	return n.ResourceType()
}

func referenceText(r *fhir.Node) string {
	if text := r.GetText("display"); text != "" {
		return text
	}
	return r.GetText("reference")
}

// whenElements are where records say when something was; the first that there is counts.
var whenElements = []string{"effectiveDateTime", "effectiveInstant", "effectivePeriod", "performedDateTime", "performedPeriod", "performedString", "occurrenceDateTime",
	"occurrenceString", "onsetDateTime", "onsetPeriod", "onsetString", "timingDateTime", "timingPeriod", "period", "authoredOn", "recordedDate", "recordedOn", "issued", "created",
	"dateTime", "date"}

func whenOf(n *fhir.Node) string {
	for _, element := range whenElements {
		switch v := n.Get(element); {
		case v == nil:
		case v.Kind == fhir.Object:
			if from, to := v.GetText("start"), v.GetText("end"); from != "" || to != "" {
				return strings.TrimSpace(from + " – " + to)
			}
		case v.Text != "":
			return v.Text
		}
	}
	return ""
}

func statusOf(n *fhir.Node) string {
	if text := n.GetText("status"); text != "" {
		return text
	}
	return strings.Trim(records.CodeOf(n.Get("clinicalStatus"))+", "+records.CodeOf(n.Get("verificationStatus")), ", ")
}

// moreOf is the value of a measurement, how a medicine is taken, or how bad an allergy is.
func moreOf(n *fhir.Node) string {
	var parts []string
	add := func(text string) {
		if text != "" {
			parts = append(parts, text)
		}
	}
	add(valueText(n))
	for c := range n.Get("component").Items() {
		if v := valueText(c); v != "" {
			add(labelOf(c.Get("code")) + ": " + v)
		}
	}
	for d := range n.Get("dosageInstruction").Items() {
		add(d.GetText("text"))
	}
	for d := range n.Get("dosage").Items() {
		add(d.GetText("text"))
	}
	add(n.GetText("conclusion"))
	add(n.GetText("summary"))
	if p := n.Get("provision"); n.ResourceType() == "Consent" {
		add(p.GetText("type"))
		for c := range p.Get("code").Items() {
			add(labelOf(c))
		}
	}
	if c := n.GetText("criticality"); c != "" {
		add("criticality " + c)
	}
	for r := range n.Get("reaction").Items() {
		for m := range r.Get("manifestation").Items() {
			add(labelOf(m))
		}
	}
	return strings.Join(parts, "; ")
}

func valueText(n *fhir.Node) string {
	for i := range n.Kids {
		v := &n.Kids[i]
		switch v.Name {
		case "valueQuantity":
			number := ""
			if x := v.Get("value"); x != nil {
				number = x.Text
			}
			unit := v.GetText("unit")
			if unit == "" {
				unit = v.GetText("code")
			}
			return strings.TrimSpace(v.GetText("comparator") + number + " " + unit)
		case "valueCodeableConcept":
			return labelOf(v)
		case "valueString", "valueDateTime", "valueTime", "valueInteger", "valueBoolean":
			return v.Text
		}
	}
	return ""
}
