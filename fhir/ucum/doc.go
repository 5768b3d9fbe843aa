// Package ucum makes quantities comparable: it reads the codes of the Unified Code for Units of Measure that clinical
// data uses (FHIR R4 datatypes.html#quantity, system http://unitsofmeasure.org) and brings values to base units, so
// that 5.4 g and 5400 mg become the same number of the same unit.
//
// The grammar is complete: prefixes, exponents, '.', '/', parentheses, integer factors, 10* and 10^, annotations. The
// table of units is our own, written from the definitions of the SI and of the customary measures; it is not UCUM's
// file and not all of it. A code we do not know is not therefore wrong: ok is false and the caller compares codes as
// text. Codes are the case-sensitive ones.
//
// Four decisions differ from a plain reading of UCUM:
//
//   - mol is a base unit, as in the SI. UCUM writes it as a pure number, which makes mmol/L comparable with 10*9/L.
//   - [pH] compares with itself only: its logarithm has no exact value. Other logarithms (B, Np, dB) are unknown here.
//   - Cel, [degF] and [degRe] convert with their offset, so they must stand alone; Cel/h is unknown, K/h is not.
//   - Each arbitrary unit, such as [iU] or [arb'U], is a dimension of its own; [IU] is [iU].
//
// Arithmetic is exact until a result leaves the package as a float64. Input is bounded by MaxLength, nothing panics,
// and nothing changes after the tables are built, so every function is safe for concurrent use.
//
// Read first: Canonical, then table.go for the units.
package ucum
