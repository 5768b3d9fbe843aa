package fhir

import (
	"math/big"
	"strconv"
	"strings"
)

// Decimal is an exact decimal number: Unscaled × 10^Exponent. It keeps the digits it was written with, so that 5.40
// and 5.4 differ in precision and not in value.
type Decimal struct {
	Unscaled *big.Int
	Exponent int
}

// ParseDecimal reads a decimal literal within the bounds of ParseJSON: digits, a point, an exponent, a sign.
func ParseDecimal(s string) (Decimal, bool) {
	d := Decimal{}
	if len(s) == 0 || len(s) > MaxNumberLength {
		return d, false
	}
	mantissa := s
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		exp, err := strconv.Atoi(s[i+1:])
		if err != nil || exp > MaxExponent || exp < -MaxExponent {
			return d, false
		}
		d.Exponent, mantissa = exp, s[:i]
	}
	whole, fraction, point := strings.Cut(mantissa, ".")
	unsigned := strings.TrimPrefix(strings.TrimPrefix(whole, "-"), "+")
	if len(whole)-len(unsigned) > 1 || unsigned == "" || point && fraction == "" || strings.Trim(unsigned+fraction, "0123456789") != "" {
		return d, false
	}
	d.Exponent -= len(fraction)
	var ok bool
	d.Unscaled, ok = new(big.Int).SetString(whole+fraction, 10)
	return d, ok
}

// String writes the number without an exponent.
func (d Decimal) String() string {
	s := d.Unscaled.String()
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	if d.Exponent >= 0 {
		return sign + s + strings.Repeat("0", d.Exponent)
	}
	if missing := 1 - d.Exponent - len(s); missing > 0 {
		s = strings.Repeat("0", missing) + s
	}
	return sign + s[:len(s)+d.Exponent] + "." + s[len(s)+d.Exponent:]
}

// Rat returns the exact value.
func (d Decimal) Rat() *big.Rat {
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(d.Exponent, -d.Exponent))), nil)
	if d.Exponent >= 0 {
		return new(big.Rat).SetInt(scale.Mul(scale, d.Unscaled))
	}
	return new(big.Rat).SetFrac(d.Unscaled, scale)
}

// ImpliedRange is the half-open range that the digits stand for: 5.4 is [5.35, 5.45), 100 is [99.5, 100.5)
// (FHIR R4 search.html#number).
func (d Decimal) ImpliedRange() (low, high Decimal) {
	scaled, half := new(big.Int).Mul(d.Unscaled, big.NewInt(10)), big.NewInt(5)
	return Decimal{new(big.Int).Sub(scaled, half), d.Exponent - 1}, Decimal{new(big.Int).Add(scaled, half), d.Exponent - 1}
}

// ApproximateRange is the range within ten percent either way, for the prefix ap.
func (d Decimal) ApproximateRange() (low, high Decimal) {
	tenth := new(big.Int).Abs(d.Unscaled) // a tenth of the value, at one more digit
	ten := new(big.Int).Mul(d.Unscaled, big.NewInt(10))
	return Decimal{new(big.Int).Sub(ten, tenth), d.Exponent - 1}, Decimal{new(big.Int).Add(ten, tenth), d.Exponent - 1}
}
