package profile

import (
	"math/big"
	"strings"

	"kiln/fhir"
)

// matches says whether a value holds all that a pattern has (FHIR R4 elementdefinition-definitions.html, pattern[x]).
func (r *run) matches(value, pattern *fhir.Node) bool {
	if !r.step() || value == nil || value.Kind != pattern.Kind {
		return false
	}
	switch pattern.Kind {
	case fhir.Object:
		for i := range pattern.Kids {
			if !r.matches(value.Get(pattern.Kids[i].Name), &pattern.Kids[i]) {
				return false
			}
		}
		return true
	case fhir.Array:
		for i := range pattern.Kids {
			found := false
			for k := range value.Kids {
				if found = r.matches(&value.Kids[k], &pattern.Kids[i]); found {
					break
				}
			}
			if !found {
				return false
			}
		}
		return true
	case fhir.Number:
		c, ok := compare(value, pattern)
		return ok && c == 0
	}
	return value.Text == pattern.Text
}

// compare orders two numbers, quantities, dates or times; ok is false where they have no order.
func compare(a, b *fhir.Node) (order int, ok bool) {
	if a.Kind == fhir.Object {
		if a, b = a.Get("value"), b.Get("value"); a == nil || b == nil {
			return 0, false
		}
	}
	if a.Kind == fhir.Number && b.Kind == fhir.Number {
		x, ok1 := number(a.Text)
		y, ok2 := number(b.Text)
		if !ok1 || !ok2 {
			return 0, false
		}
		return x.Cmp(y), true
	}
	if a.Kind != fhir.String || b.Kind != fhir.String {
		return 0, false
	}
	x, ok1 := fhir.ParseDateTime(a.Text, nil)
	y, ok2 := fhir.ParseDateTime(b.Text, nil)
	if ok1 && ok2 {
		return x.Time.Compare(y.Time), true
	}
	return strings.Compare(a.Text, b.Text), true
}

func number(text string) (*big.Rat, bool) {
	d, ok := fhir.ParseDecimal(text)
	if !ok {
		return nil, false
	}
	return d.Rat(), true
}

// show writes a fixed or pattern value for a message.
func show(n *fhir.Node) string {
	const longest = 200
	text := quote(n.Text)
	if n.Kind == fhir.Object || n.Kind == fhir.Array {
		c := *n
		c.Name = ""
		text = string(c.JSON())
	}
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}
