package storage

import (
	"math"
	"math/big"
	"slices"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/path"
	"kiln/fhir/search"
	"kiln/fhir/ucum"
)

// canonicalQuantity is a quantity in UCUM base units, for comparison across units.
type canonicalQuantity struct {
	unit      int64
	low, high float64
}

const (
	negativeInfinity = "-Infinity"
	positiveInfinity = "Infinity"
)

// numberOf is number, once for all parameters that look at one element.
func (ix *Indexer) numberOf(row *indexRow, key uint32, e path.Element) (numberEntry, bool) {
	for _, q := range row.quantities {
		if q.value == e.Value {
			q.entry.param = int32(key)
			return q.entry, q.ok
		}
	}
	entry, ok := ix.number(key, e)
	if len(row.quantities) < maxQuantities {
		row.quantities = append(row.quantities, quantity{e.Value, entry, ok})
	}
	return entry, ok
}

// maxQuantities is how many numbers of a resource are remembered while its parameters are read.
const maxQuantities = 16

// number makes the entry of a number, Quantity (with its comparator), Money or Range.
func (ix *Indexer) number(key uint32, e path.Element) (numberEntry, bool) {
	n := e.Value
	entry := numberEntry{param: int32(key)}
	lowOpen, highOpen := false, false
	quantity := n
	switch {
	case n.Kind == fhir.Number:
		entry.low, entry.high = n.Text, n.Text
		return entry, true
	case e.Type.Name == "Range":
		low, high := n.Get("low"), n.Get("high")
		entry.low, entry.high = numberText(low, negativeInfinity), numberText(high, positiveInfinity)
		if quantity = low; quantity == nil {
			quantity = high
		}
	case e.Type.Name == "Money":
		entry.low = numberText(n, "")
		entry.high = entry.low
	default:
		v := numberText(n, "")
		entry.low, entry.high = v, v
		switch n.GetText("comparator") {
		case "<":
			entry.low, entry.high, highOpen = negativeInfinity, beside(v, -1), true
		case "<=":
			entry.low = negativeInfinity
		case ">":
			entry.low, entry.high, lowOpen = beside(v, 1), positiveInfinity, true
		case ">=":
			entry.high = positiveInfinity
		}
	}
	if quantity == nil || entry.low == "" || entry.high == "" || quantity.Kind != fhir.Object {
		return entry, false
	}
	if e.Type.Name == "Money" {
		if currency := n.GetText("currency"); currency != "" {
			entry.units = ix.unitTerms("urn:iso:std:iso:4217", currency, "")
		}
		return entry, true
	}
	system, code, unit := quantity.GetText("system"), quantity.GetText("code"), quantity.GetText("unit")
	entry.units = ix.unitTerms(system, code, unit)
	if entry.canonical = ix.canonical(system, code, entry.low, entry.high); entry.canonical != nil {
		if lowOpen {
			entry.canonical.low = math.Nextafter(entry.canonical.low, math.Inf(1))
		}
		if highOpen {
			entry.canonical.high = math.Nextafter(entry.canonical.high, math.Inf(-1))
		}
	}
	return entry, true
}

// beside is the number just above (1) or below (-1) v, for a bound that is not itself part of what it bounds: > 5 is
// more than 5.
func beside(v string, direction int64) string {
	d, ok := fhir.ParseDecimal(v)
	if !ok {
		return v
	}
	const digits = 20
	shift := new(big.Int).Exp(big.NewInt(10), big.NewInt(digits), nil)
	d.Unscaled = shift.Add(shift.Mul(shift, d.Unscaled), big.NewInt(direction))
	d.Exponent -= digits
	return d.String()
}

func numberText(quantity *fhir.Node, absent string) string {
	if v := quantity.Get("value"); v != nil && v.Kind == fhir.Number {
		return v.Text
	}
	return absent
}

