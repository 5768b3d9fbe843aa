package coverage

import (
	"math/big"

	"kiln/fhir"
)

// Facts are what the local rules want to know.
type Facts struct {
	// Plan is the plan of the coverage; nil where there is none on this server.
	Plan *Plan
	// Networks are those that a provider is in, as references to Organizations.
	Networks func(provider string) ([]string, error)
	// Used counts what the record shows for a benefit within dates. benefit has its codings.
	Used func(benefit *fhir.Node, key, from, to string) (Used, error)
}

// Assess answers a question about one coverage by the rules of its plan.
func Assess(q *Question, c *fhir.Node, f Facts) (a *Answer, err error) {
	from, to := periodOf(c.Get("period"))
	i := Insurance{Coverage: "Coverage/" + c.ID(), InForce: new(c.GetText("status") == "active"), From: from, To: to}
	a = &Answer{Outcome: Complete}
	if f.Plan == nil {
		a.Outcome, a.Disposition = Partial, "No plan of this coverage is known here: whether it is in force is only what it says itself"
		i.InForce = nil // anybody can write a Coverage
		a.Insurance = []Insurance{i}
		return a, nil
	}
	if !f.Plan.Active || !holds(f.Plan.From, f.Plan.To, q.From) {
		i.InForce = new(false)
		a.Disposition = "The plan " + f.Plan.Name + " is not offered on " + q.From
	} else {
		a.Disposition = "By the rules of the plan " + f.Plan.Name
		i.From, i.To = termOf("annual", q.From, from, to)
	}
	if *i.InForce {
		for _, wanted := range q.Items {
			x, err := f.item(q, wanted, a, from, to)
			if err != nil {
				return nil, err
			}
			i.Items = append(i.Items, x)
		}
	}
	a.Insurance = []Insurance{i}
	return a, nil
}

func (f *Facts) item(q *Question, wanted Item, a *Answer, from, to string) (x ItemAnswer, err error) {
	x.Item = wanted
	b := f.Plan.benefitFor(&wanted.Code)
	networks := f.Plan.Networks
	if b != nil {
		if x.Name = b.Name; len(b.Networks) > 0 {
			networks = b.Networks
		}
	}
	if len(networks) > 0 && wanted.Provider != "" {
		of, err := f.Networks(wanted.Provider)
		if err != nil {
			return x, err
		}
		if x.Network = "out"; overlap(networks, of) {
			x.Network = "in"
		}
		x.Description = f.Plan.costOf(&wanted.Code, x.Network == "out")
	}
	if b == nil {
		if x.Description == "" {
			x.Description = "The plan says nothing about this service"
		}
		return x, nil
	}
	x.Excluded, x.Authorization = b.Excluded, b.Authorization
	if b.Requirement != "" && (b.Authorization || b.Excluded) {
		x.Description = short(b.Requirement)
	}
	for _, limit := range b.Limits {
		first, last := termOf(limit.Term, q.From, from, to)
		used, err := f.Used(b.concept, b.Key, first, last)
		if err != nil {
			return x, err
		}
		benefit := Benefit{Type: "visit", Allowed: limit.Allowed, Used: Count(used.Recorded + used.Booked)}
		if limit.Allowed.Currency != "" {
			benefit.Type = "benefit"
			sum := used.Money[limit.Allowed.Currency]
			if sum == nil {
				sum = new(big.Rat)
			}
			benefit.Used = Amount{Value: sum, Currency: limit.Allowed.Currency}
		} else if len(q.Items) == 1 {
			a.Recorded, a.Since, a.Benefit = used.Recorded, first, b.Key
		}
		x.Benefits = append(x.Benefits, benefit)
	}
	return x, nil
}

func overlap(a, b []string) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y {
				return true
			}
		}
	}
	return false
}
