package ucum_test

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"kiln/fhir/ucum"
)

// TestCanonical_equal_quantities has on each line quantities that are the same by definition. They must give identical
// results, not merely close ones: a search index compares them with '='.
func TestCanonical_equal_quantities(t *testing.T) {
	t.Parallel()
	type quantity struct{ value, code string }
	for _, same := range [][]quantity{
		{{"5.4", "g"}, {"5400", "mg"}, {"5.40", "g"}, {"0.0054", "kg"}, {"5.4e6", "ug"}, {"5.4", "g{wet}"}, {"54", "dg"}},
		{{"110", "mg/dL"}, {"1.1", "g/L"}, {"1.10", "kg/m3"}, {"1100", "ug/mL"}, {"1100", "mg.L-1"}, {"11", "mg/cL"}},
		{{"6.3", "mmol/L"}, {"6300", "umol/L"}, {"0.0063", "mol/l"}, {"6.3", "mol/m3"}, {"6.3", "meq/L"}, {"6.3", "mosm/L"}},
		{{"4.5", "10*9/L"}, {"4.5", "10^9/L"}, {"4.5", "10*3/uL"}, {"4500", "/uL"}, {"4500", "{WBC}/uL"}, {"4.5", "1000000000/L"}},
		{{"1", "h"}, {"60", "min"}, {"3600", "s"}, {"3600000", "ms"}},
		{{"1", "wk"}, {"7", "d"}, {"168", "h"}},
		{{"2", "a"}, {"24", "mo"}, {"730.5", "d"}},
		{{"72", "/min"}, {"72", "{beats}/min"}, {"1.2", "Hz"}, {"1.2", "/s"}, {"1.2", "s-1"}, {"72", "min-1"}},
		{{"37", "Cel"}, {"98.6", "[degF]"}, {"310.15", "K"}, {"29.6", "[degRe]"}, {"558.27", "[degR]"}, {"37", "Cel{core}"}, {"37", "(Cel)"}},
		{{"-40", "Cel"}, {"-40", "[degF]"}},
		{{"12", "[in_i]"}, {"1", "[ft_i]"}, {"30.48", "cm"}, {"304.8", "mm"}},
		{{"1", "[lb_av]"}, {"16", "[oz_av]"}, {"453.59237", "g"}, {"7000", "[gr]"}},
		{{"1", "[gal_us]"}, {"128", "[foz_us]"}, {"3.785411784", "L"}, {"768", "[tsp_us]"}, {"256", "[tbs_us]"}, {"16", "[cup_us]"}},
		{{"160", "[foz_br]"}, {"4.54609", "L"}},
		{{"120", "mm[Hg]"}, {"15.99864", "kPa"}, {"15998.64", "N/m2"}, {"0.12", "m[Hg]"}},
		{{"20", "cm[H2O]"}, {"1.96133", "kPa"}},
		{{"1", "atm"}, {"101325", "Pa"}, {"1.01325", "bar"}},
		{{"1", "kcal"}, {"4.184", "kJ"}, {"1", "[Cal]"}},
		{{"60", "U/L"}, {"1", "ukat/L"}, {"60000", "mU/L"}},
		{{"5", "[IU]/mL"}, {"5000", "[iU]/L"}, {"5", "k[IU]/L"}, {"5000", "m[iU]/mL"}},
		{{"12", "%"}, {"0.12", "1"}, {"120", "[ppth]"}, {"120000", "[ppm]"}, {"0.12", "g/g"}, {"0.12", "{ratio}"}},
		{{"180", "deg"}, {"10800", "'"}, {"648000", "''"}, {"200", "gon"}, {"0.5", "circ"}, {"1", "[pi].rad"}},
		{{"1", "Ci"}, {"37", "GBq"}}, {{"100", "REM"}, {"1", "Sv"}, {"1", "Gy"}, {"100", "RAD"}},
		{{"1", "V"}, {"1", "W/A"}, {"1", "J/C"}, {"1", "kg.m2/s3/A"}, {"1", "Ohm.A"}},
		{{"90", "mL/min/{1.73_m2}"}, {"90", "mL/min"}},
		{{"1", "mg/kg/d"}, {"1", "mg/(kg.d)"}, {"1", "(mg/kg)/d"}},
		{{"3", "/100{WBC}"}, {"0.03", "1"}},
		{{"1", "KiBy"}, {"1024", "By"}, {"8192", "bit"}},
		{{"1", "ar"}, {"100", "m2"}, {"10", "dar"}}, {{"1", "t"}, {"1000", "kg"}, {"1", "Mg"}},
	} {
		wantUnit, want, ok := ucum.Canonical(same[0].code, same[0].value)
		if !ok {
			t.Errorf("%v is unknown", same[0])
			continue
		}
		for _, q := range same[1:] {
			if unit, v, ok := ucum.Canonical(q.code, q.value); !ok || unit != wantUnit || v != want {
				t.Errorf("%v is %v %s %v, but %v is %v %s", q, v, unit, ok, same[0], want, wantUnit)
			}
		}
	}
}

