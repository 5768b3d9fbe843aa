// Package payer asks payers over the network: the adapter fhir of package coverage. It is the only one that leaves the
// server, and goes nowhere but where an operator lets it.
package payer
