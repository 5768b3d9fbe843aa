package path

import (
	"math/big"
	"strconv"
	"strings"
)

// Number is an exact decimal: coef × 10^-scale. It keeps the digits that it was written with. The zero Number is 0.
type Number struct {
	coef  *big.Int
	scale int
}

var (
	bigZero = new(big.Int)
	bigOne  = big.NewInt(1)
	bigTwo  = big.NewInt(2)
	bigTen  = big.NewInt(10)
)

func numberOf(n int64) Number { return Number{coef: big.NewInt(n)} }

func (d Number) int() *big.Int {
	if d.coef == nil {
		return bigZero
	}
	return d.coef
}

func pow10(n int) *big.Int { return new(big.Int).Exp(bigTen, big.NewInt(int64(n)), nil) }

// parseNumber reads a decimal with an optional sign and exponent.
func parseNumber(s string) (Number, bool) {
	mantissa, exp := s, 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		e, err := strconv.Atoi(s[i+1:])
		if err != nil || e > MaxDigits || e < -MaxDigits {
			return Number{}, false
		}
		mantissa, exp = s[:i], e
	}
	whole, fraction, dotted := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole, "+-")
	if len(whole)-len(digits) > 1 || digits == "" || dotted && fraction == "" || len(mantissa) > MaxDigits {
		return Number{}, false
	}
	for _, part := range [2]string{digits, fraction} {
		for i := 0; i < len(part); i++ {
			if part[i] < '0' || part[i] > '9' {
				return Number{}, false
			}
		}
	}
	var coef *big.Int
	if len(mantissa) <= 18 {
		n, err := strconv.ParseInt(whole+fraction, 10, 64)
		if err != nil {
			return Number{}, false
		}
		coef = big.NewInt(n)
	} else {
		c, ok := new(big.Int).SetString(strings.TrimPrefix(whole, "+")+fraction, 10)
		if !ok {
			return Number{}, false
		}
		coef = c
	}
	d := Number{coef, len(fraction) - exp}
	if d.scale < 0 {
		d = Number{new(big.Int).Mul(coef, pow10(-d.scale)), 0}
	}
	return d, true
}

// String writes all digits, also trailing zeros, without an exponent.
func (d Number) String() string {
	s := d.int().String()
	if d.scale <= 0 {
		return s
	}
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	if len(s) <= d.scale {
		s = strings.Repeat("0", d.scale-len(s)+1) + s
	}
	return sign + s[:len(s)-d.scale] + "." + s[len(s)-d.scale:]
}

// Rat returns the number as a fraction.
func (d Number) Rat() *big.Rat { return new(big.Rat).SetFrac(d.int(), pow10(d.scale)) }

// at returns the coefficient for a scale that is not smaller than d's.
func (d Number) at(scale int) *big.Int {
	if scale == d.scale {
		return d.int()
	}
	return new(big.Int).Mul(d.int(), pow10(scale-d.scale))
}

// Cmp compares the values: 1.0 and 1.00 are equal.
func (d Number) Cmp(o Number) int {
	scale := max(d.scale, o.scale)
	return d.at(scale).Cmp(o.at(scale))
}

func (d Number) sign() int { return d.int().Sign() }

func (d Number) neg() Number { return Number{new(big.Int).Neg(d.int()), d.scale} }

func (d Number) add(o Number) Number {
	scale := max(d.scale, o.scale)
	return Number{new(big.Int).Add(d.at(scale), o.at(scale)), scale}
}

func (d Number) sub(o Number) Number { return d.add(o.neg()) }

func (d Number) mul(o Number) Number {
	return Number{new(big.Int).Mul(d.int(), o.int()), d.scale + o.scale}
}

// divisionScale is how many fractional digits a quotient that does not end has.
const divisionScale = 16

// div divides, exactly where few digits do, else to divisionScale digits or those of the operands if they are more.
func (d Number) div(o Number) Number {
	return fromRat(new(big.Rat).Quo(d.Rat(), o.Rat()), max(d.scale, o.scale, divisionScale))
}

// fromRat rounds a fraction half away from zero to scale digits and drops trailing zeros.
func fromRat(r *big.Rat, scale int) Number {
	num := new(big.Int).Mul(r.Num(), pow10(scale))
	return Number{roundQuo(num, r.Denom()), scale}.trim()
}

// roundQuo divides with rounding half away from zero; b is positive.
func roundQuo(a, b *big.Int) *big.Int {
	q, m := new(big.Int).QuoRem(a, b, new(big.Int))
	if m.Abs(m).Mul(m, bigTwo).Cmp(b) >= 0 {
		if a.Sign() < 0 {
			return q.Sub(q, bigOne)
		}
		return q.Add(q, bigOne)
	}
	return q
}

// trim drops trailing zeros of the fraction.
func (d Number) trim() Number {
	c, m := d.int(), new(big.Int)
	for d.scale > 0 {
		q, r := new(big.Int).QuoRem(c, bigTen, m)
		if r.Sign() != 0 {
			break
		}
		c = q
		d.scale--
	}
	return Number{c, d.scale}
}

// round rounds half away from zero to scale digits; a smaller scale than asked stays.
func (d Number) round(scale int) Number {
	if d.scale <= scale {
		return d
	}
	return Number{roundQuo(d.int(), pow10(d.scale-scale)), scale}
}

// floor and ceil cut to scale digits downwards and upwards, and pad with zeros.
func (d Number) floor(scale int) Number {
	if d.scale <= scale {
		return Number{d.at(scale), scale}
	}
	return Number{new(big.Int).Div(d.int(), pow10(d.scale-scale)), scale} // Euclidean: downwards
}

func (d Number) ceil(scale int) Number { return d.neg().floor(scale).neg() }

// truncate drops the fraction.
func (d Number) truncate() *big.Int { return new(big.Int).Quo(d.int(), pow10(d.scale)) }

// integerOf returns a whole number that fits FHIRPath's Integer.
func integerOf(n *big.Int) (int64, bool) {
	if !n.IsInt64() || !fitsInteger(n.Int64()) {
		return 0, false
	}
	return n.Int64(), true
}

func fitsInteger(n int64) bool { return n >= -1<<31 && n < 1<<31 }

// tooLong says whether the number has grown beyond MaxDigits.
func (d Number) tooLong() bool {
	return d.scale > MaxDigits || d.int().BitLen() > MaxDigits*10/3
}
