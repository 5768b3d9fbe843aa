// Package coverage holds the rules of insurance that need no database: the eight steps of the gate in front of a booking
// (step.go, judge.go), questions to payers and their answers as CoverageEligibilityRequest and -Response (question.go,
// answer.go), and two payers that need no network: the local rules engine over an InsurancePlan (plan.go, local.go) and the
// sandbox (sandbox.go).
//
// Payer is the seam to all others. Package resources asks and books (resources/coverage*.go); this package knows neither
// SQL nor HTTP nor who is allowed to see what.
package coverage
