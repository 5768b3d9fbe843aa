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
)

// Ask answers as the member ids say. SLOW- never answers.
func (Sandbox) Ask(ctx context.Context, q *Question) (*Answer, error) {
	a := &Answer{Outcome: Complete, Disposition: "Sandbox payer"}
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
		default:
			a.Outcome = Failed
			a.Errors = append(a.Errors, fhir.Obj(fhir.Str("The sandbox knows no such member: its ids begin with OK-, INACTIVE-, EXCLUDED-, EXHAUSTED-, AUTH- or SLOW-").As("text")))
			continue
		}
		if *i.InForce {
			for _, wanted := range q.Items {
				x := item
				x.Item = wanted
				i.Items = append(i.Items, x)
			}
		}
		a.Insurance = append(a.Insurance, i)
	}
	return a, nil
}
