package ucum

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"kiln/fhir"
)

// TestUnit_quick_is_the_long_way: two ways to the same number must not differ in the last bit.
func TestUnit_quick_is_the_long_way(t *testing.T) {
	t.Parallel()
	random, taken := rand.New(rand.NewPCG(1, 2)), 0
	for _, code := range append([]string{"10*12/uL", "[foz_us]", "m[Hg]", "K.5/9", "pm3", "Ym"}, common...) {
		u, ok := standard.lookup(code)
		if !ok {
			t.Fatal(code)
		}
		for range 200 {
			literal := fmt.Sprintf("%de%d", random.Int64()>>random.IntN(64)*(1-2*random.Int64N(2)), random.IntN(30)-15)
			d, ok := fhir.ParseDecimal(literal)
			if !ok {
				t.Fatal(literal)
			}
			got, ok := u.quick(d)
			if !ok {
				continue
			}
			taken++
			if want, _ := u.toBase(d.Rat()).Float64(); got != want {
				t.Errorf("%s %s: %v, exactly %v", literal, code, got, want)
			}
		}
	}
	if taken < 1000 {
		t.Errorf("only %d values went the quick way", taken)
	}
}
