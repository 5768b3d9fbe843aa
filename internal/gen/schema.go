package main

import (
	"fmt"
	"strings"

	"kiln/fhir"
)

const (
	fhirTypeExtension = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"
	regexExtension    = "http://hl7.org/fhir/StructureDefinition/regex"
	systemTypes       = "http://hl7.org/fhirpath/System."
)

// structures are the StructureDefinitions that define types (not profiles), and the profiles that they use.
type structures struct {
	types    []*fhir.Node
	byName   map[string]*fhir.Node
	profiles map[string]*fhir.Node // by URL
}

// writeSchema writes the types:
//
//	T name kind abstract base regex               kind: p primitive, c complex, b backbone, r resource
//	E path min max flags types strength valueset  an element that the type adds; flags: c choice, s summary,
//	                                              m modifier, x XML attribute; types: code>target,target|code
//	K key severity human expression               an invariant that the type, or else the element above, adds
//
// A base stands before its derived types, and an element that a type only inherits is not written again.
func writeSchema(out *records, defs definitions) error {
	s := structures{byName: map[string]*fhir.Node{}, profiles: map[string]*fhir.Node{}}
	for _, d := range defs["StructureDefinition"] {
		switch {
		case d.GetText("derivation") == "constraint":
			s.profiles[d.GetText("url")] = d
		case d.GetText("kind") != "logical":
			s.types = append(s.types, d)
			s.byName[d.GetText("type")] = d
		}
	}
	done := map[string]bool{}
	var write func(d *fhir.Node) error
	write = func(d *fhir.Node) error {
		name := d.GetText("type")
		if done[name] {
			return nil
		}
		done[name] = true
		if base := lastPart(d.GetText("baseDefinition")); base != "" {
			if s.byName[base] == nil {
				return fmt.Errorf("%s: unknown base %s", name, base)
			}
			if err := write(s.byName[base]); err != nil {
				return err
			}
		}
		return s.writeType(out, d)
	}
	for _, d := range s.types {
		if err := write(d); err != nil {
			return err
		}
	}
	return nil
}

// writeType writes a type and, after it, the backbone types within.
func (s *structures) writeType(out *records, d *fhir.Node) error {
	name, base := d.GetText("type"), lastPart(d.GetText("baseDefinition"))
	kind := map[string]string{"primitive-type": "p", "complex-type": "c", "resource": "r"}[d.GetText("kind")]
	abstract := ""
	if d.Get("abstract").Text == "true" {
		abstract = "a"
	}
	all := d.At("snapshot", "element").Kids
	regex := ""
	if kind == "p" {
		regex = s.regex(name)
	}
	out.add("T", name, kind, abstract, base, regex)
	s.writeConstraints(out, &all[0], s.inherited(base))
	if err := s.writeElements(out, all, name, base); err != nil {
		return err
	}
	for i := range all[1:] {
		e := &all[i+1]
		path := e.GetText("path")
		if !hasChildren(all, path) {
			continue
		}
		base := e.At("type", "code").Text
		out.add("T", path, "b", "", base, "")
		s.writeConstraints(out, e, s.inherited(base))
		if err := s.writeElements(out, all, path, base); err != nil {
			return err
		}
	}
	return nil
}

// writeElements writes the elements right below parent that base does not have.
func (s *structures) writeElements(out *records, all []fhir.Node, parent, base string) error {
	for i := range all {
		e := &all[i]
		path := e.GetText("path")
		if !isChild(path, parent) || s.byName[parent].GetText("kind") == "primitive-type" && strings.HasSuffix(path, ".value") {
			continue
		}
		if e.At("base", "path").Text != path {
			same, err := s.sameAsBase(e, base)
			if err != nil {
				return err
			}
			if same {
				continue
			}
		}
		if err := s.writeElement(out, all, e); err != nil {
			return err
		}
	}
	return nil
}

func (s *structures) writeElement(out *records, all []fhir.Node, e *fhir.Node) error {
	path := e.GetText("path")
	flags := ""
	if strings.HasSuffix(path, "[x]") {
		flags += "c"
	}
	if isTrue(e.Get("isSummary")) {
		flags += "s"
	}
	if isTrue(e.Get("isModifier")) {
		flags += "m"
	}
	for r := range e.Get("representation").Items() {
		if r.Text == "xmlAttr" {
			flags += "x"
		}
	}
	types, err := s.elementTypes(all, e)
	if err != nil {
		return err
	}
	out.add("E", path, e.Get("min").Text, e.GetText("max"), flags, strings.Join(types, "|"),
		e.At("binding").GetText("strength"), e.At("binding").GetText("valueSet"))
	if hasChildren(all, path) {
		return nil // its invariants stand with the backbone type, so that they hold where the type is used again
	}
	known := map[string]bool{}
	for t := range e.Get("type").Items() {
		for key := range s.inherited(typeCode(t)) {
			known[key] = true
		}
	}
	s.writeConstraints(out, e, known)
	for t := range e.Get("type").Items() {
		for p := range t.Get("profile").Items() {
			profile := s.profiles[p.Text]
			if profile == nil {
				return fmt.Errorf("%s: unknown profile %s", path, p.Text)
			}
			s.writeConstraints(out, &profile.At("snapshot", "element").Kids[0], known)
		}
	}
	return nil
}

