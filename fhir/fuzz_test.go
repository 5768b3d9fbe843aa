package fhir_test

import (
	"testing"
	"time"

	"kiln/fhir"
)

// FuzzParseDateTime: what is a date has an end behind its beginning, and is the same wherever its own offset says where.
func FuzzParseDateTime(f *testing.F) {
	for _, seed := range []string{"2020", "2020-02", "2020-02-29", "2020-02-29T23:59:60Z", "2020-02-29T10:00+14:00", "2020-02-29T10:00:00.123456789-12:00", "0001", "9999-12-31T23:59:59Z", "0000", "2020-02-30", "2020-1-1", "T", ""} {
		f.Add(seed)
	}
	oslo, err := time.LoadLocation("Europe/Oslo")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := fhir.ParseDateTime(s, time.UTC)
		o, okThere := fhir.ParseDateTime(s, oslo)
		if ok != okThere {
			t.Fatalf("%q is a date in one zone alone", s)
		}
		if !ok {
			return
		}
		if !d.End().After(d.Time) || !o.End().After(o.Time) {
			t.Fatalf("%q ends at %v and begins at %v", s, d.End(), d.Time)
		}
		if diff := d.Time.Sub(o.Time).Abs(); diff > 15*time.Hour {
			t.Fatalf("%q is %v apart", s, diff)
		}
	})
}

// FuzzParseDecimal: what is a number lies within its own implied range, and is written so that it is read the same.
func FuzzParseDecimal(f *testing.F) {
	for _, seed := range []string{"0", "-0", "1.10", "1e2", "-1.5E-3", "100", "1e400", "1e-400", "00", "1.", ".5", "+1", "", "NaN", "0x1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := fhir.ParseDecimal(s)
		if !ok {
			return
		}
		low, high := d.ImpliedRange()
		if low.Rat().Cmp(d.Rat()) > 0 || high.Rat().Cmp(d.Rat()) < 0 {
			t.Fatalf("%q lies outside of %s … %s", s, low, high)
		}
		if len(d.String()) > fhir.MaxNumberLength {
			return // 1e400 written out
		}
		again, ok := fhir.ParseDecimal(d.String())
		if !ok || again.Rat().Cmp(d.Rat()) != 0 {
			t.Fatalf("%q is written %s and read %v", s, d, again)
		}
	})
}
