package conformance

import (
	"strings"

	"kiln/fhir/search"
)

// The records that internal/gen/search.go describes.

func parameterRecord(list []*SearchParameter, f []string) ([]*SearchParameter, error) {
	if len(f) != 9 {
		return nil, errRecord
	}
	p := &SearchParameter{
		Base: f[1], Code: f[2], ID: f[3], Type: search.Kind(f[4]), URL: officialSearchParameters + f[3],
		MultipleOr: strings.Contains(f[5], "o"), MultipleAnd: strings.Contains(f[5], "a"),
		Targets: splitList(f[6]), Expression: f[7], Description: f[8], Key: Key(f[1], f[2]),
	}
	return append(list, p), nil
}

func componentRecord(list []*SearchParameter, f []string) error {
	if len(f) != 3 || len(list) == 0 {
		return errRecord
	}
	p := list[len(list)-1]
	p.Components = append(p.Components, Component{Definition: f[1], Expression: f[2]})
	return nil
}

func (r *Registry) compartmentRecord(f []string) error {
	if len(f) != 4 {
		return errRecord
	}
	c := r.compartments[f[1]]
	if c == nil {
		c = &Compartment{Name: f[1], params: map[string][]string{}}
		r.compartments[f[1]] = c
	}
	c.params[f[2]] = splitList(f[3])
	return nil
}

func (r *Registry) urlRecord(f []string) error {
	if len(f) != 4 {
		return errRecord
	}
	r.urls[f[1]+" "+f[2]] = f[3]
	return nil
}

func splitList(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}
