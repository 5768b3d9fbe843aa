package ucum

import (
	"bytes"
	"encoding/xml"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type essence struct {
	Prefixes []struct {
		Code  string `xml:"Code,attr"`
		Value struct {
			Value string `xml:"value,attr"`
		} `xml:"value"`
	} `xml:"prefix"`
	Bases []struct {
		Code string `xml:"Code,attr"`
	} `xml:"base-unit"`
	Units []struct {
		Code      string `xml:"Code,attr"`
		Metric    string `xml:"isMetric,attr"`
		Special   string `xml:"isSpecial,attr"`
		Arbitrary string `xml:"isArbitrary,attr"`
		Value     struct {
			Unit     string `xml:"Unit,attr"`
			Value    string `xml:"value,attr"`
			Function struct {
				Unit string `xml:"Unit,attr"`
			} `xml:"function"`
		} `xml:"value"`
	} `xml:"unit"`
}

// readEssence reads UCUM's own file, which its licence keeps out of this repository. It lies beside the module.
func readEssence(t *testing.T) essence {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Skip("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
	file := filepath.Join(dir, "..", "shared", "data", "terminology", "ucum-essence.xml")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Skipf("UCUM's own table is not here: %v", err)
	}
	var e essence
	d := xml.NewDecoder(bytes.NewReader(data))
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil } // it declares ASCII
	if err := d.Decode(&e); err != nil {
		t.Fatal(err)
	}
	if len(e.Units) < 300 {
		t.Fatalf("%s has %d units only", file, len(e.Units))
	}
	return e
}

// measured are units whose size is an experiment's result; UCUM keeps an older one. The relative difference may be this.
var measured = map[string]*big.Rat{"u": big.NewRat(1, 1e6)}

// TestTable_agrees_with_UCUM checks each definition of UCUM that we know, its size, its dimension and whether it takes
// prefixes, and reports those we do not know.
func TestTable_agrees_with_UCUM(t *testing.T) {
	t.Parallel()
	e := readEssence(t)
	if len(e.Prefixes) != len(standard.prefixes) {
		t.Errorf("%d prefixes, UCUM has %d", len(standard.prefixes), len(e.Prefixes))
	}
	for _, p := range e.Prefixes {
		if want, ok := new(big.Rat).SetString(p.Value.Value); !ok || standard.prefixes[p.Code] == nil || standard.prefixes[p.Code].Cmp(want) != 0 {
			t.Errorf("prefix %s: %v, UCUM %s", p.Code, standard.prefixes[p.Code], p.Value.Value)
		}
	}
	listed := map[string]bool{}
	for _, b := range e.Bases {
		listed[b.Code] = true
		if d, ok := standard.units[b.Code]; !ok || d.unit.canonical(standard) != b.Code {
			t.Errorf("base unit %s", b.Code)
		}
	}
	var unknown []string
	checked := 0
	for _, u := range e.Units {
		listed[u.Code] = true
		d, ok := standard.units[u.Code]
		if !ok {
			unknown = append(unknown, u.Code)
			continue
		}
		if d.metric != (u.Metric == "yes") {
			t.Errorf("%s: metric %v, UCUM %s", u.Code, d.metric, u.Metric)
		}
		own := strings.Trim(d.unit.canonical(standard), "[]") == strings.Trim(u.Code, "[]")
		if u.Arbitrary == "yes" || u.Code == "mol" || u.Code == "[pH]" {
			if !own && u.Code != "[IU]" {
				t.Errorf("%s is no dimension of its own", u.Code)
			}
			continue
		}
		if d.unit.alone != (u.Special == "yes") {
			t.Errorf("%s: special %v, UCUM %q", u.Code, d.unit.alone, u.Special)
		}
		if d.unit.alone { // the formula has no machine-readable form; TestConvert has its figures
			if !Comparable(u.Code, u.Value.Function.Unit) {
				t.Errorf("%s is not comparable with %s", u.Code, u.Value.Function.Unit)
			}
			continue
		}
		of, ok := standard.parse(u.Value.Unit)
		if !ok {
			t.Logf("%s: UCUM defines it by %s, which we do not know", u.Code, u.Value.Unit)
			continue
		}
		value, ok := new(big.Rat).SetString(u.Value.Value)
		if !ok {
			t.Errorf("%s: value %q", u.Code, u.Value.Value)
			continue
		}
		want := of.scaled(value)
		if d.unit.dim != want.dim {
			t.Errorf("%s is %s, UCUM %s", u.Code, d.unit.canonical(standard), want.canonical(standard))
			continue
		}
		diff := new(big.Rat).Quo(d.unit.factor, want.factor)
		diff.Sub(diff, one).Abs(diff)
		if limit := measured[u.Code]; diff.Sign() != 0 && (limit == nil || diff.Cmp(limit) > 0) {
			t.Errorf("%s is %s of its base units, UCUM %s", u.Code, d.unit.factor.FloatString(12), want.factor.FloatString(12))
		}
		checked++
	}
	for code := range standard.units {
		if !listed[code] {
			t.Errorf("%s is no unit of UCUM", code)
		}
	}
	if checked < 150 {
		t.Errorf("only %d definitions compared", checked)
	}
	t.Logf("%d of %d units known, %d factors compared; unknown: %s", len(e.Units)-len(unknown), len(e.Units), checked, strings.Join(unknown, " "))
}
