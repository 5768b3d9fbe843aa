package resources

import (
	"context"
	"math/big"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/resources/coverage"
	"kiln/storage"
)

// localPayer answers by the InsurancePlans and the records of this server.
type localPayer struct{ *Service }

// Bounds of what the local rules look at.
const (
	maxPlans  = 100
	maxRoles  = 50
	maxRecord = 1000
)

// Ask answers a question about each of its coverages.
func (s localPayer) Ask(ctx context.Context, q *coverage.Question) (answer *coverage.Answer, err error) {
	err = s.store.Write(unattended(ctx), func(tx *storage.Tx) error {
		answer = &coverage.Answer{Outcome: coverage.Complete}
		for _, c := range q.Coverages {
			a, err := s.assess(unattended(ctx), tx, q, c)
			if err != nil {
				return err
			}
			a.Insurance = append(answer.Insurance, a.Insurance...)
			answer = a
		}
		return nil
	})
	if err == nil && len(q.Coverages) == 0 {
		answer.Disposition = "No coverage of the patient with this payer is known"
	}
	return answer, err
}

func (s localPayer) assess(ctx context.Context, tx *storage.Tx, q *coverage.Question, c *fhir.Node) (*coverage.Answer, error) {
	plan, err := s.planOf(ctx, tx, c)
	if err != nil {
		return nil, err
	}
	return coverage.Assess(q, c, coverage.Facts{
		Plan:     plan,
		Networks: func(provider string) ([]string, error) { return s.networksOf(ctx, tx, provider) },
		Used: func(benefit *fhir.Node, key, from, to string) (coverage.Used, error) {
			return s.usedOf(ctx, tx, c, benefit, key, from, to)
		},
	})
}

// list reads what criteria find.
func (s *Service) list(ctx context.Context, tx *storage.Tx, typ, criteria string, limit int) (list []*fhir.Node, err error) {
	keys, err := s.match(ctx, tx, typ, criteria, limit)
	if err != nil {
		return nil, err
	}
	sortKeys(keys)
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.Type + "/" + k.ID
	}
	found, err := s.readAll(ctx, tx, names...)
	for _, name := range names {
		if n := found[name]; n != nil {
			list = append(list, n)
		}
	}
	return list, err
}

// planOf is the plan of a coverage: that of its payor whose identifier the class plan of the coverage gives, or where it gives
// none the only one of the payor.
func (s localPayer) planOf(ctx context.Context, tx *storage.Tx, c *fhir.Node) (*coverage.Plan, error) {
	number := ""
	for class := range c.Get("class").Items() {
		for coding := range class.At("type", "coding").Items() {
			if coding.GetText("code") == "plan" && number == "" {
				number = class.GetText("value")
			}
		}
	}
	payor := s.payorOf(c)
	if payor == "" {
		return nil, nil
	}
	plans, err := s.list(ctx, tx, "InsurancePlan", "owned-by="+payor, maxPlans)
	if err != nil {
		return nil, err
	}
	for _, n := range plans {
		names := coverage.IdentifiedBy(n, number)
		for x := range n.Get("plan").Items() {
			names = names || coverage.IdentifiedBy(x, number)
		}
		if number != "" && names || number == "" && len(plans) == 1 {
			return coverage.ReadPlan(n, number), nil
		}
	}
	return nil, nil
}

// networkReference is how Da Vinci's Plan-Net names the networks of a PractitionerRole, for which R4 has no element.
const networkReference = "http://hl7.org/fhir/us/davinci-pdex-plan-net/StructureDefinition/network-reference"

// networksOf are the networks that a practitioner is in: those of the active PractitionerRoles, their organizations, and the
// networks that those are affiliated with.
func (s localPayer) networksOf(ctx context.Context, tx *storage.Tx, provider string) (list []string, err error) {
	roles, err := s.list(ctx, tx, "PractitionerRole", "practitioner="+provider, maxRoles)
	if err != nil {
		return nil, err
	}
	for _, role := range roles {
		if !s.isActive(role) {
			continue
		}
		for e := range role.Get("extension").Items() {
			if e.GetText("url") == networkReference {
				list = append(list, s.local(e.Get("valueReference")))
			}
		}
		practice := s.local(role.Get("organization"))
		if practice == "" {
			continue
		}
		list = append(list, practice)
		affiliations, err := s.list(ctx, tx, "OrganizationAffiliation", "participating-organization="+practice, maxRoles)
		if err != nil {
			return nil, err
		}
		for _, a := range affiliations {
			if !s.isActive(a) {
				continue
			}
			for network := range a.Get("network").Items() {
				list = append(list, s.local(network))
			}
		}
	}
	return list, nil
}

// isActive says whether a role or an affiliation holds today.
func (s *Service) isActive(n *fhir.Node) bool {
	if v := n.Get("active"); v != nil && v.Text == "false" {
		return false
	}
	now, period := s.now(), n.Get("period")
	if d, ok := fhir.ParseDateTime(period.GetText("start"), time.UTC); ok && d.Time.After(now) {
		return false
	}
	d, ok := fhir.ParseDateTime(period.GetText("end"), time.UTC)
	return !ok || d.End().After(now)
}

// usedOf counts what the record shows for a benefit: visits that are booked with the coverage, encounters without an
// appointment, and what ExplanationOfBenefits say was paid.
func (s localPayer) usedOf(ctx context.Context, tx *storage.Tx, c, benefit *fhir.Node, key, from, to string) (u coverage.Used, err error) {
	name := "Coverage/" + c.ID()
	if u.Booked, err = tx.CoverageUses(ctx, name, key, from, to, ""); err != nil {
		return u, err
	}
	patient := s.local(c.Get("beneficiary"))
	within := ""
	if from != "" {
		within += "&date=ge" + from
	}
	if to != "" {
		within += "&date=le" + to
	}
	encounters, err := s.list(ctx, tx, "Encounter", "patient="+patient+"&status=in-progress,onleave,finished"+within, maxRecord)
	if err != nil {
		return u, err
	}
	for _, e := range encounters {
		if e.Get("appointment") == nil && ofBenefit(benefit, e.Get("serviceType"), e.Get("type")) {
			u.Recorded++
		}
	}
	u.Money = map[string]*big.Rat{}
	paid, err := s.list(ctx, tx, "ExplanationOfBenefit", "status=active&patient="+patient+"&coverage="+name+strings.ReplaceAll(within, "&date=", "&created="), maxRecord)
	if err != nil {
		return u, err
	}
	for _, e := range paid {
		var codes []*fhir.Node
		for item := range e.Get("item").Items() {
			codes = append(codes, item.Get("productOrService"), item.Get("category"))
		}
		amount := e.At("payment", "amount")
		d, ok := fhir.ParseDecimal(literal(amount.Get("value")))
		currency := amount.GetText("currency")
		if !ok || currency == "" || !ofBenefit(benefit, codes...) {
			continue
		}
		if u.Money[currency] == nil {
			u.Money[currency] = new(big.Rat)
		}
		u.Money[currency].Add(u.Money[currency], d.Rat())
	}
	return u, nil
}

// ofBenefit says whether one of several CodeableConcepts, or lists of them, is what a benefit is for.
func ofBenefit(benefit *fhir.Node, concepts ...*fhir.Node) bool {
	for _, list := range concepts {
		for c := range list.Items() {
			if coverage.Shares(benefit, c) {
				return true
			}
		}
	}
	return false
}
