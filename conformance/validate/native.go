package validate

import (
	"slices"
	"strings"
	"time"

	"kiln/fhir"
)

// structural are the invariants that the walk checks by itself, always: their published forms search the whole
// resource for each element.
var structural = map[string]bool{
	"ele-1": true, "ext-1": true, "ref-1": true, "txt-1": true, "txt-2": true,
	"dom-2": true, "dom-3": true, "dom-4": true, "dom-5": true,
	"bdl-1": true, "bdl-2": true, "bdl-3": true, "bdl-4": true, "bdl-5": true, "bdl-7": true, "bdl-8": true,
	"bdl-9": true, "bdl-10": true, "bdl-11": true, "bdl-12": true,
}

// bestPractice are the warnings that R4 marks by the extension elementdefinition-bestpractice.
var bestPractice = map[string]bool{"dom-6": true, "con-3": true}

// natives are invariants in Go, by their published expression, so that a profile's constraint with the same key but
// another text is not mistaken for one. They are the ones that stand on datatypes, or on the resources that are written
// most. TestNativesAgreeWithFHIRPath compares both forms.
var natives = map[string]func(n *fhir.Node) bool{
	// dom-6
	"text.`div`.exists()": func(n *fhir.Node) bool { return n.Get("text").Get("div") != nil },
	// per-1
	"start.hasValue().not() or end.hasValue().not() or (start <= end)": func(n *fhir.Node) bool {
		return notAfter(n.GetText("start"), n.GetText("end"))
	},
	// Task.inv-1
	"lastModified.exists().not() or authoredOn.exists().not() or lastModified >= authoredOn": func(n *fhir.Node) bool {
		return notAfter(n.GetText("authoredOn"), n.GetText("lastModified"))
	},
	// mdd-1
	"whenHandedOver.empty() or whenPrepared.empty() or whenHandedOver >= whenPrepared": func(n *fhir.Node) bool {
		return notAfter(n.GetText("whenPrepared"), n.GetText("whenHandedOver"))
	},
	// qty-3
	"code.empty() or system.exists()": func(n *fhir.Node) bool { return !exists(n, "code") || exists(n, "system") },
	// sqty-1
	"comparator.empty()": func(n *fhir.Node) bool { return !exists(n, "comparator") },
	// cpt-2
	"value.empty() or system.exists()": func(n *fhir.Node) bool { return !exists(n, "value") || exists(n, "system") },
	// att-1
	"data.empty() or contentType.exists()": func(n *fhir.Node) bool { return !exists(n, "data") || exists(n, "contentType") },
	// rat-1
	"(numerator.empty() xor denominator.exists()) and (numerator.exists() or extension.exists())": func(n *fhir.Node) bool {
		return exists(n, "numerator") == exists(n, "denominator") && (exists(n, "numerator") || exists(n, "extension"))
	},
	// obs-3
	"low.exists() or high.exists() or text.exists()": func(n *fhir.Node) bool {
		return exists(n, "low") || exists(n, "high") || exists(n, "text")
	},
	// obs-6
	"dataAbsentReason.empty() or value.empty()": func(n *fhir.Node) bool {
		return !exists(n, "dataAbsentReason") || !existsChoice(n, "value")
	},
	// obs-7
	"value.empty() or component.code.where(coding.intersect(%resource.code.coding).exists()).empty()": obs7,
	// pat-1
	"name.exists() or telecom.exists() or address.exists() or organization.exists()": func(n *fhir.Node) bool {
		return exists(n, "name") || exists(n, "telecom") || exists(n, "address") || exists(n, "organization")
	},
	// *-0: a name for code generators. The expression has no anchors, so that a part of any name fits it; the whole is
	// meant, as the rule's text and R5 say.
	"name.matches('[A-Z]([A-Za-z0-9_]){0,254}')": func(n *fhir.Node) bool {
		name := n.GetText("name")
		return name == "" || name[0] >= 'A' && name[0] <= 'Z' && len(name) <= 255 && plainName(name)
	},
}

func plainName(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if !(c >= 'a' && c <= 'z' || s[i] >= '0' && s[i] <= '9' || s[i] == '_') {
			return false
		}
	}
	return true
}

// exists says whether an element has a value, or at least an extension in its "_name".
func exists(n *fhir.Node, name string) bool {
	return n.Get(name) != nil || partnerOf(n, name).Kind != fhir.Null
}

// existsChoice is exists for name[x].
func existsChoice(n *fhir.Node, name string) bool {
	for i := range n.Kids {
		rest, ok := strings.CutPrefix(strings.TrimPrefix(n.Kids[i].Name, "_"), name)
		if ok && rest != "" && rest[0] >= 'A' && rest[0] <= 'Z' {
			return true
		}
	}
	return false
}

// obs7 says whether no component has a code of the Observation itself when that has a value.
func obs7(n *fhir.Node) bool {
	components := n.Get("component")
	if components == nil || !existsChoice(n, "value") {
		return true
	}
	own := map[string]bool{}
	for coding := range n.At("code", "coding").Items() {
		own[codingKey(coding)] = true
	}
	for c := range components.Items() {
		for coding := range c.At("code", "coding").Items() {
			if own[codingKey(coding)] {
				return false
			}
		}
	}
	return true
}

// codingKey is the same for equal Codings, as FHIRPath's intersect compares them.
func codingKey(n *fhir.Node) string {
	members := slices.Clone(n.Kids)
	slices.SortFunc(members, func(a, b fhir.Node) int { return strings.Compare(a.Name, b.Name) })
	return string((&fhir.Node{Kind: fhir.Object, Kids: members}).JSON())
}

// notAfter says whether the first date-time is not surely after the second. R4 writes "start <= end" and says of an
// end of 2012-02-03 that it includes the whole day (datatypes.html#Period): FHIRPath has no answer there. Where one
// text has no time zone, any zone is granted.
func notAfter(first, second string) bool {
	const widestZone = 14 * time.Hour
	if first == "" || second == "" {
		return true
	}
	a, ok := fhir.ParseDateTime(first, nil)
	if !ok {
		return true
	}
	b, ok := fhir.ParseDateTime(second, nil)
	if !ok {
		return true
	}
	end := b.End()
	if a.Zoned != b.Zoned {
		end = end.Add(widestZone)
	}
	return a.Time.Before(end)
}
