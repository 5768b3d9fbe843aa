package ucum

import (
	"math/big"

	"kiln/fhir"
)

// MaxLength is how many bytes a unit code may have; longer ones are unknown.
const MaxLength = 256

// Canonical returns value, a decimal literal counted in the unit code, as v of the base unit canonicalUnit.
// canonicalUnit is a product of base units in the byte order of their names, such as "g.m-3", "1" for a pure number, and itself a code
// with the same meaning. Equal quantities give the same two results, whatever unit they were written in.
// ok is false for a code that is malformed or unknown, a value that is no decimal, and a result beyond float64.
func Canonical(code, value string) (canonicalUnit string, v float64, ok bool) {
	u, ok := standard.lookup(code)
	if !ok {
		return "", 0, false
	}
	d, ok := fhir.ParseDecimal(value)
	if !ok {
		return "", 0, false
	}
	if v, ok = u.quick(d); !ok {
		if v, ok = inRange(u.toBase(d.Rat())); !ok {
			return "", 0, false
		}
	}
	return u.canonical(standard), v, true
}

// CanonicalRat is Canonical without rounding. It leaves value as it is.
func CanonicalRat(code string, value *big.Rat) (canonicalUnit string, v *big.Rat, ok bool) {
	u, ok := standard.lookup(code)
	if !ok || value == nil {
		return "", nil, false
	}
	return u.canonical(standard), u.toBase(value), true
}

// Comparable reports whether both codes are known and measure the same thing, so that Convert can go between them.
// Annotations do not count: {RBC}/uL is comparable with {WBC}/uL (UCUM §6).
func Comparable(a, b string) bool {
	ua, ok := standard.lookup(a)
	if !ok {
		return false
	}
	ub, ok := standard.lookup(b)
	return ok && ua.dim == ub.dim
}

// Convert returns value, a decimal literal counted in from, as a number of to. ok is false when Comparable is, for a
// value that is no decimal, and for a result beyond float64.
func Convert(value, from, to string) (v float64, ok bool) {
	d, ok := fhir.ParseDecimal(value)
	if !ok {
		return 0, false
	}
	r, ok := ConvertRat(d.Rat(), from, to)
	if !ok {
		return 0, false
	}
	return inRange(r)
}

// ConvertRat is Convert without rounding. It leaves value as it is.
func ConvertRat(value *big.Rat, from, to string) (v *big.Rat, ok bool) {
	source, ok := standard.lookup(from)
	if !ok || value == nil {
		return nil, false
	}
	target, ok := standard.lookup(to)
	if !ok || source.dim != target.dim {
		return nil, false
	}
	return target.fromBase(source.toBase(value)), true
}

// inRange rounds r. Overflow and a vanished non-zero value are refused: they would compare equal to other quantities.
func inRange(r *big.Rat) (float64, bool) {
	v, _ := r.Float64()
	lost := v-v != 0 || v == 0 && r.Sign() != 0
	return v, !lost
}
