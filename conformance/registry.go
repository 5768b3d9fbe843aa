package conformance

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"

	"kiln/fhir"
)

// FHIRVersion is the version of FHIR that the embedded definitions are of.
const FHIRVersion = "4.0.1"

//go:embed definitions/r4.tsv
var r4Table string

// Registry is everything the server knows about FHIR. It is immutable and safe for concurrent use.
type Registry struct {
	schema       *fhir.Schema
	names        []string // names[i] has number i+1
	numbers      map[string]int16
	params       map[string][]*SearchParameter // by resource type, in the order of their codes
	keys         map[uint32]*SearchParameter
	compartments map[string]*Compartment
	urls         map[string]string // "Type url" to id, for URLs that do not end in the id
}

func newRegistry() *Registry {
	return &Registry{
		numbers: map[string]int16{}, params: map[string][]*SearchParameter{}, keys: map[uint32]*SearchParameter{},
		compartments: map[string]*Compartment{}, urls: map[string]string{},
	}
}

// loadR4 is a cache of a pure function of the embedded table and of our own definitions.
var loadR4 = sync.OnceValues(func() (*Registry, error) {
	r, err := load(r4Table)
	if err != nil {
		return nil, err
	}
	extra, err := ownSearchParameters()
	if err != nil {
		return nil, err
	}
	return r.With(extra...), nil
})

// R4 returns the registry of FHIR R4 as published, with our own search parameters. All callers share one.
//
// Errors: only when the embedded table is broken, which no release can be, because a test loads it.
func R4() (*Registry, error) { return loadR4() }

// load reads a table made by internal/gen. The texts of the registry are parts of table.
func load(table string) (*Registry, error) {
	s := schemaReader{types: map[string]*fhir.Type{}, own: map[*fhir.Type][]*fhir.Element{}}
	r := newRegistry()
	var params []*SearchParameter
	number := 0
	for line := range strings.Lines(table) {
		number++
		f := splitFields(strings.TrimSuffix(line, "\n"))
		var err error
		switch f[0] {
		case "T":
			err = s.typeRecord(f)
		case "E":
			err = s.elementRecord(f)
		case "K":
			err = s.constraintRecord(f)
		case "S":
			params, err = parameterRecord(params, f)
		case "C":
			err = componentRecord(params, f)
		case "P":
			err = r.compartmentRecord(f)
		case "U":
			err = r.urlRecord(f)
		default:
			if !strings.HasPrefix(line, "#") {
				err = errRecord
			}
		}
		if err != nil {
			return nil, fmt.Errorf("conformance: line %d of the definitions table: %w", number, err)
		}
	}
	var err error
	if r.schema, err = s.link(); err != nil {
		return nil, fmt.Errorf("conformance: definitions table: %w", err)
	}
	r.numberTypes()
	var fresh []*SearchParameter
	for _, p := range params {
		fresh = append(fresh, r.add(p)...)
	}
	r.linkComponents(fresh)
	return r, nil
}

// Schema returns the types of R4. Types, elements and constraints are shared: nobody may change them.
//
// Type.Constraints and Element.Constraints hold what that type or element adds; a validator also asks Type.Base, and
// the type of each element. The invariants of a backbone element (Patient.contact: pat-1) stand with its type, so that
// they also hold where a contentReference uses the type again.
func (r *Registry) Schema() *fhir.Schema { return r.schema }

// TypeNumber returns the number of a resource type, 1 and up, or 0 for an unknown type. Resource and DomainResource
// have numbers too.
//
// The numbers are stored in the database. They are frozen: the 148 types of R4 in alphabetical order. A type that
// comes later takes the next free number, never one in between.
func (r *Registry) TypeNumber(resourceType string) int16 { return r.numbers[resourceType] }

// LastType is the highest number of a type.
func (r *Registry) LastType() int16 { return int16(len(r.names)) }

// TypeName is the inverse of TypeNumber; "" for a number that no type has.
func (r *Registry) TypeName(number int16) string {
	if number < 1 || int(number) > len(r.names) {
		return ""
	}
	return r.names[number-1]
}

func (r *Registry) numberTypes() {
	r.names = append(slices.Clone(r.schema.Resources), "DomainResource", "Resource")
	slices.Sort(r.names)
	for i, name := range r.names {
		r.numbers[name] = int16(i + 1)
	}
}
