package search

import (
	"fmt"
	"math/big"

	"kiln/fhir"
	"kiln/fhir/ucum"
)

// NearDistance is how far "near" reaches where a search gives no distance, in metres. R4 leaves it to the server.
const NearDistance = 50_000

// nearUnits are the units of distance that people write beside those of UCUM, in metres.
var nearUnits = map[string]string{
	"": "1000", "kms": "1000", "mi": "1609.344", "mi_i": "1609.344", "mi_us": "1609.347218694438", "ft": "0.3048",
	"ft_i": "0.3048", "nmi": "1852", "nmi_i": "1852", "miles": "1609.344",
}

// near reads latitude|longitude|distance|units (R4 location.html#search). Parts of the value are the latitude and the
// longitude in degrees and the distance in metres.
func near(v Value, raw string) (Value, string) {
	parts := split(raw, '|')
	if len(parts) < 2 || len(parts) > 4 {
		return v, fmt.Sprintf("%q is no place: it takes latitude|longitude|distance|units, distance and units being optional.", raw)
	}
	for i, bound := range []int64{90, 180} {
		d, ok := fhir.ParseDecimal(parts[i])
		if !ok || new(big.Rat).Abs(d.Rat()).Cmp(big.NewRat(bound, 1)) > 0 {
			return v, fmt.Sprintf("%q is no %s: it takes degrees from -%d to %d.", parts[i], [...]string{"latitude", "longitude"}[i], bound, bound)
		}
		v.Parts = append(v.Parts, Value{Raw: parts[i], Number: d})
	}
	distance := fhir.Decimal{Unscaled: big.NewInt(NearDistance)}
	if len(parts) > 2 && parts[2] != "" {
		d, ok := fhir.ParseDecimal(parts[2])
		if !ok || d.Unscaled.Sign() < 0 {
			return v, fmt.Sprintf("%q is no distance: it takes a number that is not negative.", parts[2])
		}
		unit := ""
		if len(parts) == 4 {
			unit = parts[3]
		}
		if d, ok = metres(d, unit); !ok {
			return v, fmt.Sprintf("%q is no unit of distance: it takes a UCUM code such as km, m or [mi_us]; without one kilometres are meant.", unit)
		}
		distance = d
	}
	v.Parts = append(v.Parts, Value{Number: distance})
	return v, ""
}

// metres brings a distance into metres, to the millimetre.
func metres(d fhir.Decimal, unit string) (fhir.Decimal, bool) {
	var m *big.Rat
	if factor, ok := nearUnits[unit]; ok {
		f, _ := new(big.Rat).SetString(factor)
		m = f.Mul(f, d.Rat())
	} else if code, v, ok := ucum.CanonicalRat(unit, d.Rat()); ok && code == "m" {
		m = v
	} else {
		return d, false
	}
	return fhir.ParseDecimal(m.FloatString(3))
}