// unitTerms are the ways to name a unit in a quantity search: system|code, system|, and |code, which also matches the
// unit's text (FHIR R4 search.html#quantity). The same hashes serve all parameters.
func (ix *Indexer) unitTerms(system, code, unit string) []int64 {
	var terms []int64
	if system != "" {
		terms = append(terms, ix.hash.Term(unitKey, termSystem, system, ""))
	}
	if code != "" {
		if system != "" {
			terms = append(terms, ix.hash.Term(unitKey, termSystemCode, system, code))
		}
		terms = append(terms, ix.hash.Term(unitKey, termCode, "", code))
	}
	if unit != "" && unit != code {
		terms = append(terms, ix.hash.Term(unitKey, termCode, "", unit))
	}
	return terms
}

const unitKey = 0x75756e74

// UCUM is the code system of units that quantities compare across.
const UCUM = "http://unitsofmeasure.org"

// canonical brings a quantity in UCUM units into base units; nil where that cannot be done.
func (ix *Indexer) canonical(system, code, low, high string) *canonicalQuantity {
	if system != UCUM || code == "" {
		return nil
	}
	q := &canonicalQuantity{low: math.Inf(-1), high: math.Inf(1)}
	var unit string
	for _, bound := range []struct {
		text string
		to   *float64
	}{{low, &q.low}, {high, &q.high}} {
		if bound.text == negativeInfinity || bound.text == positiveInfinity {
			continue
		}
		u, v, ok := ucum.Canonical(code, bound.text)
		if !ok {
			return nil
		}
		unit, *bound.to = u, v
	}
	q.unit = ix.hash.Term(unitKey, termNoSystem, "", unit)
	return q
}

// composite makes one entry for every combination of the components' values within one element.
func (ix *Indexer) composite(row *indexRow, p *paramPlan, env *path.Env, focus path.Element) error {
	entries := []compositeEntry{{param: int32(p.def.Key)}}
	var room [4]path.Element
	for i := range p.components {
		c := &p.components[i]
		values, err := c.expr.Append(room[:0], env, focus)
		if err != nil {
			return err
		}
		var next []compositeEntry
		for _, v := range values {
			if v.Value == nil || v.Type == nil {
				continue
			}
			for _, entry := range entries {
				if len(row.composites)+len(next) < maxTuples {
					next = ix.withComponent(next, row, entry, c, v)
				}
			}
		}
		if entries = next; len(entries) == 0 {
			return nil
		}
	}
	row.composites = append(row.composites, entries...)
	return nil
}

// maxTuples bounds the combinations that one resource can make of its composite parameters.
const maxTuples = 2000

// componentKey sets the terms of the i-th component apart from those of the others.
func componentKey(composite uint32, i int) uint32 { return composite*31 + uint32(i) + 1 }

// withComponent appends what becomes of an entry with a value of a component: nothing, where the component cannot be searched
// by it.
func (ix *Indexer) withComponent(dst []compositeEntry, row *indexRow, entry compositeEntry, c *componentPlan, v path.Element) []compositeEntry {
	before := len(entry.tokens)
	entry.tokens = append(make([]int64, 0, before+4), entry.tokens...)
	switch c.param.Type {
	case search.Token:
		entry.tokens = ix.tokenTerms(entry.tokens, c.key, c.codes, v)
		if len(entry.tokens) == before {
			return dst
		}
	case search.Reference, search.URI:
		var refs indexRow
		component := &paramPlan{def: &conformance.SearchParameter{Key: c.key, Type: c.param.Type}, salt: ix.hash.Salt(c.key)}
		ix.reference(&refs, component, v)
		entry.tokens = append(entry.tokens, refs.refs...)
		if len(refs.refs) == 0 {
			return dst
		}
	case search.Number, search.Quantity:
		n, ok := ix.numberOf(row, c.key, v)
		entry.tokens = append(entry.tokens, n.units...)
		entry.numbers = append(slices.Clip(entry.numbers), n)
		if !ok || len(entry.numbers) > 2 {
			return dst
		}
	case search.Date:
		low, high, ok := dateRange(v, ix.zone)
		entry.date = &dateEntry{low: low, high: high}
		if !ok {
			return dst
		}
	case search.String:
		eachString(v, func(s string) {
			one, folded := entry, foldIndexed(s)
			one.value = &folded
			dst = append(dst, one)
		})
		return dst
	default:
		return dst
	}
	return append(dst, entry)
}
