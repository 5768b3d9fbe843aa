package storage

import (
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/cases"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/path"
	"kiln/fhir/search"
	"kiln/storage/fold"
)

// value adds the terms of one value of a parameter. A value of a type that the parameter's kind cannot search is
// passed over, as FHIR R4 search.html asks for choice elements.
func (ix *Indexer) value(row *indexRow, p *paramPlan, e path.Element) {
	key := p.def.Key
	if e.IsSystem() { // computed, such as Patient.deceased.exists()
		if p.def.Type == search.Token {
			row.tokens = ix.codeTerms(row.tokens, key, "", e.Text())
		}
		return
	}
	if e.Value == nil || e.Type == nil {
		return
	}
	switch p.def.Type {
	case search.Token:
		into := &row.tokens
		if p.rare {
			into = &row.refs
		}
		*into = ix.tokenTerms(*into, key, p.codes, e)
		if p.mainCode {
			row.codes = ix.mainCodes(row.codes, key, e)
		}
		ix.displays(row, p, e)
	case search.Reference:
		ix.reference(row, p, e)
	case search.URI:
		if e.Value.Kind == fhir.String {
			ix.uri(row, p, e.Value.Text)
		}
	case search.String:
		eachString(e, func(s string) {
			row.refs = append(row.refs, ix.hash.Term(key, termExact, s, ""))
			row.stringParams = append(row.stringParams, int32(key))
			row.stringValues = append(row.stringValues, foldIndexed(s))
		})
	case search.Date:
		low, high, ok := dateRange(e, ix.zone)
		switch {
		case !ok:
		case p.mainDate:
			row.dateLow, row.dateHigh = low, high
		default:
			row.dates = append(row.dates, dateEntry{int32(key), low, high})
		}
	case search.Number, search.Quantity:
		if n, ok := ix.numberOf(row, key, e); ok {
			row.numbers = append(row.numbers, n)
		}
	}
}

// tokenTerms appends the hashes under which a coded value is found.
func (ix *Indexer) tokenTerms(dst []int64, key uint32, codes *conformance.CodeSet, e path.Element) []int64 {
	n := e.Value
	switch e.Type.Name {
	case "CodeableConcept":
		for c := range n.Get("coding").Items() {
			dst = ix.codeTerms(dst, key, c.GetText("system"), c.GetText("code"))
		}
	case "Coding":
		dst = ix.codeTerms(dst, key, n.GetText("system"), n.GetText("code"))
	case "Identifier":
		system, value := n.GetText("system"), n.GetText("value")
		dst = ix.codeTerms(dst, key, system, value)
		for c := range n.At("type").Get("coding").Items() {
			if value != "" {
				dst = append(dst, ix.ofTypeTerm(key, c.GetText("system"), c.GetText("code"), value))
			}
		}
	case "ContactPoint":
		dst = ix.codeTerms(dst, key, n.GetText("system"), n.GetText("value"))
	default:
		switch n.Kind {
		case fhir.Bool, fhir.Number:
			dst = ix.codeTerms(dst, key, "", n.Text)
		case fhir.String:
			system := ""
			if codes != nil {
				system = codes.System(n.Text)
			}
			dst = ix.codeTerms(dst, key, system, n.Text)
		}
	}
	return dst
}

// mainCodes appends the terms of the codings with a code: each is one that askedTerms gives for system|code or |code.
func (ix *Indexer) mainCodes(dst []int64, key uint32, e path.Element) []int64 {
	if e.Type.Name != "CodeableConcept" {
		return dst
	}
	for c := range e.Value.Get("coding").Items() {
		if code := c.GetText("code"); code != "" {
			dst = ix.askedTerms(dst, key, search.Value{HasSystem: true, System: c.GetText("system"), Code: code})
		}
	}
	return dst
}

func (ix *Indexer) ofTypeTerm(key uint32, system, code, value string) int64 {
	return ix.hash.Term(key, termOfType, system+"\x00"+code, FoldCode(value))
}

// codeTerms appends the forms in which one code can be asked for: code, system|code, |code and system|.
func (ix *Indexer) codeTerms(dst []int64, key uint32, system, code string) []int64 {
	if code == "" && system == "" {
		return dst
	}
	if system != "" {
		dst = append(dst, ix.hash.Term(key, termSystem, system, ""))
	}
	if code == "" {
		return dst
	}
	folded := ix.caseOf(system, code)
	dst = append(dst, ix.hash.Term(key, termCode, "", folded))
	if system == "" {
		return append(dst, ix.hash.Term(key, termNoSystem, "", folded))
	}
	return append(dst, ix.hash.Term(key, termSystemCode, system, folded))
}

// caseMark begins a code that keeps its case; no string of a resource or a query has U+0000.
const caseMark = "\x00"

// caseOf folds a code unless its code system says that case matters.
func (ix *Indexer) caseOf(system, code string) string {
	if sensitive, known := ix.registry.CaseSensitive(system); known && sensitive {
		return caseMark + code
	}
	return FoldCode(code)
}

// FoldCode is the case-insensitive form of a code.
func FoldCode(code string) string {
	for i := 0; i < len(code); i++ {
		if code[i] >= utf8.RuneSelf {
			return cases.Fold().String(code)
		}
	}
	return strings.ToLower(code)
}

func (ix *Indexer) uri(row *indexRow, p *paramPlan, s string) {
	key := p.def.Key
	row.refs = append(row.refs, ix.hash.Term(key, termURI, s, ""))
	row.stringParams = append(row.stringParams, int32(key))
	row.stringValues = append(row.stringValues, fold.Cut(s, MaxStringIndexed))
}

