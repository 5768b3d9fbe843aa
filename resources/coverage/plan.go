package coverage

import (
	"math/big"
	"strings"

	"kiln/fhir"
)

// Plan is an InsurancePlan as the local rules read it.
type Plan struct {
	Name string
	// From and To bound its period.
	From, To string
	Active   bool
	// Networks are the Organizations that are its networks, as references; without any, everybody is in.
	Networks []string
	Benefits []PlanBenefit
	costs    []cost
}

// PlanBenefit is a kind of service that a plan says something about.
type PlanBenefit struct {
	// Key names it: its codings as one text.
	Key  string
	Name string
	// type is a CodeableConcept.
	concept  *fhir.Node
	Networks []string
	Limits   []Limit
	// Excluded and Authorization are of the extension benefit-rule.
	Excluded, Authorization bool
	Requirement             string
}

// Limit is how much of a benefit a plan allows.
type Limit struct {
	Allowed Amount
	// Term is annual, lifetime or day.
	Term string
}

// cost is what stays with the patient.
type cost struct {
	benefit *fhir.Node
	outside bool
	text    string
}

// ReadPlan reads an InsurancePlan. number is the plan that the coverage names, or "".
func ReadPlan(n *fhir.Node, number string) *Plan {
	p := &Plan{Name: n.GetText("name"), Active: n.GetText("status") == "" || n.GetText("status") == "active"}
	p.From, p.To = periodOf(n.Get("period"))
	p.Networks = references(n.Get("network"))
	for c := range n.Get("coverage").Items() {
		own := references(c.Get("network"))
		for b := range c.Get("benefit").Items() {
			benefit := PlanBenefit{concept: b.Get("type"), Key: Keys(b.Get("type")), Name: b.Get("type").GetText("text"), Networks: own, Requirement: b.GetText("requirement")}
			if benefit.Name == "" {
				benefit.Name = textOf(b.Get("type").At("coding", "display"))
			}
			for part := range extension(b, ExtensionBenefitRule).Get("extension").Items() {
				yes := part.Get("valueBoolean") != nil && part.Get("valueBoolean").Text == "true"
				switch part.GetText("url") {
				case "excluded":
					benefit.Excluded = yes
				case "authorization-required":
					benefit.Authorization = yes
				}
			}
			for l := range b.Get("limit").Items() {
				if limit, ok := readLimit(l); ok {
					benefit.Limits = append(benefit.Limits, limit)
				}
			}
			p.Benefits = append(p.Benefits, benefit)
		}
	}
	for x := range n.Get("plan").Items() {
		if number != "" && x.Get("identifier") != nil && !IdentifiedBy(x, number) {
			continue
		}
		p.Networks = append(p.Networks, references(x.Get("network"))...)
		p.readCosts(x)
	}
	return p
}

// IdentifiedBy says whether a resource or a plan of one has an identifier with a value.
func IdentifiedBy(n *fhir.Node, value string) bool {
	for id := range n.Get("identifier").Items() {
		if id.GetText("value") == value {
			return true
		}
	}
	return false
}

func references(n *fhir.Node) (list []string) {
	for r := range n.Items() {
		if to := r.GetText("reference"); to != "" {
			list = append(list, to)
		}
	}
	return list
}

// readLimit reads a number of visits, or money: a Quantity whose code is a currency of ISO 4217.
func readLimit(n *fhir.Node) (l Limit, ok bool) {
	v := n.Get("value")
	d, ok := fhir.ParseDecimal(textOf(v.Get("value")))
	if !ok {
		return l, false
	}
	l.Allowed.Value = d.Rat()
	code := v.GetText("code")
	if code == "" {
		code = v.GetText("unit")
	}
	if v.GetText("system") == "urn:iso:std:iso:4217" || len(code) == 3 && code == strings.ToUpper(code) {
		l.Allowed.Currency = code
	} else if !l.Allowed.Value.IsInt() || l.Allowed.Value.Sign() < 0 {
		return l, false
	}
	l.Term = "annual"
	for c := range n.At("code", "coding").Items() {
		switch term := c.GetText("code"); term {
		case "annual", "lifetime", "day":
			l.Term = term
		}
	}
	return l, true
}

func (p *Plan) readCosts(plan *fhir.Node) {
	for s := range plan.Get("specificCost").Items() {
		for b := range s.Get("benefit").Items() {
			for c := range b.Get("cost").Items() {
				where := textOf(c.At("applicability", "coding", "code"))
				value := textOf(c.At("value", "value"))
				if value == "" {
					continue
				}
				unit := c.Get("value").GetText("unit")
				if unit == "" {
					unit = c.Get("value").GetText("code")
				}
				name := c.Get("type").GetText("text")
				if name == "" {
					name = textOf(c.At("type", "coding", "code"))
				}
				p.costs = append(p.costs, cost{b.Get("type"), where == "out-of-network", strings.TrimSpace(name + " " + value + " " + unit)})
			}
		}
	}
}

// benefitFor is what a plan says about a service, nil for nothing: they share a coding.
func (p *Plan) benefitFor(code *fhir.Node) *PlanBenefit {
	for i := range p.Benefits {
		if shareCoding(p.Benefits[i].concept, code) {
			return &p.Benefits[i]
		}
	}
	return nil
}

// costOf is what of a service stays with the patient, for people; "" where the plan does not say.
func (p *Plan) costOf(code *fhir.Node, outside bool) string {
	for _, c := range p.costs {
		if c.outside == outside && shareCoding(c.benefit, code) {
			return c.text
		}
	}
	return ""
}

func shareCoding(a, b *fhir.Node) bool {
	for x := range a.Get("coding").Items() {
		for y := range b.Get("coding").Items() {
			if x.GetText("code") != "" && x.GetText("code") == y.GetText("code") && x.GetText("system") == y.GetText("system") {
				return true
			}
		}
	}
	return false
}

// Shares says whether two CodeableConcepts have a coding in common.
func Shares(a, b *fhir.Node) bool { return shareCoding(a, b) }

// termOf are the first and last date in which a limit counts, for a visit on a date: the calendar year, the day, or as long as
// the coverage holds.
func termOf(term, date, from, to string) (string, string) {
	switch {
	case term == "day":
		return date, date
	case term == "annual" && len(date) >= 4:
		first, last := date[:4]+"-01-01", date[:4]+"-12-31"
		if from > first {
			first = from
		}
		if to != "" && to < last {
			last = to
		}
		return first, last
	}
	return from, to
}

// Used is how much of a benefit the record shows.
type Used struct {
	// Recorded are visits that were not booked here, Booked those that were, or are to come.
	Recorded, Booked int
	Money            map[string]*big.Rat
}
