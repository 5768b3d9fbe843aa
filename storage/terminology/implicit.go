package terminology

import (
	"context"
	"net/url"
	"strings"

	"kiln/fhir"
)

// implicit makes the value sets that code systems define without a resource: CodeSystem.valueSet, and those of SNOMED
// CT, LOINC and the grammars (FHIR R4 snomedct.html#implicit, loinc.html#implicit, ucum.html#implicit).
//
// Errors: NotFound.
func (b *builder) implicit(ctx context.Context, canonical string) (*Set, error) {
	name, version, _ := strings.Cut(canonical, "|")
	list, err := b.r.readSystems(ctx, sqlSystemOfSet, name)
	if err != nil {
		return nil, err
	}
	if s := best(list); s != nil && (version == "" || version == s.Version) {
		if s, err = b.r.System(ctx, s.URL, version); err != nil {
			return nil, err
		}
		return whole(name, s), nil
	}
	for _, system := range grammarSystems {
		if g := grammarOf(system); g.all() == name {
			s, err := b.r.System(ctx, system, "")
			if err != nil {
				return nil, err
			}
			return whole(name, s), nil
		}
	}
	switch {
	case name == LOINC+"/vs" || strings.HasPrefix(name, LOINC+"/vs/"):
		return b.implicitOf(ctx, name, LOINC, "", loincFilter(strings.TrimPrefix(strings.TrimPrefix(name, LOINC+"/vs"), "/")))
	case strings.HasPrefix(name, SNOMED) && strings.Contains(name, "?"):
		edition, query, _ := strings.Cut(name, "?")
		value, ok := strings.CutPrefix(query, "fhir_vs")
		if !ok {
			return nil, noSet(canonical)
		}
		if value, err = url.PathUnescape(strings.TrimPrefix(value, "=")); err != nil {
			return nil, noSet(canonical)
		}
		filters, ok := snomedFilter(value)
		if !ok {
			return nil, fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported, "Of the implicit value sets of SNOMED CT this server knows "+
				"?fhir_vs, ?fhir_vs=isa/[code], ?fhir_vs=refset and ?fhir_vs=refset/[code].")
		}
		if edition != SNOMED {
			version = edition
		}
		return b.implicitOf(ctx, name, SNOMED, version, filters)
	}
	return nil, noSet(canonical)
}

func (b *builder) implicitOf(ctx context.Context, name, system, version string, filters []filter) (*Set, error) {
	p := &part{url: system, version: version, filters: filters}
	if err := b.system(ctx, p); err != nil {
		return nil, err
	}
	if p.system == nil {
		return nil, noSystem(system, p.version)
	}
	return &Set{URL: name, Version: version, includes: []*part{p}}, nil
}

// whole is the value set of all codes of a code system.
func whole(name string, s *System) *Set {
	return &Set{URL: name, Version: s.Version, includes: []*part{{url: s.URL, version: s.Version, system: s}}}
}

// loincFilter: all of LOINC, the codes below a part, or the answers of an answer list.
func loincFilter(code string) []filter {
	switch {
	case code == "":
		return nil
	case strings.HasPrefix(code, "LL"):
		return []filter{{"LIST", "=", code}}
	}
	return []filter{{"concept", "is-a", code}}
}

// MemberOf is the property in which a concept of SNOMED CT names the reference sets that it is a member of.
const MemberOf = "memberOf"

func snomedFilter(value string) ([]filter, bool) {
	switch {
	case value == "":
		return nil, true
	case value == "refset":
		return []filter{{"concept", "descendent-of", "900000000000455006"}}, true // |Reference set|
	case strings.HasPrefix(value, "isa/") && len(value) > 4:
		return []filter{{"concept", "is-a", value[4:]}}, true
	case strings.HasPrefix(value, "refset/") && len(value) > 7:
		return []filter{{MemberOf, "=", value[7:]}}, true
	}
	return nil, false
}
