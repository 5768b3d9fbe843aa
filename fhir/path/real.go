package path

import "math/big"

// Logarithms and powers have no exact decimals. They are computed with realBits of mantissa and rounded to
// divisionScale fractional digits.
const realBits = 256

func toReal(d Number) *big.Float { return new(big.Float).SetPrec(realBits).SetRat(d.Rat()) }

func fromReal(x *big.Float) Number {
	r, _ := x.Rat(nil)
	return fromRat(r, divisionScale)
}

func realOf(n int64) *big.Float { return new(big.Float).SetPrec(realBits).SetInt64(n) }

// expReal is e^x by halving x until the series converges quickly. Beyond ±1000 the answer is not given.
func expReal(x *big.Float) (*big.Float, bool) {
	if new(big.Float).Abs(x).Cmp(realOf(1000)) > 0 {
		return nil, false
	}
	const halvings = 16
	y := new(big.Float).SetPrec(realBits).SetMantExp(x, -halvings)
	sum, term := realOf(1), realOf(1)
	for n := int64(1); n < 100; n++ {
		term.Mul(term, y)
		term.Quo(term, realOf(n))
		if term.Sign() == 0 {
			break
		}
		sum.Add(sum, term)
		if term.MantExp(nil) < sum.MantExp(nil)-realBits {
			break
		}
	}
	for range halvings {
		sum.Mul(sum, sum)
	}
	return sum, true
}

// lnReal is the natural logarithm of a positive x: the exponent's share, and 2·artanh((m-1)/(m+1)) for the mantissa.
func lnReal(x *big.Float) *big.Float {
	m := new(big.Float).SetPrec(realBits)
	exp := x.MantExp(m)
	result := artanh2(m)
	ln2 := artanh2(new(big.Float).SetPrec(realBits).SetFloat64(2))
	return result.Add(result, ln2.Mul(ln2, realOf(int64(exp))))
}

// artanh2 is ln(m) for m between 0.5 and 2.
func artanh2(m *big.Float) *big.Float {
	z := new(big.Float).SetPrec(realBits).Sub(m, realOf(1))
	z.Quo(z, new(big.Float).SetPrec(realBits).Add(m, realOf(1)))
	square := new(big.Float).SetPrec(realBits).Mul(z, z)
	sum := new(big.Float).SetPrec(realBits).Set(z)
	term := new(big.Float).SetPrec(realBits).Set(z)
	for n := int64(3); n < 1000 && term.Sign() != 0; n += 2 {
		term.Mul(term, square)
		part := new(big.Float).SetPrec(realBits).Quo(term, realOf(n))
		sum.Add(sum, part)
		if part.MantExp(nil) < sum.MantExp(nil)-realBits {
			break
		}
	}
	return sum.Mul(sum, realOf(2))
}
