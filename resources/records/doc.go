// Package records says how medical records live: which states each type of record goes through and on whose word, when a
// record is signed, who its author is, and to what it belongs. It is a table and looks nothing up: the resources package
// asks it at each write, docs/records.md is written from it, and the tests go through all of it. Begin with Table.
package records