func (ix *Indexer) reference(row *indexRow, p *paramPlan, e path.Element) {
	key, n := p.def.Key, e.Value
	if e.Type.Name != "Reference" { // uri, url, canonical, or a resource inside a Bundle
		if typ := n.ResourceType(); typ != "" && n.ID() != "" {
			row.refs = append(row.refs, ix.hash.Resource(typ, n.ID())^p.salt)
		}
		if n.Kind != fhir.String {
			return
		}
		row.refs = append(row.refs, ix.hash.Term(key, termURI, n.Text, ""), ix.canonicalTerm(n.Text)^p.salt)
		if url, _, found := strings.Cut(n.Text, "|"); found {
			row.refs = append(row.refs, ix.hash.Term(key, termURI, url, ""))
		}
		if ref, ok := ix.parseReference(n.Text); ok && ref.Type != "" && ref.Base == "" {
			row.refs = append(row.refs, ix.hash.Resource(ref.Type, ref.ID)^p.salt)
		}
		row.stringParams = append(row.stringParams, int32(key))
		row.stringValues = append(row.stringValues, fold.Cut(n.Text, MaxStringIndexed))
		return
	}
	if id := n.Get("identifier"); id != nil {
		row.refs = ix.codeTerms(row.refs, key^identifierKey, id.GetText("system"), id.GetText("value"))
	}
	text := n.GetText("reference")
	if text == "" {
		return
	}
	ref, ok := ix.parseReference(text)
	switch {
	case !ok:
	case ref.Fragment != "" || ref.Container:
		if t, here := row.frame.target(ref); here {
			row.refs = append(row.refs, t.rk^p.salt)
			if p.patient && t.typ == "Patient" {
				row.patient = &t.rk
			}
		}
	case ref.Type != "" && ref.Base == "":
		rk := ix.hash.Resource(ref.Type, ref.ID)
		row.refs = append(row.refs, rk^p.salt)
		if p.lists && isFrequentTarget(ref.Type) {
			row.listed = append(row.listed, rk^p.salt)
		}
		if ref.Version != "" {
			row.refs = append(row.refs, ix.hash.Term(key, termVersion, ref.Type+"/"+ref.ID+"/_history/"+ref.Version, ""))
		}
		if p.patient && ref.Type == "Patient" {
			row.patient = &rk
		}
		if p.member && ref.Type == "Patient" {
			row.compartments = append(row.compartments, rk)
		}
		if p.worker && ref.Type == "Practitioner" {
			row.practitioners = append(row.practitioners, rk)
		}
		if p.links {
			row.links = append(row.links, link{p.def.Code, ref.Type, rk})
		}
	default:
		row.refs = append(row.refs, ix.hash.Term(key, termURI, text, ""))
	}
}

// identifierKey sets the terms of Reference.identifier apart from those of the reference itself.
const identifierKey = 0x1d1d1d1d

// parseReference takes a reference apart; one below our own base URL counts as relative.
func (ix *Indexer) parseReference(text string) (fhir.Reference, bool) {
	ref, ok := fhir.ParseReference(text, ix.isResource)
	if ref.Base != "" && ref.Base == ix.base {
		ref.Base = ""
	}
	return ref, ok
}

// eachString yields the parts of a value that a string parameter looks at (FHIR R4 search.html#string).
func eachString(e path.Element, yield func(string)) {
	n := e.Value
	var parts []string
	switch e.Type.Name {
	case "HumanName":
		parts = []string{"text", "family", "given", "prefix", "suffix"}
	case "Address":
		parts = []string{"text", "line", "city", "district", "state", "postalCode", "country"}
	default:
		if n.Kind == fhir.String && n.Text != "" {
			yield(n.Text)
		}
		return
	}
	for _, part := range parts {
		for s := range n.Get(part).Items() {
			if s.Kind == fhir.String && s.Text != "" {
				yield(s.Text)
			}
		}
	}
}

// dateRange is the half-open range of a date, dateTime, instant, Period or Timing. Of a Timing only the outer limits
// count (FHIR R4 search.html#date).
func dateRange(e path.Element, zone *time.Location) (low, high time.Time, ok bool) {
	n := e.Value
	switch e.Type.Name {
	case "Period":
		return periodRange(n, zone)
	case "Timing":
		for event := range n.Get("event").Items() {
			if d, good := fhir.ParseDateTime(event.Text, zone); good {
				low, high, ok = hull(low, high, ok, d.Time, d.End())
			}
		}
		if bounds := n.At("repeat", "boundsPeriod"); bounds != nil {
			if l, h, good := periodRange(bounds, zone); good {
				low, high, ok = hull(low, high, ok, l, h)
			}
		}
		return low, high, ok
	default:
		if n.Kind != fhir.String {
			return low, high, false
		}
		d, good := fhir.ParseDateTime(n.Text, zone)
		if e.Type.Name == "instant" { // a point in time, of the width that PostgreSQL can tell
			return d.Time, d.Time.Add(time.Microsecond), good
		}
		return d.Time, d.End(), good
	}
}

func periodRange(n *fhir.Node, zone *time.Location) (low, high time.Time, ok bool) {
	low, high = openStart, endOfTime
	if d, good := fhir.ParseDateTime(n.GetText("start"), zone); good {
		low, ok = d.Time, true
	}
	if d, good := fhir.ParseDateTime(n.GetText("end"), zone); good {
		high, ok = d.End(), true
	}
	return low, high, ok && low.Before(high)
}

func hull(low, high time.Time, have bool, l, h time.Time) (time.Time, time.Time, bool) {
	if !have {
		return l, h, true
	}
	if l.Before(low) {
		low = l
	}
	if h.After(high) {
		high = h
	}
	return low, high, true
}
