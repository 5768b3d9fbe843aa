package path

import (
	"strconv"

	"kiln/fhir"
)

// SystemKind is a type of FHIRPath's own System namespace.
type SystemKind uint8

// The System types. TypeInfo is what type() returns.
const (
	Boolean SystemKind = iota + 1
	String
	Integer
	Decimal
	Date
	DateTime
	Time
	Quantity
	TypeInfo
)

var kindNames = [...]string{"", "Boolean", "String", "Integer", "Decimal", "Date", "DateTime", "Time", "Quantity",
	"SimpleTypeInfo"}

// String returns the type's name.
func (k SystemKind) String() string { return kindNames[k] }

// System is a value of a System type. Which fields count depends on Kind.
type System struct {
	Kind SystemKind
	Bool bool
	// Int is an Integer, which has 32 bits in FHIRPath.
	Int int64
	// Str is a String, the unit of a Quantity, or the name of a TypeInfo.
	Str string
	// Namespace is a TypeInfo's.
	Namespace string
	// Num is a Decimal or the number of a Quantity.
	Num Number
	// Moment is a Date, DateTime or Time.
	Moment Moment
	// Calendar marks a Quantity whose unit is a calendar word (1 year) instead of a UCUM code (1 'a').
	Calendar bool
}

var (
	sysTrue  = &System{Kind: Boolean, Bool: true}
	sysFalse = &System{Kind: Boolean}
)

func boolElement(b bool) Element {
	if b {
		return Element{sys: sysTrue}
	}
	return Element{sys: sysFalse}
}

// Value makes an element of a System value, for Env.Vars.
func Value(v System) Element { return Element{sys: &v} }

// Text makes an element of a String.
func Text(s string) Element { return Element{sys: &System{Kind: String, Str: s}} }

func intElement(n int64) Element {
	if n >= 0 && n < int64(len(smallInts)) {
		return Element{sys: &smallInts[n]}
	}
	return Element{sys: &System{Kind: Integer, Int: n}}
}

var smallInts = func() (ints [64]System) {
	for i := range ints {
		ints[i] = System{Kind: Integer, Int: int64(i)}
	}
	return ints
}()

func numElement(n Number) Element { return Element{sys: &System{Kind: Decimal, Num: n}} }

// String writes the value the way toString() does.
func (s System) String() string {
	switch s.Kind {
	case Boolean:
		return strconv.FormatBool(s.Bool)
	case String:
		return s.Str
	case Integer:
		return strconv.FormatInt(s.Int, 10)
	case Decimal:
		return s.Num.String()
	case Date, DateTime, Time:
		return s.Moment.text(s.Kind)
	case Quantity:
		if s.Calendar {
			return s.Num.String() + " " + s.Str
		}
		return s.Num.String() + " '" + s.Str + "'"
	case TypeInfo:
		return s.Namespace + "." + s.Str
	}
	return ""
}

// number returns an Integer or Decimal as a number.
func (s System) number() (Number, bool) {
	switch s.Kind {
	case Integer:
		return numberOf(s.Int), true
	case Decimal:
		return s.Num, true
	}
	return Number{}, false
}

// primitiveKind says which System type a FHIR primitive turns into (FHIR R4 fhirpath.html#types).
func primitiveKind(t *fhir.Type) SystemKind {
	switch t.Name {
	case "boolean":
		return Boolean
	case "integer", "unsignedInt", "positiveInt":
		return Integer
	case "decimal":
		return Decimal
	case "date":
		return Date
	case "dateTime", "instant":
		return DateTime
	case "time":
		return Time
	}
	if t.Kind == fhir.Primitive {
		return String
	}
	return 0
}

// value returns the System value of a primitive. A value that does not fit its type counts as a String, so that
// invalid data gives wrong answers and not failures: other checks find it.
func (e Element) value() (System, bool) {
	if e.sys != nil {
		return *e.sys, true
	}
	n := e.Value
	if n == nil {
		return System{}, false
	}
	var kind SystemKind
	if e.Type != nil {
		kind = primitiveKind(e.Type)
	}
	switch n.Kind {
	case fhir.String:
		switch kind {
		case Date, DateTime, Time:
			if m, ok := parseMoment(n.Text, kind); ok {
				return System{Kind: kind, Moment: m}, true
			}
		}
		return System{Kind: String, Str: n.Text}, true
	case fhir.Bool:
		return System{Kind: Boolean, Bool: n.Text == "true"}, true
	case fhir.Number:
		if kind != Decimal {
			if i, err := strconv.ParseInt(n.Text, 10, 64); err == nil {
				return System{Kind: Integer, Int: i}, true
			}
		}
		if d, ok := parseNumber(n.Text); ok {
			return System{Kind: Decimal, Num: d}, true
		}
		return System{Kind: String, Str: n.Text}, true
	}
	return System{}, false
}

// isPrimitive says whether e has a JSON scalar for a value, or could have one.
func (e Element) isPrimitive() bool {
	if e.Type != nil {
		return e.Type.Kind == fhir.Primitive
	}
	return e.Value != nil && e.Value.Kind != fhir.Object
}

func (e Element) isQuantity() bool {
	return e.sys == nil && e.Value != nil && e.Value.Kind == fhir.Object && e.Type != nil && e.Type.Is("Quantity")
}

// quantity turns a FHIR Quantity into a System one (FHIR R4 fhirpath.html#quantity): UCUM codes only; a comparator has
// no counterpart.
func (e Element) quantity() (System, bool) {
	v := e.Value.Get("value")
	if v == nil || v.Kind != fhir.Number || e.Value.Get("comparator") != nil {
		return System{}, false
	}
	d, ok := parseNumber(v.Text)
	if !ok {
		return System{}, false
	}
	q := System{Kind: Quantity, Num: d, Str: "1"}
	if code := e.Value.GetText("code"); code != "" {
		q.Str = code
	} else if unit := e.Value.GetText("unit"); unit != "" {
		q.Str = unit
	}
	if e.Value.GetText("system") == "http://unitsofmeasure.org" || e.Value.GetText("system") == "" {
		return q, true
	}
	// Another system's units compare with themselves only.
	q.Str = e.Value.GetText("system") + "|" + q.Str
	return q, true
}
