package coverage

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"kiln/fhir"
)

// What is taken of an answer from outside.
const (
	maxItems    = 50
	maxBenefits = 20
	maxText     = 1000
)

// ReadAnswer reads a CoverageEligibilityResponse; ok is false where it is none that can be understood. coverages are
// relative references that its insurances stand for, in order: a payer has ids of its own.
func ReadAnswer(n *fhir.Node, coverages ...string) (a *Answer, ok bool) {
	a = &Answer{Outcome: n.GetText("outcome"), Disposition: short(n.GetText("disposition")), PreAuthRef: short(n.GetText("preAuthRef"))}
	if n.ResourceType() != "CoverageEligibilityResponse" || !slices.Contains([]string{Complete, Partial, Queued, Failed}, a.Outcome) {
		return nil, false
	}
	index := 0
	for x := range n.Get("insurance").Items() {
		i := Insurance{Coverage: x.Get("coverage").GetText("reference")}
		if len(coverages) > 0 {
			if index >= len(coverages) {
				break
			}
			i.Coverage = coverages[index]
		}
		index++
		if v := x.Get("inforce"); v != nil {
			i.InForce = new(v.Text == "true")
		}
		i.From, i.To = periodOf(x.Get("benefitPeriod"))
		for y := range x.Get("item").Items() {
			if len(i.Items) >= maxItems {
				break
			}
			if item, ok := readItem(y); ok {
				i.Items = append(i.Items, item)
			}
		}
		a.Insurance = append(a.Insurance, i)
	}
	for e := range n.Get("error").Items() {
		if code := e.Get("code"); code != nil && len(a.Errors) < maxItems {
			a.Errors = append(a.Errors, plain(code))
		}
	}
	return a, true
}

func readItem(n *fhir.Node) (x ItemAnswer, ok bool) {
	category, service := n.Get("category"), n.Get("productOrService")
	if (category == nil) == (service == nil) { // ces-1
		return x, false
	}
	if category != nil {
		x.Code, x.Category = plain(category), true
	} else {
		x.Code = plain(service)
	}
	is := func(name string) bool { v := n.Get(name); return v != nil && v.Text == "true" }
	x.Excluded, x.Authorization = is("excluded"), is("authorizationRequired")
	x.Assertions = readAssertions(n)
	x.Name, x.Description = short(n.GetText("name")), short(n.GetText("description"))
	switch code := n.At("network", "coding", "code"); {
	case code != nil && (code.Text == "in" || code.Text == "out"):
		x.Network = code.Text
	}
	for b := range n.Get("benefit").Items() {
		if len(x.Benefits) >= maxBenefits {
			break
		}
		x.Benefits = append(x.Benefits, Benefit{own: new(plain(b.Get("type"))), Allowed: readAmount(b, "allowed"), Used: readAmount(b, "used")})
	}
	return x, true
}

func readAmount(n *fhir.Node, name string) (a Amount) {
	if v := n.Get(name + "UnsignedInt"); v != nil {
		if count, err := strconv.Atoi(v.Text); err == nil && count >= 0 {
			return Count(count)
		}
	}
	if v := n.Get(name + "Money"); v != nil {
		if d, ok := fhir.ParseDecimal(textOf(v.Get("value"))); ok && v.GetText("currency") != "" {
			return Amount{Value: d.Rat(), Currency: v.GetText("currency")}
		}
	}
	return a
}

// plain is a CodeableConcept without anything but its codings and text.
func plain(n *fhir.Node) fhir.Node {
	codings := fhir.Arr()
	for c := range n.Get("coding").Items() {
		coding := fhir.Obj()
		for _, name := range []string{"system", "code", "display"} {
			if text := short(c.GetText(name)); text != "" {
				coding.Set(name, fhir.Str(text))
			}
		}
		if len(coding.Kids) > 0 && len(codings.Kids) < maxBenefits {
			codings.Kids = append(codings.Kids, coding)
		}
	}
	out := fhir.Obj()
	if len(codings.Kids) > 0 {
		out.Set("coding", codings)
	}
	if text := short(n.GetText("text")); text != "" {
		out.Set("text", fhir.Str(text))
	}
	if len(out.Kids) == 0 {
		out.Set("text", fhir.Str("unnamed"))
	}
	return out
}

func textOf(n *fhir.Node) string {
	if n == nil {
		return ""
	}
	return n.Text
}

// short is a text from outside, cut to what is kept of one, without the characters that FHIR refuses.
func short(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' && c != '\r' && c != '\t' || c == '\uFFFE' || c == '\uFFFF' {
			return -1
		}
		return c
	}, s)
	if r := []rune(s); len(r) > maxText {
		s = string(r[:maxText])
	}
	return strings.TrimSpace(s)
}

// periodOf are the dates of a Period: those that its texts show, so that an end date without a time is inclusive.
func periodOf(p *fhir.Node) (from, to string) {
	return dayOf(p.GetText("start"), false), dayOf(p.GetText("end"), true)
}

// dayOf is the date that a text shows; of a month or a year the first or last day. "" where it is none.
func dayOf(text string, last bool) string {
	d, ok := fhir.ParseDateTime(text, time.UTC)
	switch {
	case !ok:
		return ""
	case len(text) >= len(time.DateOnly):
		return text[:len(time.DateOnly)]
	case last:
		return d.End().Add(-time.Second).Format(time.DateOnly)
	}
	return d.Time.Format(time.DateOnly)
}

// holds says whether a date lies in a period; both ends count.
func holds(from, to, date string) bool {
	return (from == "" || from <= date) && (to == "" || date <= to)
}
