// Package bench measures a Kiln: a load generator that checks the answers, and beside every figure a ceiling measured
// in the same run, slice by slice in turns. The ceiling is a bare net/http and pgx handler that does the same row work
// on the same PostgreSQL, so the ratio says what Kiln itself costs on whatever machine it runs.
//
// Kiln and the ceiling are both child processes; their CPU time and memory are read from /proc.
//
// Read first: Run.
package bench
