package validate

import (
	"slices"
	"strings"

	"kiln/fhir"
)

// MaxReferenceLength is how many bytes a literal reference may have. It is published in docs/limits.md.
const MaxReferenceLength = 16 << 10

const structureBase = "http://hl7.org/fhir/StructureDefinition/"

// reference checks a Reference (FHIR R4 references.html): the form of the literal, and that its target is of an
// allowed type as far as the reference tells by itself, by the contained resource, or by the entry of the Bundle.
func reference(r *run, n *fhir.Node, in *prop, start int) {
	literal, target := n.Get("reference"), ""
	switch {
	case literal != nil && literal.Kind == fhir.String && literal.Text != "":
		ok := false
		if target, ok = r.literal(literal.Text, start); !ok {
			return
		}
	case literal == nil && n.Get("identifier") == nil && n.Get("display") == nil && n.Get("extension") == nil &&
		partnerOf(n, "reference").Kind == fhir.Null && partnerOf(n, "display").Kind == fhir.Null:
		r.add(start, fhir.SeverityError, fhir.CodeRequired, "reference-empty",
			"A Reference needs a reference, an identifier or a display")
	}
	if stated := strings.TrimPrefix(n.GetText("type"), structureBase); stated != "" && !strings.Contains(stated, ":") {
		switch {
		case !r.v.isType(stated):
			r.add(start, fhir.SeverityError, fhir.CodeValue, "reference-type",
				"Reference.type %s is not a resource type%s", quote(stated), r.suggestType(stated))
			return
		case target != "" && target != stated:
			r.add(start, fhir.SeverityError, fhir.CodeValue, "reference-type",
				"Reference.type says %s, but the reference points at a %s", stated, target)
			return
		}
		target = stated
	}
	if in != nil && in.ref != nil && target != "" && !allows(in.ref.Targets, target) {
		r.add(start, fhir.SeverityError, fhir.CodeValue, "reference-target",
			"%s may refer to %s, not to %s", in.json, alternatives(in.ref.Targets), target)
	}
}

// literal finds the type of a literal reference's target, "" where it cannot be told.
func (r *run) literal(text string, start int) (target string, ok bool) {
	if typ, id, found := strings.Cut(text, "/"); found && r.v.isType(typ) && fhir.ValidID(id) {
		return typ, true // the usual form, without an allocation
	}
	if len(text) > MaxReferenceLength {
		r.add(start, fhir.SeverityError, fhir.CodeTooLong, "reference-length", "The reference has more than %d bytes",
			MaxReferenceLength)
		return "", false
	}
	if before, _, _ := strings.Cut(text, "?"); hasSpace(before) {
		r.add(start, fhir.SeverityError, fhir.CodeValue, "format-reference",
			"The reference %s holds white space, which a URL must not", quote(text))
		return "", false
	}
	ref, ok := fhir.ParseReference(text, r.v.isType)
	if !ok {
		typ, _, _ := strings.Cut(text, "/")
		hint := ""
		if !r.v.isType(typ) {
			hint = r.suggestType(typ)
		}
		r.add(start, fhir.SeverityError, fhir.CodeValue, "format-reference",
			"%s is no reference: it must be Type/id, an absolute URL, urn:uuid:…, or #id of a contained resource%s",
			quote(text), hint)
		return "", false
	}
	switch {
	case ref.Container:
		return r.frame.fragment("")
	case text[0] == '#':
		if target, ok = r.frame.fragment(ref.Fragment); !ok {
			r.add(start, fhir.SeverityError, fhir.CodeInvariant, "ref-1",
				"No contained resource has the id %s", quote(ref.Fragment))
		}
		return target, ok
	case ref.URN != "":
		if r.frame.bundle != nil {
			return r.frame.bundle.typeOf(ref.URN), true
		}
	}
	return ref.Type, true
}

// canonical checks a canonical URL whose format is right: what it names within the resource must be there and be of an
// allowed type.
func (r *run) canonical(text string, x *prop) {
	if text[0] != '#' {
		return
	}
	typ, ok := r.frame.fragment(text[1:])
	switch {
	case !ok:
		r.fail(fhir.CodeValue, "canonical-fragment", "No contained resource has the id %s", quote(text[1:]))
	case x.ref != nil && !allows(x.ref.Targets, typ):
		r.fail(fhir.CodeValue, "canonical-target", "%s may name %s, not %s", x.json, alternatives(x.ref.Targets), typ)
	}
}

func allows(targets []string, typ string) bool {
	return len(targets) == 0 || slices.Contains(targets, typ) || slices.Contains(targets, "Resource")
}

// alternatives lists what would be right.
func alternatives(names []string) string {
	const shown = 12
	switch n := len(names); {
	case n == 1:
		return names[0]
	case n > shown:
		return strings.Join(names[:shown], ", ") + ", …"
	default:
		return strings.Join(names[:n-1], ", ") + " or " + names[n-1]
	}
}
