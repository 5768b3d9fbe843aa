// Package resources is what the server does: every interaction of the FHIR RESTful API, however it came in. It knows
// FHIR and the store, and neither HTTP nor SQL: the server package turns requests into Request and Response back into
// answers, storage turns work into statements.
//
// The rules of a write, the same for one request and for an entry of a transaction:
//   - parsing, validation and index extraction come before any lock, wherever the identity is known by then;
//   - locks come in one order: criteria sorted, then rows sorted, then writes sorted, so that nobody waits in a ring;
//   - nothing survives a failed try: storage.Store.Write may run the work again from its start.
//
// Read first: Request and Response, Service.Do, update.go for a single write, transaction.go for many.
package resources
