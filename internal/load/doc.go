// Package load moves many resources: import from files, export to files, and the demo data of kiln seed.
//
// An import goes through resources.Service, so the rules are those of a request: validation, references, conditional
// writes. Every piece of it is safe to repeat. A transaction bundle carries an Idempotency-Key made of the file's
// content, which is recorded in the same database transaction; the table import_file remembers for good which files and
// which chunks of files are in.
//
// Read first: Importer.Run, file.go for one file, chunk.go for a stretch of one.
package load
