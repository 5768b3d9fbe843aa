// Package terminology keeps code systems, value sets and concept maps in tables, and answers questions about codes:
// which codes a value set holds, whether a code is one of them, what a code means, how two codes relate, what a code
// translates to.
//
// Definitions come from three sources, which one set of tables holds: the official ones of FHIR R4 (LoadOfficial), the
// CodeSystem, ValueSet and ConceptMap resources that clients write (Prepare; package storage queues the rows in the
// transaction of the write), and the files of publishers (Loader).
//
// Read first: Resolver, which finds definitions; Set, a value set whose parts are all resolved; compile.go, which turns
// one into SQL. A code system that is not here, or not here in full, is an error that names it: no question about it is
// answered as if it had no codes, or all.
package terminology
