// Package leak looks for ways around the rule of who may see what: it asks a server the questions of a hostile client and
// checks that no answer depends on what that client cannot read.
//
// Two things use it. A test runs every request against two databases, one with all data and one with only what the caller
// may read, and the answers must be the same. `kiln verify-access` works on one's own data, where there is no second
// database: there a resource shows by a path exactly when a plain read shows it.
//
// Read first: World, Ask, Verify.
package leak