func TestCanonical_unit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code, unit string
		v          float64
	}{
		{"g", "g", 1}, {"kg", "g", 1000}, {"mg/dL", "g.m-3", 10}, {"1", "1", 1}, {"%", "1", 0.01}, {"mmol/L", "m-3.mol", 1},
		{"Pa", "g.m-1.s-2", 1000}, {"V", "C-1.g.m2.s-2", 1000}, {"lm", "cd.rad2", 1}, {"[iU]/L", "[iU].m-3", 1000},
		{"10*-3", "1", 1e-3}, {"10*+3", "1", 1e3}, {"m+2", "m2", 1}, {"/m.s", "m-1.s", 1}, {"m/s/s", "m.s-2", 1},
		{"m/(s.s)", "m.s-2", 1}, {"m/s.s", "m", 1}, {"[pH]", "[pH]", 1}, {"{a.b/c(}", "1", 1}, {"{}", "1", 1}, {"{2 or 3 times}/h", "s-1", 1. / 3600},
		{"[arb'U]", "[arb'U]", 1}, {"kg/m2", "g.m-2", 1000}, {"cm[H2O]", "g.m-1.s-2", 98066.5}, {"da10*", "", 0},
		{"min", "s", 60}, {"cd", "cd", 1}, {"Pt", "g", 1e21}, {"nmol/mL", "m-3.mol", 1e-3}, {"kat", "mol.s-1", 1},
		{"mCel", "K", 273.151},
	} {
		unit, v, ok := ucum.Canonical(c.code, "1")
		if ok != (c.unit != "") || unit != c.unit || v != c.v {
			t.Errorf("%s: %v %s %v, want %v %s", c.code, v, unit, ok, c.v, c.unit)
		}
	}
}

func TestCanonical_unknown(t *testing.T) {
	t.Parallel()
	for _, code := range []string{
		"", " ", "furlong", "mg/", "/", "//m", ".g", "g.", "g..m", "mg dL", "mg/dL ", "()", "(g", "g)", "(/m)", "(m)2", "2m", "m2s",
		"m-", "m--2", "m^2", "m²", "µg", "mmin", "k%", "kmg", "kk", "k", "m[Hg", "[in_i", "[]", "[nope]", "{", "}", "g{", "g{a}{b}",
		"{a}g", "g{a\tb}", "{µ}", "g{{a}}", "0", "0.g", "100*3", "010*", "m\x00", "m\n", "k[degF]", "Cel/h", "Cel2", "Cel-1",
		"2.Cel", "/Cel", "[degF].s", "[pH]/d", "dB", "B[SPL]", "MG/DL", "mEq/L", "m128", "10*9999", "1234567890123456789",
		"kg99.kg99", "[pi]127", strings.Repeat("(", 200), strings.Repeat("m.", 150) + "m",
	} {
		if unit, v, ok := ucum.Canonical(code, "1"); ok {
			t.Errorf("%q is %v %s, want unknown", code, v, unit)
		}
	}
	for _, value := range []string{"", "a", "1/3", "0x1", "1e999999999", "Inf", "NaN", " 1", "1e400", "1e-400", "1_0", "--1"} {
		if _, v, ok := ucum.Canonical("g", value); ok {
			t.Errorf("value %q is %v", value, v)
		}
	}
	if _, _, ok := ucum.CanonicalRat("g", nil); ok {
		t.Error("nil value")
	}
	if _, ok := ucum.ConvertRat(nil, "g", "kg"); ok {
		t.Error("nil value")
	}
}

