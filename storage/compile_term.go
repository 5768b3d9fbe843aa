package storage

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage/terminology"
)

// MaxConcepts is how many codes a value set or a part of a hierarchy may come to in a search.
const MaxConcepts = 5000

// concepts are the terms of the codes that a token with :in, :not-in, :above or :below stands for.
//
// Errors: Invalid for a value set or code system that is not here in full, or whose codes cannot be listed.
func (c *compiler) concepts(p *paramPlan, modifier string, v search.Value) ([]int64, error) {
	list, err := c.codings(modifier, v)
	var fault *fhir.Error
	if errors.As(err, &fault) && fault.Kind != fhir.Internal && fault.Kind != fhir.Transient {
		e := fhir.Error{Kind: fhir.Invalid, Issues: slices.Clone(fault.Issues)}
		for i := range e.Issues {
			e.Issues[i].Text = fmt.Sprintf("Search parameter %q: %s", p.def.Code+":"+modifier, e.Issues[i].Text)
		}
		return nil, e.Because(fault)
	}
	if err != nil {
		return nil, err
	}
	terms := []int64{}
	for _, one := range list {
		terms = c.ix.askedTerms(terms, p.def.Key, search.Value{HasSystem: true, System: one.System, Code: one.Code})
	}
	slices.Sort(terms)
	return terms, nil
}

func (c *compiler) codings(modifier string, v search.Value) ([]terminology.Coding, error) {
	if modifier == "in" || modifier == "not-in" {
		return c.codes.in(v.Raw, MaxConcepts)
	}
	if v.System == "" || v.Code == "" {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue, fmt.Sprintf("%q must have the form system|code.", v.Raw))
	}
	codes, err := c.codes.along(v.System, v.Code, modifier == "above", MaxConcepts+1)
	switch {
	case err != nil:
		return nil, err
	case len(codes) == 0:
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeCodeInvalid, fmt.Sprintf("The code system %q has no code %q.", v.System, v.Code))
	case len(codes) > MaxConcepts:
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeTooCostly, fmt.Sprintf("%q comes to more than %d codes.", v.Raw, MaxConcepts))
	}
	list := make([]terminology.Coding, len(codes))
	for i, code := range codes {
		list[i] = terminology.Coding{System: v.System, Code: code}
	}
	return list, nil
}

// versions answers :above and :below of a canonical reference, url|version: versions are a hierarchy by the points in
// them, so 1 is above 1.2 (FHIR R4 search.html#canonical). A URL without a version is above all its versions.
func (c *compiler) versions(m *search.Match, p *paramPlan, x string) (string, error) {
	if !p.canonical {
		return c.hierarchy(m, p, x)
	}
	if m.Modifier == "above" {
		var terms []int64
		for _, v := range m.Values {
			url, version, _ := strings.Cut(v.Raw, "|")
			terms = append(terms, c.ix.canonicalTerm(url)^p.salt)
			for i := range len(version) + 1 {
				if i == len(version) || version[i] == '.' {
					terms = append(terms, c.ix.canonicalTerm(url+"|"+version[:i])^p.salt)
				}
			}
		}
		return c.contains(x+".refs", terms), nil
	}
	return c.side("search_string", p.def.Key, m.Values, x, func(v search.Value) (string, error) {
		separator := "|"
		if strings.Contains(v.Raw, "|") {
			separator = "."
		}
		return fmt.Sprintf("(s.value = %s OR %s)", c.arg(v.Raw, "text"), c.prefix(v.Raw+separator)), nil
	})
}

// canonicalElements are the beginnings of the names of the elements in which a parameter looks at canonical URLs, with the quotation mark before
// them; nil where it is more than paths.
func canonicalElements(schema *fhir.Schema, def *conformance.SearchParameter) (names [][]byte) {
	plain := steps(schema, unfiltered(def), func(e *fhir.Element, _ []string, last bool) {
		if last {
			names = append(names, []byte(`"`+e.Name))
		}
	})
	if !plain {
		return nil
	}
	return names
}

// filters are those of an expression that ask for a value beside it, as in relatedArtifact.where(type='depends-on').resource.
var filters = regexp.MustCompile(`\.where\([^()]*\)`)

// unfiltered is a parameter without its filters: they change which values count, not in which elements they stand.
func unfiltered(def *conformance.SearchParameter) *conformance.SearchParameter {
	plain := *def
	plain.Expression = filters.ReplaceAllString(def.Expression, "")
	return &plain
}

// canonicalParam says whether a reference parameter looks at canonical URLs.
func canonicalParam(schema *fhir.Schema, def *conformance.SearchParameter) bool {
	found := false
	steps(schema, unfiltered(def), func(_ *fhir.Element, types []string, last bool) {
		found = found || last && (slices.Contains(types, "canonical") || slices.Contains(types, "uri"))
	})
	return found
}
