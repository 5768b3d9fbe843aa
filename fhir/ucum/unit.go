package ucum

import (
	"math/big"
	"slices"
	"strconv"
	"strings"

	"kiln/fhir"
)

const (
	// maxBases is how many dimensions fit: eight physical ones and the arbitrary units.
	maxBases = 64
	// maxPower bounds the exponent of a base unit in a product.
	maxPower = 127
	// maxBits bounds numerator and denominator of a factor: float64 ends at 1024 bits, the rest is room on the way.
	maxBits = 4096
)

// dimension has the exponent of each base unit, in the order of table.bases.
type dimension [maxBases]int8

// unit is a parsed code. A value x of it is x·factor + offset of the base units in dim. Units are never changed once
// built; the Rats inside are shared.
type unit struct {
	dim    dimension
	factor *big.Rat
	offset *big.Rat // nil when zero
	alone  bool     // takes no part in products: an offset or a logarithm
	name   string   // the canonical unit, when known ahead
}

// pure is the number r as a unit.
func pure(r *big.Rat) *unit { return &unit{factor: r, name: "1"} }

func (u *unit) toBase(value *big.Rat) *big.Rat {
	r := new(big.Rat).Mul(value, u.factor)
	if u.offset != nil {
		r.Add(r, u.offset)
	}
	return r
}

func (u *unit) fromBase(value *big.Rat) *big.Rat {
	if u.offset == nil {
		return new(big.Rat).Quo(value, u.factor)
	}
	r := new(big.Rat).Sub(value, u.offset)
	return r.Quo(r, u.factor)
}

// quick is toBase and rounding for the numbers of daily life. The quotient of two integers that a float64 holds exactly
// is rounded once, so it is the same number that the long way gives.
func (u *unit) quick(d fhir.Decimal) (float64, bool) {
	num, den := u.factor.Num(), u.factor.Denom()
	digits := max(d.Exponent, -d.Exponent)
	if u.offset != nil || digits >= len(powersOfTen) || !d.Unscaled.IsInt64() || !num.IsInt64() || !den.IsInt64() {
		return 0, false
	}
	up, down := powersOfTen[digits], int64(1)
	if d.Exponent < 0 {
		up, down = down, up
	}
	above, okAbove := exactProduct(d.Unscaled.Int64(), num.Int64(), up)
	below, okBelow := exactProduct(1, den.Int64(), down)
	return above / below, okAbove && okBelow
}

// powersOfTen are those that a float64 holds with room for a factor.
var powersOfTen = [...]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12}

// exactProduct is a·b·c for positive b and c, when every step is an integer within ±2⁵³.
func exactProduct(a, b, c int64) (float64, bool) {
	const limit = 1 << 53
	if b > limit || a > limit/b || a < -limit/b {
		return 0, false
	}
	a *= b
	if a > limit/c || a < -limit/c {
		return 0, false
	}
	return float64(a * c), true
}

// scaled returns u with a prefix before it.
func (u *unit) scaled(prefix *big.Rat) *unit {
	s := *u
	s.factor = new(big.Rat).Mul(prefix, u.factor)
	return &s
}

// power returns u to the n.
func (u *unit) power(n int) (*unit, bool) {
	if n == 1 && !u.alone {
		return u, true
	}
	num, den, size := u.factor.Num(), u.factor.Denom(), n
	if n < 0 {
		num, den, size = den, num, -n
	}
	if u.alone || size > maxPower || max(num.BitLen(), den.BitLen())*size > maxBits {
		return nil, false
	}
	p := &unit{}
	for i, e := range u.dim {
		product := int(e) * n
		if product > maxPower || product < -maxPower {
			return nil, false
		}
		p.dim[i] = int8(product)
	}
	exp := big.NewInt(int64(size))
	p.factor = new(big.Rat).SetFrac(new(big.Int).Exp(num, exp, nil), new(big.Int).Exp(den, exp, nil))
	return p, true
}

// times returns u·v, or u/v when divide is set.
func (u *unit) times(v *unit, divide bool) (*unit, bool) {
	if u.alone || v.alone {
		return nil, false
	}
	p := &unit{factor: new(big.Rat)}
	for i, e := range v.dim {
		sum := int(u.dim[i]) + int(e)
		if divide {
			sum = int(u.dim[i]) - int(e)
		}
		if sum > maxPower || sum < -maxPower {
			return nil, false
		}
		p.dim[i] = int8(sum)
	}
	if divide {
		p.factor.Quo(u.factor, v.factor)
	} else {
		p.factor.Mul(u.factor, v.factor)
	}
	return p, max(p.factor.Num().BitLen(), p.factor.Denom().BitLen()) <= maxBits
}

// canonical writes the base units of u.
func (u *unit) canonical(t *table) string {
	if u.name != "" {
		return u.name
	}
	used := make([]int, 0, 8)
	for i, e := range u.dim {
		if e != 0 {
			used = append(used, i)
		}
	}
	if len(used) == 0 {
		return "1"
	}
	slices.SortFunc(used, func(a, b int) int { return strings.Compare(t.bases[a], t.bases[b]) })
	var out strings.Builder
	for n, i := range used {
		if n > 0 {
			out.WriteByte('.')
		}
		out.WriteString(t.bases[i])
		if e := int(u.dim[i]); e != 1 {
			out.WriteString(strconv.Itoa(e))
		}
	}
	return out.String()
}
