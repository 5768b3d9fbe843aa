package search

import (
	"slices"
	"time"

	"kiln/fhir"
)

// Kind is how the values of a search parameter are compared: its type in the definition, with the codes of
// http://hl7.org/fhir/search-param-type.
type Kind string

// The kinds.
const (
	Number    Kind = "number"
	Date      Kind = "date"
	String    Kind = "string"
	Token     Kind = "token"
	Reference Kind = "reference"
	Composite Kind = "composite"
	Quantity  Kind = "quantity"
	URI       Kind = "uri"
	Special   Kind = "special"
)

// Kinds lists them all.
var Kinds = [...]Kind{Number, Date, String, Token, Reference, Composite, Quantity, URI, Special}

// Param is what the parser must know of a search parameter.
type Param struct {
	Code string
	Kind Kind
	// Targets are the types that a reference parameter may lead to; nil is any.
	Targets []string
	// Components are the parts of a composite parameter.
	Components []Param
	// Days says that the values of a date parameter are days, which have no zone: a day asked for is the same day everywhere.
	Days bool
}

// leadsTo says whether the reference can be to a resource of a type.
func (p Param) leadsTo(resourceType string) bool {
	return p.Targets == nil || slices.Contains(p.Targets, resourceType)
}

// Catalog tells the parser which types and parameters there are.
type Catalog interface {
	IsResource(name string) bool
	// Param finds a parameter of a resource type, the common ones (_tag …) included.
	Param(resourceType, code string) (Param, bool)
	// Codes lists the parameters of a type, for suggestions.
	Codes(resourceType string) []string
	// CompartmentParams lists the reference parameters that put a resource of a type into a compartment, such as
	// subject and performer for an Observation and "Patient".
	CompartmentParams(compartment, resourceType string) []string
	// ResourceTypes lists all resource types.
	ResourceTypes() []string
}

// Query is a parsed search.
type Query struct {
	// Types are the resource types searched; nil is all of them.
	Types []string
	// Where are the conditions; all must hold.
	Where []Expr
	Sort  []Sort
	// Count is the page size; -1 where the query does not say.
	Count    int
	Total    string // none, estimate, accurate, or "" for the server's choice
	Includes []Include
	Summary  string // true, text, data, count, false, or ""
	Elements []string
	// Contained asks for resources inside of others too: true, for those alone, both, or "". ContainedType says what stands
	// for such a match: contained, or container, the whole that it is in, which "" means too.
	Contained, ContainedType string
	// Zone is where dates without an offset were read, if the query says so; nil for the server's.
	Zone    *time.Location
	Explain bool
	// Cursor is the opaque place that a paging link carries.
	Cursor string
	// Applied are the parameters that took effect, in order, for the self link.
	Applied []Pair
	// Issues say what was ignored, with lenient handling.
	Issues []fhir.Issue
}

// Pair is one parameter of a query string, decoded.
type Pair struct{ Name, Value string }

// MainDate sorts resources of several types, each by the date by which people list its type; of one type it is the
// parameter of that name.
const MainDate = "date"

// Chronological says that resources of several types are listed by their main dates.
func (q *Query) Chronological() bool {
	return len(q.Types) != 1 && len(q.Sort) > 0 && q.Sort[0].Param.Code == MainDate
}

// Sort is one key of _sort. A composite parameter is there as its components, one after the other.
type Sort struct {
	Param      Param
	Descending bool
	// From are the places that near sorts by the distance from: those that the search asks for; nil for other parameters.
	From []Value
}

// Include is one _include or _revinclude.
type Include struct {
	Reverse bool
	Iterate bool
	// Source is the type whose references are followed; "*" for any.
	Source string
	// Param is the reference parameter; "*" for all.
	Param string
	// Target narrows to one type; "" for any.
	Target string
}

// Expr is a condition on a resource: And, Or, Not, *Match, *Chain, *Has, *Member, *Missing or *IsType.
type Expr interface{ expr() }

// And holds when all do; Or when one does; an empty And always holds, an empty Or never.
type (
	And []Expr
	Or  []Expr
	Not struct{ Expr Expr }
)

// Match is one parameter with its values, any of which may match. Type is the resource type that it is asked of,
// "" where it is asked of all types alike.
type Match struct {
	Type     string
	Param    Param
	Modifier string // without the colon; "" for none. For a reference, a resource type stands in Value.Reference.
	Values   []Value
}

// Missing asks whether a parameter has no value.
type Missing struct {
	Type    string
	Param   Param
	Missing bool
}

// Chain asks of the resource that a reference parameter leads to.
type Chain struct {
	Type   string
	Param  Param
	Target string
	Where  Expr
}

// Has asks that a resource of type Type, which meets Where, refers here through Param.
type Has struct {
	Type  string
	Param Param
	Where Expr
	// Target is the type of the resource that is asked about; "" for any.
	Target string
}

// Member asks that the resource is in a compartment.
type Member struct {
	Compartment, ID string
	// Type is the type of the resource asked about, Params the parameters that make it a member.
	Type   string
	Params []string
}

// IsType asks for resources of one type. A search of several types ties each of its conditions to a type with it.
type IsType struct{ Type string }

func (*IsType) expr()  {}
func (And) expr()      {}
func (Or) expr()       {}
func (Not) expr()      {}
func (*Match) expr()   {}
func (*Missing) expr() {}
func (*Chain) expr()   {}
func (*Has) expr()     {}
func (*Member) expr()  {}

// Value is one value of a parameter. Which fields are set depends on the parameter's kind.
type Value struct {
	// Raw is the value as written, unescaped.
	Raw string
	// Prefix is eq, ne, gt, lt, ge, le, sa, eb or ap, for numbers, dates and quantities.
	Prefix string
	// Low and High bound a date, half-open.
	Low, High time.Time
	// Number is the number of a number or quantity.
	Number fhir.Decimal
	// System and Code are those of a token, or of a quantity's unit. HasSystem tells "|code" (no system) from "code"
	// (any system).
	System, Code string
	HasSystem    bool
	// Reference is a parsed reference; its Type may be "" where only an id was given.
	Reference fhir.Reference
	// OfType is the third part of an identifier:of-type value; System and Code are those of the type.
	OfType string
	// Parts are the values of a composite's components.
	Parts []Value
}
