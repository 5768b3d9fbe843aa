package profile

import (
	"slices"
	"strings"

	"kiln/fhir"
)

// host is where an extension stands: what the context of its definition is compared with.
type host struct {
	typ       *fhir.Type // of the element that is extended
	element   string     // the definition of that element: Patient.contact
	walked    string     // the element's names from the resource on: Patient.contact.name
	extension string     // the url of the extension it is in
}

// walk goes through a resource, checks the resources in it by the profiles that they claim, and extensions by their
// definitions.
func (r *run) walk(n *fhir.Node, t *fhir.Type, at *host) {
	if !r.step() {
		return
	}
	if t.Kind == fhir.Resource {
		at = &host{typ: t, element: t.Name, walked: t.Name}
		outer := r.resource
		r.resource = n
		defer func() { r.resource = outer }()
		r.claims(n, t)
	}
	for i := range n.Kids {
		kid := &n.Kids[i]
		json, sibling := strings.CutPrefix(kid.Name, "_")
		p, ok := t.Properties[json]
		if !ok || kid.Kind != fhir.Object && kid.Kind != fhir.Array {
			continue
		}
		r.push(p.Element.Name)
		index := -1
		for value := range kid.Items() {
			if kid.Kind == fhir.Array {
				index++
				r.path[len(r.path)-1].index = index
			}
			if value.Kind != fhir.Object {
				continue
			}
			typ := p.Type
			if typ == nil {
				typ = r.schema.Type(value.ResourceType())
			}
			if typ == nil || !sibling && typ.Kind == fhir.Primitive {
				continue
			}
			if typ.Name == "Extension" {
				r.extension(value, typ, at, json == "modifierExtension")
				r.walk(value, typ, &host{typ: typ, element: "Extension", walked: at.walked + ".extension", extension: value.GetText("url")})
				continue
			}
			r.walk(value, typ, &host{typ: typ, element: p.Element.Path, walked: at.walked + "." + p.Element.Name})
		}
		r.pop()
	}
}

// claims checks a resource by the profiles of its meta.profile, and not twice by those of the options.
func (r *run) claims(n *fhir.Node, t *fhir.Type) {
	count := 0
	for p := range n.At("meta", "profile").Items() {
		if count++; count > MaxProfiles {
			r.fail(fhir.CodeTooCostly, "profile-too-many", "A resource may claim %d profiles at most", MaxProfiles)
			return
		}
		if p.Kind == fhir.String && !(n == r.document && slices.Contains(r.options.Profiles, p.Text)) {
			r.conform(n, t, p.Text, false)
		}
	}
}

// extension checks an extension by its definition, where that is known, and that it may stand where it does.
// Spec: FHIR R4 defining-extensions.html#context.
func (r *run) extension(n *fhir.Node, t *fhir.Type, at *host, modifier bool) {
	url := n.GetText("url")
	if !strings.Contains(url, ":") {
		return // a part of the extension it is in, whose definition says what it is
	}
	p := r.profile(url)
	if p == nil || p.fault != nil || p.base {
		return
	}
	if p.typ != "Extension" {
		r.fail(fhir.CodeExtension, "extension-url", "%s is the profile of a %s, not an extension", quote(url), p.typ)
		return
	}
	contexts := p.contexts
	for _, name := range misplaced[strings.TrimPrefix(url, baseURL)] {
		contexts = append(contexts[:len(contexts):len(contexts)], extensionContext{"element", name})
	}
	if len(contexts) > 0 && !slices.ContainsFunc(contexts, func(c extensionContext) bool { return r.allowed(c, at) }) {
		var list []string
		for _, c := range contexts {
			list = append(list, c.expression)
		}
		r.fail(fhir.CodeExtension, "extension-context", "The extension %s may not stand here: it is for %s", url, strings.Join(list, ", "))
	}
	r.profiled(&item{value: n, typ: t, index: -1, json: "extension"}, p)
}

// misplaced are the contexts of extensions as R4 itself, and guides that HL7 published for it, use them, where R4's definitions
// of the extensions say otherwise: with those alone, no profile with a snapshot would be valid, nor a SearchParameter of US Core.
// TestR4DefinitionsFitItsExtensions and TestUSCoreConformanceResourcesAreValid find all.
var misplaced = map[string][]string{
	"structuredefinition-fhir-type":         {"ElementDefinition.type"},
	"regex":                                 {"ElementDefinition.type"},
	"structuredefinition-normative-version": {"CodeSystem", "ValueSet", "OperationDefinition", "ElementDefinition"},
	"valueset-concept-comments":             {"CodeSystem.concept"},
	"capabilitystatement-expectation": {"SearchParameter.multipleOr", "SearchParameter.multipleAnd", "SearchParameter.comparator",
		"SearchParameter.modifier", "SearchParameter.chain", "CapabilityStatement.rest.resource", "CapabilityStatement.rest.resource.operation",
		"CapabilityStatement.rest.resource.supportedProfile", "CapabilityStatement.rest.resource.referencePolicy",
		"CapabilityStatement.rest.resource.extension", "CapabilityStatement.instantiates", "CapabilityStatement.implementationGuide",
		"CapabilityStatement.format", "CapabilityStatement.patchFormat"},
}

func (r *run) allowed(c extensionContext, at *host) bool {
	switch c.kind {
	case "extension":
		return at.extension == c.expression
	case "element":
		name := c.expression
		if i := strings.LastIndexByte(name, '#'); i >= 0 {
			name = name[i+1:]
		}
		name = strings.TrimPrefix(strings.ReplaceAll(name, "[x]", ""), baseURL)
		// R4 publishes extensions for Element that stand in resources, in its own definitions (structuredefinition-standards-status).
		if name == "Element" || name == at.walked || name == strings.ReplaceAll(at.element, "[x]", "") || at.typ.Is(name) {
			return true
		}
		first, _, _ := strings.Cut(name, ".")
		return r.schema.Type(first) == nil || strings.Contains(name, ":")
	}
	return true // a FHIRPath expression, which says no more than where the extension makes sense
}
