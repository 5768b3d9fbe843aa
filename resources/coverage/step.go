package coverage

import (
	"fmt"
	"strings"

	"kiln/fhir"
)

// Code is the stable machine code of a finding.
type Code string

// The codes.
const (
	Missing       Code = "coverage-missing"
	Inactive      Code = "coverage-inactive"
	Mismatch      Code = "coverage-mismatch"
	Period        Code = "coverage-period"
	Identifier    Code = "coverage-identifier"
	NotInForce    Code = "coverage-not-in-force"
	Unverified    Code = "coverage-unverified"
	Excluded      Code = "service-excluded"
	OutOfNetwork  Code = "out-of-network"
	Conditional   Code = "coverage-conditional"
	Exhausted     Code = "benefit-exhausted"
	Authorization Code = "authorization-required"
	Pending       Code = "coverage-pending"
)

// Step is one check of the gate that can find something.
type Step struct {
	Number int
	Code   Code
	// Check is what has to hold.
	Check string
	// At is the element that the finding points at.
	At string
	// Result is what becomes of a booking where it does not hold, in a service whose policy is strict.
	Result string
}

// The results of a step.
const (
	refuses = "refused"
	waits   = "awaiting"
	warns   = "warning"
)

// Steps lists the checks in their order. docs/coverage.md and the tests read it.
func Steps() []Step {
	return []Step{
		{0, Missing, "the patient has a coverage, or pays", "Appointment.supportingInformation", refuses},
		{1, Inactive, "Coverage.status is active", "Coverage.status", refuses},
		{1, Mismatch, "its beneficiary is the patient", "Coverage.beneficiary", refuses},
		{2, Period, "its period holds the date of the visit in the zone of the place; the end date counts", "Coverage.period", refuses},
		{3, Identifier, "it has a member id of the form that the payer knows; of several coverages, Coverage.order is the order", "Coverage.subscriberId", refuses},
		{4, NotInForce, "the payer has answered, the insurance is in force, and benefitPeriod holds the date", "Coverage", refuses},
		{4, Unverified, "the payer has said whether it is in force; one without a plan here cannot", "Coverage", waits},
		{5, Excluded, "the service is not excluded", "Coverage", refuses},
		{5, OutOfNetwork, "the practitioner is in the network of the plan", "Coverage.network", warns},
		{5, Conditional, "the payer's CDS service names no condition, and wants no documents", "Coverage", warns},
		{6, Exhausted, "less is used than allowed, in visits and in money; visits that are booked count", "Coverage", refuses},
		{7, Authorization, "no authorization is needed, or there is one", "Coverage", waits},
		{8, Pending, "the answer is 3 days old at most, and about this coverage, service, practitioner and date; else the payer is asked, for 5 seconds", "Coverage", waits},
	}
}

// Finding is a check that does not hold, as whoever booked is told it.
type Finding struct {
	Code Code
	Text string
}

// Warns says whether the finding stands in nobody's way.
func (f Finding) Warns() bool { return f.step().Result == warns }

// Waits says whether the finding may go away by itself, or by what staff do.
func (f Finding) Waits() bool { return f.step().Result == waits }

func (f Finding) step() Step {
	for _, s := range Steps() {
		if s.Code == f.Code {
			return s
		}
	}
	return Step{}
}

// Issue is the finding as an issue of a severity.
func (f Finding) Issue(severity string) fhir.Issue {
	return fhir.Issue{Severity: severity, Code: fhir.CodeBusinessRule, Detail: string(f.Code), Text: f.Text, Expression: []string{f.step().At}}
}

// Document writes the steps as markdown: docs/coverage.md holds it, and a test compares the two.
func Document() string {
	var b strings.Builder
	b.WriteString("| step | provided that | else | at | strict | pend | warn |\n|---|---|---|---|---|---|---|\n")
	for _, s := range Steps() {
		strict, pend := "422", "awaiting"
		switch s.Result {
		case waits:
			strict = "awaiting"
		case warns:
			strict, pend = "warning", "warning"
		}
		number := fmt.Sprint(s.Number)
		if s.Number == 0 {
			number = "–"
		}
		fmt.Fprintf(&b, "| %s | %s | `%s` | `%s` | %s | %s | warning |\n", number, s.Check, s.Code, s.At, strict, pend)
	}
	return b.String()
}
