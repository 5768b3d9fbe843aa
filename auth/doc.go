// Package auth says who a caller is and what that caller may do: principals, the scopes of SMART on FHIR, and the policy
// of roles. It knows neither HTTP nor SQL. What it comes to is a search.Restriction, which storage makes part of every
// statement.
//
// The rule: what a caller may do is scope ∩ role ∩ compartment or relationship ∩ consent and labels. Every zero value
// of this package stands for no right at all.
//
// Read first: Principal, Scope, Policy.
package auth