// elementTypes returns the type records of an element: the type's name and the targets of a reference.
func (s *structures) elementTypes(all []fhir.Node, e *fhir.Node) ([]string, error) {
	path := e.GetText("path")
	if ref := e.GetText("contentReference"); ref != "" {
		return []string{strings.TrimPrefix(ref, "#")}, nil
	}
	if hasChildren(all, path) {
		return []string{path}, nil
	}
	var types []string
	for t := range e.Get("type").Items() {
		code := typeCode(t)
		if s.byName[code] == nil {
			return nil, fmt.Errorf("%s: unknown type %s", path, code)
		}
		var targets []string
		for p := range t.Get("targetProfile").Items() {
			targets = append(targets, lastPart(p.Text))
		}
		if targets != nil {
			code += ">" + strings.Join(targets, ",")
		}
		types = append(types, code)
	}
	if types == nil {
		return nil, fmt.Errorf("%s: no type", path)
	}
	return types, nil
}

// typeCode returns a type's name. Ids and Extension.url have a type of FHIRPath in the definitions; the extension
// beside it tells which FHIR type is meant (FHIR R4 structuredefinition-fhir-type).
func typeCode(t *fhir.Node) string {
	code := t.GetText("code")
	if !strings.HasPrefix(code, systemTypes) {
		return code
	}
	for x := range t.Get("extension").Items() {
		if x.GetText("url") == fhirTypeExtension {
			return x.GetText("valueUrl")
		}
	}
	return strings.ToLower(code[len(systemTypes):]) // xhtml.id lacks the extension
}

// regex returns a primitive's lexical form, its own or its base's.
func (s *structures) regex(name string) string {
	d := s.byName[name]
	for e := range d.At("snapshot", "element").Items() {
		if e.GetText("path") != name+".value" {
			continue
		}
		for x := range e.At("type").Kids[0].Get("extension").Items() {
			if x.GetText("url") == regexExtension {
				return x.GetText("valueString")
			}
		}
	}
	if base := lastPart(d.GetText("baseDefinition")); base != "Element" {
		return s.regex(base)
	}
	return ""
}

// inherited returns the keys of the invariants of the type and its bases.
func (s *structures) inherited(name string) map[string]bool {
	keys := map[string]bool{}
	for d := s.byName[name]; d != nil; d = s.byName[lastPart(d.GetText("baseDefinition"))] {
		for c := range d.At("snapshot", "element").Kids[0].Get("constraint").Items() {
			keys[c.GetText("key")] = true
		}
	}
	return keys
}

// writeConstraints writes the invariants of e whose keys are not known yet.
func (s *structures) writeConstraints(out *records, e *fhir.Node, known map[string]bool) {
	for c := range e.Get("constraint").Items() {
		key := c.GetText("key")
		if known[key] {
			continue
		}
		known[key] = true
		out.add("K", key, c.GetText("severity"), c.GetText("human"), c.GetText("expression"))
	}
}

// sameAsBase says whether an inherited element is as the base defines it. What R4 changes (xhtml.extension: none
// allowed) is written again for the derived type.
func (s *structures) sameAsBase(e *fhir.Node, base string) (bool, error) {
	path := e.At("base", "path").Text
	if s.byName[base] == nil {
		return false, fmt.Errorf("%s: unknown base %s", e.GetText("path"), base)
	}
	owner, _, _ := strings.Cut(path, ".")
	for b := range s.byName[owner].At("snapshot", "element").Items() {
		if b.GetText("path") != path {
			continue
		}
		for _, name := range []string{"min", "max", "isSummary", "isModifier"} {
			if x, y := e.Get(name), b.Get(name); x != nil && y != nil && x.Text != y.Text {
				return false, nil
			}
		}
		return true, nil
	}
	return false, fmt.Errorf("%s: its base %s is not defined", e.GetText("path"), path)
}

func isTrue(n *fhir.Node) bool { return n != nil && n.Kind == fhir.Bool && n.Text == "true" }

func isChild(path, parent string) bool {
	rest, ok := strings.CutPrefix(path, parent+".")
	return ok && !strings.Contains(rest, ".")
}

func hasChildren(all []fhir.Node, path string) bool {
	for i := range all {
		if strings.HasPrefix(all[i].GetText("path"), path+".") {
			return true
		}
	}
	return false
}
