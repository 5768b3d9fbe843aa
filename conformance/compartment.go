package conformance

import (
	"maps"
	"slices"
)

// Compartment says which resources belong to one patient, encounter, practitioner, related person or device.
type Compartment struct {
	Name   string // the type in the middle: "Patient"
	params map[string][]string
}

// Params returns the codes of the reference parameters by which a resource of this type is in the compartment, or nil
// when the type never is. The resource in the middle belongs to its own compartment, whatever Params says.
// Spec: FHIR R4 compartmentdefinition.html.
func (c *Compartment) Params(resourceType string) []string { return c.params[resourceType] }

// Compartment returns the compartment by the type in its middle (Patient, Encounter, Practitioner, RelatedPerson,
// Device), or nil.
func (r *Registry) Compartment(name string) *Compartment { return r.compartments[name] }

// Compartments are the types in the middle of a compartment, sorted.
// Source: the CompartmentDefinitions of FHIR R4.
func (r *Registry) Compartments() []string { return slices.Sorted(maps.Keys(r.compartments)) }
