package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"kiln/fhir"
)

var errRecord = errors.New("a record is not as the generator writes it")

// splitFields cuts a line at its tabs, without copying the texts.
func splitFields(line string) []string {
	return strings.Split(line, "\t")
}

// schemaReader reads the T, E and K records that internal/gen/schema.go describes.
type schemaReader struct {
	types   map[string]*fhir.Type
	order   []*fhir.Type
	bases   []string // of order, by name
	own     map[*fhir.Type][]*fhir.Element
	element *fhir.Element // the last one read, nil right after a type
}

func (s *schemaReader) typeRecord(f []string) error {
	if len(f) != 6 {
		return errRecord
	}
	t := &fhir.Type{Name: f[1], Abstract: f[3] == "a", Regex: f[5]}
	switch f[2] {
	case "p":
		t.Kind = fhir.Primitive
	case "c":
		t.Kind = fhir.Complex
	case "b":
		t.Kind = fhir.Backbone
	case "r":
		t.Kind = fhir.Resource
	default:
		return errRecord
	}
	s.types[t.Name] = t
	s.order = append(s.order, t)
	s.bases = append(s.bases, f[4])
	s.element = nil
	return nil
}

func (s *schemaReader) elementRecord(f []string) error {
	if len(f) != 8 || len(s.order) == 0 {
		return errRecord
	}
	e := &fhir.Element{
		Path:         f[1],
		Name:         strings.TrimSuffix(f[1][strings.LastIndexByte(f[1], '.')+1:], "[x]"),
		Max:          -1,
		Choice:       strings.Contains(f[4], "c"),
		IsSummary:    strings.Contains(f[4], "s"),
		IsModifier:   strings.Contains(f[4], "m"),
		XMLAttribute: strings.Contains(f[4], "x"),
	}
	var err error
	if e.Min, err = strconv.Atoi(f[2]); err != nil {
		return errRecord
	}
	if f[3] != "*" {
		if e.Max, err = strconv.Atoi(f[3]); err != nil {
			return errRecord
		}
	}
	for code := range strings.SplitSeq(f[5], "|") {
		ref := &fhir.TypeRef{}
		code, targets, some := strings.Cut(code, ">")
		if ref.Code = code; some {
			ref.Targets = strings.Split(targets, ",")
		}
		e.Types = append(e.Types, ref)
	}
	if f[6] != "" {
		e.Binding = &fhir.Binding{Strength: f[6], ValueSet: f[7]}
	}
	t := s.order[len(s.order)-1]
	s.own[t] = append(s.own[t], e)
	s.element = e
	return nil
}

func (s *schemaReader) constraintRecord(f []string) error {
	if len(f) != 5 || len(s.order) == 0 {
		return errRecord
	}
	c := &fhir.Constraint{Key: f[1], Severity: f[2], Human: f[3], Expression: f[4]}
	if s.element != nil {
		s.element.Constraints = append(s.element.Constraints, c)
	} else {
		t := s.order[len(s.order)-1]
		t.Constraints = append(t.Constraints, c)
	}
	return nil
}

// link resolves names to types once all are read.
func (s *schemaReader) link() (*fhir.Schema, error) {
	var resources []string
	for i, t := range s.order {
		if name := s.bases[i]; name != "" {
			if t.Base = s.types[name]; t.Base == nil {
				return nil, fmt.Errorf("%s: unknown base %s", t.Name, name)
			}
		}
		if t.Kind == fhir.Resource && !t.Abstract {
			resources = append(resources, t.Name)
		}
		for _, e := range s.own[t] {
			for _, ref := range e.Types {
				if ref.Type = s.types[ref.Code]; ref.Type == nil {
					return nil, fmt.Errorf("%s: unknown type %s", e.Path, ref.Code)
				}
			}
		}
	}
	for _, t := range s.order {
		s.complete(t)
	}
	slices.Sort(resources)
	return fhir.NewSchema(s.types, resources), nil
}

// complete gives t the elements of its base and its own, and the properties that lead to them.
func (s *schemaReader) complete(t *fhir.Type) {
	if t.Properties != nil {
		return
	}
	own := s.own[t]
	if t.Base != nil {
		s.complete(t.Base)
		t.Elements = make([]*fhir.Element, 0, len(t.Base.Elements)+len(own))
		t.Elements = append(t.Elements, t.Base.Elements...)
	}
	for _, e := range own {
		i := slices.IndexFunc(t.Elements, func(b *fhir.Element) bool { return b.Name == e.Name })
		if i < 0 {
			i = len(t.Elements)
			t.Elements = append(t.Elements, nil)
		}
		e.Order = i
		t.Elements[i] = e
	}
	size := 0
	for _, e := range t.Elements {
		size += len(e.Types)
	}
	t.Properties = make(map[string]fhir.Property, size)
	for _, e := range t.Elements {
		for _, ref := range e.Types {
			p := fhir.Property{Element: e, Type: ref.Type, Ref: ref}
			if ref.Code == "Resource" {
				p.Type = nil
			}
			name := e.Name
			if e.Choice {
				name += strings.ToUpper(ref.Code[:1]) + ref.Code[1:]
			}
			t.Properties[name] = p
		}
	}
}
