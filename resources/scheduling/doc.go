// Package scheduling holds the rules of appointments that need no database: which state follows which and who may
// bring it about (transition.go), when somebody is available in local time (calendar.go), what a service asks for
// (policy.go), and the ids of proposed appointments (proposal.go).
//
// It knows neither SQL nor requests. Package resources applies it inside the transaction of a write, and the guarantee
// that nobody is booked twice is a constraint of the database (storage/allocation.go), not a rule of this package.
package scheduling