func TestComparable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"mg/dL", "g/L", true}, {"mg/dL", "mmol/L", false}, {"Cel", "[degF]", true}, {"Cel", "K", true}, {"[iU]", "[IU]", true},
		{"[iU]", "U", false}, {"[iU]", "[arb'U]", false}, {"[iU]/L", "1/L", false}, {"mmol/L", "10*9/L", false}, {"[pH]", "1", false},
		{"U", "kat", true}, {"nope", "nope", false}, {"g", "nope", false}, {"nope", "g", false}, {"{RBC}/uL", "{WBC}/uL", true},
		{"m", "[mi_us]", true}, {"rad", "1", false}, {"osm", "eq", true},
	} {
		if got := ucum.Comparable(c.a, c.b); got != c.want {
			t.Errorf("%s with %s: %v", c.a, c.b, got)
		}
	}
}

// TestConvert holds figures published elsewhere: NIST SP 811 appendix B, the SI Brochure, clinical reference tables.
func TestConvert(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value, from, to string
		want            float64
	}{
		{"98.6", "[degF]", "Cel", 37}, {"32", "[degF]", "Cel", 0}, {"100", "Cel", "[degF]", 212}, {"0", "K", "Cel", -273.15},
		{"80", "[degRe]", "Cel", 100}, {"491.67", "[degR]", "Cel", 0},
		{"1", "[mi_i]", "km", 1.609344}, {"1", "[nmi_i]", "m", 1852}, {"1", "[kn_i]", "km/h", 1.852}, {"3937", "[ft_us]", "m", 1200},
		{"1", "[acr_us]", "[rd_us]2", 160}, {"640", "[acr_us]", "[smi_us]", 1}, {"1", "[oz_tr]", "g", 31.1034768},
		{"1", "[lb_av]", "kg", 0.45359237}, {"1", "[stone_av]", "kg", 6.35029318}, {"1", "[ston_av]", "kg", 907.18474},
		{"1", "[lton_av]", "kg", 1016.0469088}, {"1", "[lbf_av]", "N", 4.4482216152605}, {"1", "[psi]", "Pa", 4.4482216152605 / 0.00064516},
		{"1", "[HP]", "W", 745.6998715822702}, {"1", "[Btu_IT]", "J", 1055.05585262}, {"1", "[bu_us]", "L", 35.23907016688},
		{"1", "[foz_us]", "mL", 29.5735295625}, {"1", "[tsp_us]", "mL", 4.92892159375}, {"1", "[pt_br]", "mL", 568.26125},
		{"1", "[foz_br]", "mL", 28.4130625}, {"1", "[gr]", "mg", 64.79891}, {"1", "P", "Pa.s", 0.1}, {"1", "dyn", "N", 1e-5},
		{"1", "R", "C/kg", 2.58e-4}, {"1", "G", "T", 1e-4}, {"1", "Oe", "A/m", 1000 / (4 * math.Pi)}, {"1", "deg", "rad", math.Pi / 180},
		{"1", "keV", "J", 1.602176634e-16}, {"1", "[ly]", "m", 9460730472580800}, {"1", "gf", "N", 9.80665e-3},
		{"1", "[Ch]", "mm", 1. / 3}, {"20", "[drp]", "mL", 1}, {"5", "[diop]", "/cm", 0.05}, {"1", "U", "nkat", 1e9 / 6e7},
		{"7.5", "mm[Hg]", "kPa", 0.999915}, {"1", "[MET]", "mL/min/kg", 3.5}, {"1", "[wood'U]", "[PRU]", 0.06},
		{"1", "mo", "d", 30.4375}, {"1", "kW.h", "MJ", 3.6}, {"140", "meq/L", "mmol/L", 140},
	} {
		if got, ok := ucum.Convert(c.value, c.from, c.to); !ok || got != c.want {
			t.Errorf("%s %s = %v %s %v, want %v", c.value, c.from, got, c.to, ok, c.want)
		}
	}
	for _, c := range [][3]string{{"1", "g", "m"}, {"1", "g", "nope"}, {"1", "nope", "g"}, {"x", "g", "kg"}, {"1e300", "Yg", "yg"}} {
		if v, ok := ucum.Convert(c[0], c[1], c[2]); ok {
			t.Errorf("%v: %v", c, v)
		}
	}
}

