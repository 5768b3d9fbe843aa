package ucum

import (
	"math/big"
	"strings"
)

// table is everything the parser knows. It is built once and only read afterwards.
type table struct {
	prefixes map[string]*big.Rat
	units    map[string]definition
	ready    map[string]*unit // codes parsed ahead
	bases    []string         // index into dimension
}

type definition struct {
	unit   *unit
	metric bool // takes prefixes
}

var (
	one      = big.NewRat(1, 1)
	standard = newTable()
)

// prefixes of the SI (Brochure, 9th edition, table 7; UCUM has no ronna, quetta and their inverses) and of IEC 80000-13.
var prefixes = []struct{ code, factor string }{
	{"da", "1e1"}, {"h", "1e2"}, {"k", "1e3"}, {"M", "1e6"}, {"G", "1e9"}, {"T", "1e12"}, {"P", "1e15"}, {"E", "1e18"},
	{"Z", "1e21"}, {"Y", "1e24"},
	{"d", "1e-1"}, {"c", "1e-2"}, {"m", "1e-3"}, {"u", "1e-6"}, {"n", "1e-9"}, {"p", "1e-12"}, {"f", "1e-15"},
	{"a", "1e-18"}, {"z", "1e-21"}, {"y", "1e-24"},
	{"Ki", "1024"}, {"Mi", "1048576"}, {"Gi", "1073741824"}, {"Ti", "1099511627776"},
}

// physical are the base units that make up everything but the arbitrary ones. Mass counts in grams, as UCUM has it.
var physical = []string{"m", "s", "g", "rad", "K", "C", "cd", "mol"}

// group is one set of definitions, each "code = number unit" where the unit is written with codes above it.
// Metric units take prefixes and are read first, plain ones do not.
type group struct {
	metric, plain []string
}

