package resources

import (
	"fmt"
	"testing"

	"kiln/fhir"
)

// BenchmarkTransaction loads transactions of several sizes; resources/s is the figure to look at.
func BenchmarkTransaction(b *testing.B) {
	s := newService(b)
	for _, size := range []int{1, 10, 50, 300} {
		text := largeBundle(size, 120)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			for b.Loop() {
				body, err := fhir.ParseJSON(text)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Do(b.Context(), Request{Interaction: Transaction, Body: body}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "resources/s")
		})
	}
}
