package fhir

// Schema is what the official StructureDefinitions say, in the form that parsers, validators and FHIRPath read: types,
// their elements, and which JSON property leads to which element. conformance builds one and never changes it.
type Schema struct {
	types map[string]*Type
	// Resources are the names of all concrete resource types, in alphabetical order.
	Resources []string
}

// NewSchema makes a schema of the given types, keyed by name.
func NewSchema(types map[string]*Type, resources []string) *Schema {
	return &Schema{types: types, Resources: resources}
}

// Type returns the type called name ("Patient", "HumanName", "string", "Patient.contact"), or nil.
func (s *Schema) Type(name string) *Type { return s.types[name] }

// TypeKind tells primitives, datatypes, backbone elements and resources apart.
type TypeKind uint8

// The kinds of types. A Backbone is a nested structure such as Patient.contact; it is named by its path.
const (
	Primitive TypeKind = iota + 1
	Complex
	Backbone
	Resource
)

// Type is one FHIR type.
type Type struct {
	Name     string
	Base     *Type // nil for Element and Resource
	Kind     TypeKind
	Abstract bool
	// Elements are all elements in definition order, inherited ones included and first.
	Elements []*Element
	// Properties maps a JSON property name, such as "valueQuantity" or "name", to its element and type. The "_name"
	// siblings of primitives are not in it.
	Properties map[string]Property
	// Constraints are the invariants on the type itself; those on an element are Element.Constraints.
	Constraints []*Constraint
	// Regex is a primitive's lexical form, "" where there is none.
	Regex string
}

// Is says whether t is the type called name or derives from it.
func (t *Type) Is(name string) bool {
	for ; t != nil; t = t.Base {
		if t.Name == name {
			return true
		}
	}
	return false
}

// Property is where a JSON property leads: the element and, for a choice element, which of its types.
type Property struct {
	Element *Element
	// Type is nil for an element that holds any resource (contained, Bundle.entry.resource, Parameters…).
	Type *Type
	// Ref is the entry of Element.Types that Type came from.
	Ref *TypeRef
}

// Element is one element of a type.
type Element struct {
	// Name is the element's name without the choice mark: "value" for value[x].
	Name string
	// Path is where it is defined: "Observation.value[x]", "Patient.contact.name".
	Path string
	// Order is the position in the definition, for encodings that keep it (XML).
	Order int
	// Choice marks value[x]: the JSON property carries the type's name as its ending.
	Choice   bool
	Min, Max int // Max is -1 for *
	Types    []*TypeRef
	Binding  *Binding
	// Constraints are the invariants that the element itself adds.
	Constraints []*Constraint
	IsSummary   bool
	IsModifier  bool
	// XMLAttribute marks what XML writes as an attribute: ids and Extension.url.
	XMLAttribute bool
}

// TypeRef is one allowed type of an element.
type TypeRef struct {
	// Code is the type's name; "Resource" for any resource.
	Code string
	Type *Type
	// Targets are the resource types that a Reference or canonical may point at; nil or {"Resource"} means any.
	Targets []string
}

// Binding ties a coded element to a value set.
type Binding struct {
	Strength string // required, extensible, preferred, example
	ValueSet string // canonical URL, perhaps with |version
}

// Constraint is one invariant.
type Constraint struct {
	Key        string
	Severity   string // error or warning
	Human      string
	Expression string // FHIRPath; "" where the definition gives none
}