// groups follow the SI Brochure (derived units: table 4; units beside it: table 8), NIST SP 811 appendix B (customary
// and CGS measures, all exact except where said) and, for the clinical ones, the definitions of the units' makers.
var groups = []group{
	{ // pure numbers
		plain: []string{
			"10* = 10 1", "10^ = 10 1", "[pi] = 3.1415926535897932384626433832795028841971693993751058209749445923 1",
			"% = 0.01 1", "[ppth] = 1e-3 1", "[ppm] = 1e-6 1", "[ppb] = 1e-9 1", "[pptr] = 1e-12 1",
			"[HPF] = 1 1", "[LPF] = 100 1", // microscope fields, a count of them
			"[hnsf'U] = 1 1",
		},
		metric: []string{"bit = 1 1", "By = 8 bit"},
	},
	{ // SI derived units with names of their own; charge is the base here, so the ampere is derived
		metric: []string{
			"sr = 1 rad2", "Hz = 1 s-1", "N = 1000 g.m/s2", "Pa = 1 N/m2", "J = 1 N.m", "W = 1 J/s", "A = 1 C/s",
			"V = 1 W/A", "F = 1 C/V", "Ohm = 1 V/A", "S = 1 A/V", "mho = 1 S", "Wb = 1 V.s", "T = 1 Wb/m2",
			"H = 1 Wb/A", "lm = 1 cd.sr", "lx = 1 lm/m2", "Bq = 1 s-1", "Gy = 1 J/kg", "Sv = 1 J/kg", "kat = 1 mol/s",
		},
	},
	{ // time: the year of UCUM is the Julian one, a month its twelfth
		plain: []string{
			"min = 60 s", "h = 3600 s", "d = 86400 s", "wk = 604800 s",
			"a_j = 365.25 d", "a_g = 365.2425 d", "a_t = 365.24219 d", "a = 1 a_j",
			"mo_j = 30.4375 d", "mo_g = 30.436875 d", "mo_s = 29.53059 d", "mo = 1 mo_j",
		},
		metric: []string{"Bd = 1 s-1"},
	},
	{ // beside the SI
		metric: []string{
			"l = 1e-3 m3", "L = 1 l", "ar = 100 m2", "st = 1 m3", "t = 1e6 g", "bar = 1e5 Pa", "tex = 1e-3 g/m",
			"g% = 1 g/dl", "[g] = 9.80665 m/s2", "[c] = 299792458 m/s", "gf = 1 g.[g]", "[ly] = 1 [c].a_j",
			"eV = 1.602176634e-19 J",  // exact since 2019
			"u = 1.66053906660e-24 g", // measured, CODATA 2018
			"cal_th = 4.184 J",        // thermochemical
			"cal_IT = 4.1868 J",       // International Table
			"cal_[15] = 4.18580 J",    // of water at 15 °C
			"cal_[20] = 4.18190 J",    // at 20 °C
			"cal_m = 4.19002 J",       // mean
			"cal = 1 cal_th",
			"m[H2O] = 9806.65 Pa",       // conventional, water of 1000 kg/m3
			"m[Hg] = 133322 Pa",         // UCUM rounds the conventional 133 322.387 415
			"osm = 1 mol", "eq = 1 mol", // osmoles and equivalents count as moles of what they are of
			"U = 1e-6 mol/min", // enzyme unit, IUB 1964
		},
		plain: []string{
			"[Cal] = 1 kcal_th", "atm = 101325 Pa", "att = 98066.5 Pa", "Ao = 1e-10 m", "b = 1e-28 m2",
			"[S] = 1e-13 s", // Svedberg
		},
	},
	{ // angle
		plain: []string{
			"circ = 2 [pi].rad", "deg = 2 [pi].rad/360", "' = 1 deg/60", "'' = 1 deg/3600", "gon = 0.9 deg", "sph = 4 [pi].sr",
		},
	},
	{ // centimetre, gram, second, and the older radiology; no phot, whose size UCUM gives as the inverse of the true one
		metric: []string{
			"dyn = 1e-5 N", "erg = 1e-7 J", "P = 0.1 Pa.s", "St = 1e-4 m2/s", "Gal = 0.01 m/s2", "Ky = 100 m-1",
			"Mx = 1e-8 Wb", "G = 1e-4 T", "Oe = 250 /[pi].A/m", "Gb = 1 Oe.cm", "Bi = 10 A", "sb = 1e4 cd/m2",
			"Lmb = 1 sb/[pi]", "Ci = 37e9 Bq", "R = 2.58e-4 C/kg", "RAD = 0.01 Gy", "REM = 0.01 Sv",
		},
	},
	{ // international length, area, volume (1959: the inch is 25.4 mm)
		plain: []string{
			"[in_i] = 0.0254 m", "[ft_i] = 0.3048 m", "[yd_i] = 0.9144 m", "[mi_i] = 1609.344 m", "[fth_i] = 1.8288 m",
			"[nmi_i] = 1852 m", "[kn_i] = 1 [nmi_i]/h", "[hd_i] = 0.1016 m", "[mil_i] = 25.4e-6 m",
			"[sin_i] = 1 [in_i]2", "[sft_i] = 1 [ft_i]2", "[syd_i] = 1 [yd_i]2", "[cml_i] = 0.25 [pi].[mil_i]2",
			"[cin_i] = 1 [in_i]3", "[cft_i] = 1 [ft_i]3", "[cyd_i] = 1 [yd_i]3", "[bf_i] = 144 [cin_i]", "[cr_i] = 128 [cft_i]",
			"[lne] = 1 [in_i]/12", "[pnt] = 1 [in_i]/72", "[pca] = 1 [in_i]/6",
		},
	},
	{ // United States survey length and area (a metre is 39.37 inches)
		plain: []string{
			"[ft_us] = 1200 m/3937", "[in_us] = 1 [ft_us]/12", "[yd_us] = 3 [ft_us]", "[fth_us] = 6 [ft_us]",
			"[rd_us] = 16.5 [ft_us]", "[ch_us] = 66 [ft_us]", "[fur_us] = 660 [ft_us]", "[mi_us] = 5280 [ft_us]",
			"[srd_us] = 1 [rd_us]2", "[smi_us] = 1 [mi_us]2", "[acr_us] = 43560 [ft_us]2",
		},
	},
	{ // United States volume: the wine gallon is 231 cubic inches, the bushel 2150.42
		plain: []string{
			"[gal_us] = 231 [in_i]3", "[bbl_us] = 42 [gal_us]", "[qt_us] = 0.25 [gal_us]", "[pt_us] = 0.125 [gal_us]",
			"[gil_us] = 1 [gal_us]/32", "[foz_us] = 1 [gal_us]/128", "[fdr_us] = 1 [gal_us]/1024",
			"[min_us] = 1 [gal_us]/61440", "[crd_us] = 128 [ft_i]3", "[cup_us] = 8 [foz_us]", "[tbs_us] = 0.5 [foz_us]",
			"[tsp_us] = 1 [foz_us]/6", "[bu_us] = 2150.42 [in_i]3", "[gal_wi] = 0.125 [bu_us]", "[pk_us] = 0.25 [bu_us]",
			"[dqt_us] = 1 [bu_us]/32", "[dpt_us] = 1 [bu_us]/64",
			"[cup_m] = 240 ml", "[tbs_m] = 15 ml", "[tsp_m] = 5 ml", "[foz_m] = 30 ml", // nutrition labels, 21 CFR 101.9
		},
	},
	{ // imperial volume: the gallon is 4.546 09 litres (1985)
		plain: []string{
			"[gal_br] = 4.54609 l", "[pk_br] = 2 [gal_br]", "[bu_br] = 8 [gal_br]", "[qt_br] = 0.25 [gal_br]",
			"[pt_br] = 0.125 [gal_br]", "[gil_br] = 1 [gal_br]/32", "[foz_br] = 1 [gal_br]/160", "[fdr_br] = 1 [gal_br]/1280",
			"[min_br] = 1 [gal_br]/76800",
		},
	},
	{ // mass: avoirdupois, troy, apothecaries'; a pound is 453.592 37 g or 7000 grains
		plain: []string{
			"[gr] = 64.79891 mg", "[lb_av] = 453.59237 g", "[oz_av] = 28.349523125 g", "[dr_av] = 1 [oz_av]/16",
			"[stone_av] = 14 [lb_av]", "[scwt_av] = 100 [lb_av]", "[lcwt_av] = 112 [lb_av]", "[ston_av] = 2000 [lb_av]",
			"[lton_av] = 2240 [lb_av]", "[pwt_tr] = 24 [gr]", "[oz_tr] = 480 [gr]", "[lb_tr] = 5760 [gr]",
			"[sc_ap] = 20 [gr]", "[dr_ap] = 60 [gr]", "[oz_ap] = 480 [gr]", "[lb_ap] = 5760 [gr]",
			"[oz_m] = 28 g", "[car_m] = 0.2 g", "[car_Au] = 1 /24", "[den] = 1 g/km/9",
		},
	},
	{ // force, pressure, energy of the same system
		plain: []string{
			"[lbf_av] = 1 [lb_av].[g]", "[psi] = 1 [lbf_av]/[in_i]2", "[in_i'H2O] = 0.0254 m[H2O]", "[in_i'Hg] = 0.0254 m[Hg]",
			"[HP] = 550 [ft_i].[lbf_av]/s", "[Btu_IT] = 1.05505585262 kJ", "[Btu_th] = 1.054350 kJ", "[Btu] = 1 [Btu_th]",
		},
	},
	{ // clinic
		plain: []string{
			"[diop] = 1 m-1", "[Ch] = 1 mm/3", "[drp] = 0.05 ml", "[mesh_i] = 1 /[in_i]",
			"[MET] = 3.5 ml/min/kg",     // oxygen at rest
			"[PRU] = 1 mm[Hg].s/ml",     // peripheral vascular resistance
			"[wood'U] = 1 mm[Hg].min/l", // pulmonary vascular resistance
			"[degR] = 1 K.5/9",          // Rankine counts from absolute zero: no offset
		},
	},
}

