package load

import (
	"context"
	"strings"

	"kiln/fhir"
)

// clinicMembers are how the member ids of the sandbox payer begin, one for each kind of answer.
var clinicMembers = []string{"OK-", "OK-", "OK-", "AUTH-", "INACTIVE-", "EXCLUDED-", "EXHAUSTED-", "SLOW-"}

// payers makes the payers of the demo clinic: a sandbox that answers by member id, and a mutual whose plan is here, with a
// network that not all practitioners are in.
func (c *clinic) payers(ctx context.Context) error {
	const extension = fhir.CanonicalBase + "StructureDefinition/"
	for _, o := range [][3]string{{"clinic-sandbox", "Sandbox Insurance", "sandbox"}, {"clinic-mutual", "Mutual Health", "local"}} {
		if err := c.add(ctx, `{"resourceType":"Organization","id":%q,"active":true,"type":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/organization-type","code":"pay"}]}],"name":%q,"extension":[{"url":%q,"valueCode":%q}]}`,
			o[0], o[1], extension+"payer-adapter", o[2]); err != nil {
			return err
		}
	}
	for _, o := range [][2]string{{"clinic-network", "Mutual Health Network"}, {"clinic-practice", "Harbour and Hill Doctors"}, {"clinic-guests", "Visiting Doctors"}} {
		if err := c.add(ctx, `{"resourceType":"Organization","id":%q,"active":true,"name":%q}`, o[0], o[1]); err != nil {
			return err
		}
	}
	if err := c.add(ctx, `{"resourceType":"OrganizationAffiliation","id":"clinic-network","active":true,"organization":{"reference":"Organization/clinic-network"},"participatingOrganization":{"reference":"Organization/clinic-practice"},"network":[{"reference":"Organization/clinic-network"}]}`); err != nil {
		return err
	}
	benefit := func(code, name, more string) string {
		return `{"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/service-type","code":"` + code + `"}],"text":"` + name + `"}` + more + `}`
	}
	visits := func(n string) string {
		return `,"limit":[{"value":{"value":` + n + `,"unit":"visits"},"code":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/benefit-term","code":"annual"}]}}]`
	}
	rule := func(name string) string {
		return `,"extension":[{"url":"` + extension + `benefit-rule","extension":[{"url":"` + name + `","valueBoolean":true}]}]`
	}
	benefits := []string{benefit("124", "general practice", visits("12")), benefit("57", "paediatrics", visits("6")), benefit("168", "dermatology", visits("2")),
		benefit("165", "cardiology", rule("authorization-required")), benefit("65", "back school", rule("excluded"))}
	return c.add(ctx, `{"resourceType":"InsurancePlan","id":"clinic-basic","status":"active","identifier":[{"system":"https://kiln.example/plan","value":"basic"}],"name":"Mutual Basic","ownedBy":{"reference":"Organization/clinic-mutual"},"network":[{"reference":"Organization/clinic-network"}],"coverage":[{"type":{"text":"medical"},"benefit":[%s]}],"plan":[{"specificCost":[{"category":{"text":"visits"},"benefit":[{"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/service-type","code":"124"}]},"cost":[{"type":{"text":"coinsurance"},"applicability":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/applicability","code":"out-of-network"}]},"value":{"value":30,"unit":"%%"}}]}]}]}]}`,
		strings.Join(benefits, ","))
}

// clinicPractice is the organization that a practitioner works for: every fourth is a guest, outside of the network.
func clinicPractice(i int) string {
	if i%4 == 3 {
		return "clinic-guests"
	}
	return "clinic-practice"
}

// coverage makes the coverage of a patient: with the sandbox, with the mutual, one that has ended, or a promise to pay.
func (c *clinic) coverage(ctx context.Context, i int, since string) error {
	member, status, kind := pickOf(c.random, clinicMembers), "active", c.random.IntN(10)
	if member == "INACTIVE-" && kind%2 == 0 {
		status = "cancelled"
	}
	const head = `{"resourceType":"Coverage","id":"clinic-%d","status":%q,"beneficiary":{"reference":"Patient/clinic-%d"},`
	switch {
	case kind == 0:
		return c.add(ctx, head+`"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/coverage-selfpay","code":"pay"}]},"payor":[{"reference":"Patient/clinic-%d"}]}`, i, status, i, i)
	case kind <= 3:
		return c.add(ctx, head+`"subscriberId":"M%06d","payor":[{"reference":"Organization/clinic-mutual"}],"class":[{"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/coverage-class","code":"plan"}]},"value":"basic"}],"period":{"start":%q}}`, i, status, i, i, since)
	}
	return c.add(ctx, head+`"subscriberId":"%s%06d","payor":[{"reference":"Organization/clinic-sandbox"}],"period":{"start":%q}}`, i, status, i, member, i, since)
}
