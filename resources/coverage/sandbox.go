package coverage

import (
	"context"
	"fmt"
	"strings"

	"kiln/fhir"
)

// Sandbox is a payer that ships: it answers by how the member id begins, so that each answer can be had for a try.
type Sandbox struct{}

// The beginnings of member ids that the sandbox knows.
const (
	SandboxOK        = "OK-"
	SandboxInactive  = "INACTIVE-"
	SandboxExcluded  = "EXCLUDED-"
	SandboxExhausted = "EXHAUSTED-"
	SandboxAuth      = "AUTH-"
	SandboxSlow      = "SLOW-"
	SandboxHook      = "CRD-"
)

// sandboxAssertions is what a CDS service would say, by what follows CRD- in a member id: coverage-information of Da Vinci CRD.
var sandboxAssertions = map[string]Assertion{
	SandboxOK:       {Covered: assertCovered, Authorization: "no-auth"},
	SandboxExcluded: {Covered: assertNotCovered, Note: "not a benefit of this plan"},
	"CONDITIONAL-":  {Covered: assertConditional, Authorization: assertConditional, Note: "it depends on the diagnosis"},
	SandboxAuth:     {Covered: assertCovered, Authorization: authNeeded},
	"SATISFIED-":    {Covered: assertCovered, Authorization: authSatisfied, PreAuthRef: "sandbox-authorization"},
	"NETWORK-":      {Covered: assertCovered, Authorization: "no-auth", Reasons: []string{reasonOutOfNetwork}},
}

// Ask answers as the member ids say. SLOW- never answers.
func (Sandbox) Ask(ctx context.Context, q *Question) (*Answer, error) {
	a := &Answer{Outcome: Complete, Disposition: "Sandbox payer"}
	items := q.Items
	if len(items) == 0 {
		items = []Item{anyService()}
	}
	for _, c := range q.Coverages {
		id := strings.ToUpper(MemberID(c))
		if strings.HasPrefix(id, SandboxSlow) {
			<-ctx.Done()
			return nil, fmt.Errorf("%w: %w", ErrNoAnswer, ctx.Err())
		}
		i := Insurance{Coverage: "Coverage/" + c.ID(), InForce: new(true)}
		if len(q.From) >= 4 {
			i.From, i.To = q.From[:4]+"-01-01", q.From[:4]+"-12-31"
		}
		item := ItemAnswer{Network: "in", Benefits: []Benefit{{Type: "visit", Allowed: Count(20), Used: Count(3)}}}
		switch {
		case strings.HasPrefix(id, SandboxOK):
		case strings.HasPrefix(id, SandboxInactive):
			i.InForce = new(false)
		case strings.HasPrefix(id, SandboxExcluded):
			item = ItemAnswer{Excluded: true, Description: "not a benefit of this plan"}
		case strings.HasPrefix(id, SandboxExhausted):
			item.Benefits[0].Used = item.Benefits[0].Allowed
		case strings.HasPrefix(id, SandboxAuth):
			item.Authorization = true
		case sandboxAssertion(id) != nil: // as a payer that has nothing but a CDS service
			x := *sandboxAssertion(id)
			x.Coverage, x.ID = i.Coverage, "sandbox-"+q.Request.ID()
			i.InForce = nil
			i.hear(q, []Assertion{x})
			a.PreAuthRef = satisfied([]Assertion{x})
			a.Insurance = append(a.Insurance, i)
			continue
		default:
			a.Outcome = Failed
			a.Errors = append(a.Errors, fhir.Obj(fhir.Str("The sandbox knows no such member: its ids begin with OK-, INACTIVE-, EXCLUDED-, EXHAUSTED-, AUTH-, SLOW- or CRD-").As("text")))
			continue
		}
		if *i.InForce {
			for _, wanted := range items {
				x := item
				x.Item = wanted
				i.Items = append(i.Items, x)
			}
		}
		a.Insurance = append(a.Insurance, i)
	}
	return a, nil
}

// sandboxAssertion is what the sandbox asserts of a member, or nil.
func sandboxAssertion(id string) *Assertion {
	if kind, ok := strings.CutPrefix(id, SandboxHook); ok {
		for prefix, x := range sandboxAssertions {
			if strings.HasPrefix(kind, prefix) {
				return &x
			}
		}
	}
	return nil
}