// arbitrary units are defined by a procedure, not by a measure: nothing converts to or from them.
var arbitrary = group{
	metric: []string{"[iU]"},
	plain: []string{
		"[arb'U]", "[USP'U]", "[GPL'U]", "[MPL'U]", "[APL'U]", "[beth'U]", "[anti'Xa'U]", "[todd'U]", "[dye'U]",
		"[smgy'U]", "[bdsk'U]", "[ka'U]", "[knk'U]", "[mclg'U]", "[tb'U]", "[CFU]", "[PFU]", "[FFU]", "[BAU]", "[AU]",
		"[Amb'a'1'U]", "[PNU]", "[Lf]", "[D'ag'U]", "[FEU]", "[ELU]", "[EU]", "[CCID_50]", "[TCID_50]", "[EID_50]",
		"[IR]",
	},
}

// common are codes that real records are full of; they are parsed ahead.
var common = strings.Fields(`1 % g kg mg ug ng pg L mL dL uL fL l ml dl mol mmol umol nmol pmol m cm mm km um m2
	s ms min h d wk mo a Hz /min {beats}/min {breaths}/min {score} {count} {#} {INR} mm[Hg] cm[H2O] kPa Cel [degF] kg/m2
	mg/dL g/dL ng/dL ug/dL g/L mg/L ug/L ng/L ug/mL ng/mL pg/mL mmol/L umol/L nmol/L pmol/L meq/L mosm/kg mosm/L
	U U/L U/mL mU/L kat/L ukat/L [IU] [iU] [IU]/L [iU]/L [IU]/mL [iU]/mL m[IU]/L m[IU]/mL u[IU]/mL k[IU]/L
	10*3/uL 10*6/uL 10*9/L 10*12/L /uL /L /[HPF] /[LPF] pg/{cell} mL/min mL/h L/min mm/h mL/min/{1.73_m2} mmol/mol mg/g
	mg/kg mg/kg/d ug/kg/min [in_i] [ft_i] [lb_av] [oz_av] [foz_us] kcal kJ J W V mV A mA [pH] deg [ppm]`)