func TestConvertRat_is_exact(t *testing.T) {
	t.Parallel()
	value := big.NewRat(1, 3)
	got, ok := ucum.ConvertRat(value, "mg/dL", "g/L")
	if !ok || got.Cmp(big.NewRat(1, 300)) != 0 || value.Cmp(big.NewRat(1, 3)) != 0 {
		t.Errorf("%v %v, value now %v", got, ok, value)
	}
	for _, code := range []string{"Cel", "[degF]", "[in_i]", "mg/dL"} { // results are the caller's: tables stay as they are
		_, v, _ := ucum.CanonicalRat(code, value)
		before := v.String()
		v.SetInt64(0)
		if _, again, _ := ucum.CanonicalRat(code, value); again.String() != before {
			t.Errorf("%s: a caller changed the table", code)
		}
	}
}

// FuzzCanonical checks that no input panics, and that a canonical unit is a code that stands for itself.
func FuzzCanonical(f *testing.F) {
	for _, code := range []string{"mg/dL", "10*3/uL", "mL/min/{1.73_m2}", "kg.m2/(s3.A)", "[iU]/mL", "Cel", "/100{WBC}", "[degF]",
		"m[H2O]", "10^-6", "((m.s)/g)2", "[m/s2/Hz^0.5]", "[pi]120", "Ym127.Ym-127"} {
		f.Add(code, "5.40")
	}
	f.Fuzz(func(t *testing.T, code, value string) {
		unit, v, ok := ucum.Canonical(code, value)
		exactUnit, r, known := ucum.CanonicalRat(code, big.NewRat(54, 10))
		if ok && !known {
			t.Fatalf("%q: float but no exact value", code)
		}
		if known {
			self, same, ok := ucum.CanonicalRat(exactUnit, r)
			if !ok || self != exactUnit || same.Cmp(r) != 0 {
				t.Fatalf("%q: canonical %q stands for %q", code, exactUnit, self)
			}
			back, ok := ucum.ConvertRat(r, exactUnit, code)
			if !ok || back.Cmp(big.NewRat(54, 10)) != 0 || !ucum.Comparable(code, exactUnit) {
				t.Fatalf("%q: no way back from %q", code, exactUnit)
			}
		}
		if ok && (unit != exactUnit || math.IsNaN(v) || math.IsInf(v, 0)) {
			t.Fatalf("%q %q: %v %q, exact %q", value, code, v, unit, exactUnit)
		}
	})
}

func BenchmarkCanonical(b *testing.B) {
	for _, c := range []struct{ name, code string }{
		{"ready", "mg/dL"}, {"offset", "[degF]"}, {"parsed_short", "mg/cL"}, {"parsed_long", "ug/kg/(24.h){dose}"}, {"unknown", "furlongs/fortnight"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ucum.Canonical(c.code, "110.5")
			}
		})
	}
}
