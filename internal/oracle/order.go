package oracle

import (
	"cmp"
	"math/big"
	"slices"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/fhir/path"
	"kiln/fhir/search"
)

// Compare says which of two resources the order of a query puts first: below zero for a, above for b, zero where it
// does not tell them apart. Resources without a value come last, both ways (search.html#sort is silent; the house rule).
func (o *Oracle) Compare(q *search.Query, a, b *fhir.Node) int {
	for _, k := range q.Sort {
		x, y := o.best(k, a), o.best(k, b)
		switch {
		case x == nil && y == nil:
			continue
		case x == nil:
			return 1
		case y == nil:
			return -1
		}
		c := x.compare(y)
		if k.Descending {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// key is one value to sort by.
type key struct {
	text   string
	time   time.Time
	number *big.Rat // nil: less than any
	above  bool     // just above number
}

func (k *key) compare(l *key) int {
	switch {
	case k.number == nil && l.number != nil:
		return -1
	case k.number != nil && l.number == nil:
		return 1
	case k.number != nil:
		if c := k.number.Cmp(l.number); c != 0 || k.above == l.above {
			return c
		}
		if k.above {
			return 1
		}
		return -1
	}
	return cmp.Or(k.time.Compare(l.time), strings.Compare(k.text, l.text))
}

// best is the value that comes first in the direction of the sort, where there are several (search.html#sort). Choice: a
// parameter that asks for a type (patient: resolve() is Patient) sorts by the references that name it. A local one (#a) names
// none, and is as if it were missing.
func (o *Oracle) best(s search.Sort, n *fhir.Node) *key {
	var keys []*key
	def := o.registry.SearchParameter(n.ResourceType(), s.Param.Code)
	typed := def != nil && strings.Contains(def.Expression, "resolve() is ")
	for _, v := range o.Values(n, s.Param.Code) {
		if typed && strings.HasPrefix(referenceText(v), "#") {
			continue
		}
		if s.From != nil {
			keys = append(keys, away(v, s.From)...)
			continue
		}
		keys = append(keys, o.keys(s.Param, v)...)
	}
	if len(keys) == 0 {
		return nil
	}
	if s.Descending {
		return slices.MaxFunc(keys, (*key).compare)
	}
	return slices.MinFunc(keys, (*key).compare)
}

// keys are the values to sort by that one value of a parameter gives. Choice: dates and numbers sort by where they
// begin; tokens by the code, references by their text, both with regard to case.
func (o *Oracle) keys(param search.Param, v path.Element) (list []*key) {
	switch param.Kind {
	case search.Date:
		if p, ok := o.period(v); ok {
			list = append(list, &key{time: p.begin})
		}
	case search.Number, search.Quantity:
		if m, ok := measureOf(v); ok {
			list = append(list, &key{number: m.low, above: m.lowOpen})
		}
	case search.String:
		for _, s := range texts(v) {
			list = append(list, &key{text: plain(s)})
		}
	case search.Token:
		for _, c := range o.codings(v) {
			if c.code != "" {
				list = append(list, &key{text: c.code})
			}
		}
	default:
		if s := referenceText(v); s != "" {
			list = append(list, &key{text: s})
		}
	}
	return list
}