// newTable builds the table from the definitions of this file. A definition that cannot be read is an error of ours:
// it panics at start-up, before any input is seen.
func newTable() *table {
	t := &table{prefixes: map[string]*big.Rat{}, units: map[string]definition{}, ready: map[string]*unit{}}
	for _, p := range prefixes {
		t.prefixes[p.code] = number(p.factor)
	}
	for _, code := range physical {
		t.base(code, true)
	}
	for _, g := range groups {
		for _, line := range g.metric {
			t.define(line, true)
		}
		for _, line := range g.plain {
			t.define(line, false)
		}
	}
	for _, code := range arbitrary.metric {
		t.base(code, true)
	}
	for _, code := range arbitrary.plain {
		t.base(code, false)
	}
	t.units["[IU]"] = t.units["[iU]"]
	t.specials()
	for _, code := range common {
		u, ok := t.parse(code)
		if !ok {
			panic("ucum: common code " + code)
		}
		named := *u
		named.name = u.canonical(t)
		t.ready[code] = &named
	}
	return t
}

// add enters a unit under a code that is still free.
func (t *table) add(code string, u *unit, metric bool) {
	if _, taken := t.units[code]; taken {
		panic("ucum: two definitions of " + code)
	}
	t.units[code] = definition{u, metric}
}

// base enters a unit that is a dimension of its own.
func (t *table) base(code string, metric bool) {
	u := &unit{factor: one}
	u.dim[len(t.bases)] = 1
	t.bases = append(t.bases, code)
	t.add(code, u, metric)
}

// define enters "code = number unit".
func (t *table) define(line string, metric bool) {
	code, meaning, _ := strings.Cut(line, " = ")
	factor, of, _ := strings.Cut(meaning, " ")
	u, ok := t.parse(of)
	if !ok {
		panic("ucum: definition " + line)
	}
	t.add(code, u.scaled(number(factor)), metric)
}

// specials enters the units whose zero is not the zero of their dimension, and the logarithm we keep.
func (t *table) specials() {
	kelvin := func(factor, offset *big.Rat) *unit {
		return &unit{dim: t.units["K"].unit.dim, factor: factor, offset: offset, alone: true}
	}
	ice := number("273.15")
	t.add("Cel", kelvin(one, ice), true)
	t.add("[degRe]", kelvin(big.NewRat(5, 4), ice), false)
	t.add("[degF]", kelvin(big.NewRat(5, 9), new(big.Rat).Mul(number("459.67"), big.NewRat(5, 9))), false)
	t.base("[pH]", false)
	t.units["[pH]"].unit.alone = true
}

// number reads a literal of this file.
func number(literal string) *big.Rat {
	r, ok := new(big.Rat).SetString(literal)
	if !ok {
		panic("ucum: number " + literal)
	}
	return r
}
