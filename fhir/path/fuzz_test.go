package path_test

import (
	"syscall"
	"testing"
	"time"

	fhirpath "kiln/fhir/path"
)

// FuzzExpression compiles and evaluates whatever comes. It must end, within its bounds, without a panic.
func FuzzExpression(f *testing.F) {
	for _, seed := range []string{
		"Observation.code", "(Observation.value as Quantity)", "Observation.subject.where(resolve() is Patient)",
		"value.empty() or component.code.where(coding.intersect(%resource.code.coding).exists()).empty()",
		"descendants().where($this is Quantity).select(value * 2.5 / 3)", "@2014-01-01T08:05+08:00.lowBoundary(17) + 1 'd'",
		"1.587 'cm'.highBoundary(8) ~ 1 '[in_i]'", "'a\\u0062c'.replaceMatches('(b)', '$1$1').encode('hex')",
		"(3 | 1 | 2).sort(-$this).aggregate(iif($total.empty(), $this, $total + $this))", "%`vs-x` & %ext-y.toQuantity('kg')",
		"repeat(children()).isDistinct() /* c */ // d", "name.given[0].substring($this.length()-3).toChars().join('-')",
		"2.power(0.5).round(3) mod 1.1 div {} in (1|2)", "true xor false implies 1 !~ 2.0 and @T10:30 <= @T10:30:00.000",
		"'1 day'.toQuantity().type().name.unescape('json').split('')", "10.ln().exp().log(3).sqrt().precision()",
	} {
		f.Add(seed)
	}
	schema := registrySchema(f)
	roots := []fhirpath.Element{fhirpath.Root(parse(f, observation), schema), fhirpath.Root(parse(f, patient), schema)}
	f.Fuzz(func(t *testing.T, src string) {
		x, err := fhirpath.Compile(src, schema)
		if err != nil {
			return
		}
		x.Check(nil)
		for _, root := range roots {
			x.Check(root.Type)
			start := processorTime(t)
			items, err := x.Eval(&fhirpath.Env{MaxSteps: 20_000}, root)
			if d := processorTime(t) - start; d > 3*time.Second {
				t.Errorf("%q took %v", src, d)
			}
			if err != nil {
				continue
			}
			for i, e := range items {
				if i < 5 {
					_, _, _ = e.Text(), e.Path(), e.TypeName()
				}
			}
		}
	})
}

// processorTime is what the process has used so far: what other processes take makes it no longer.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
