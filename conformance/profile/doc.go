// Package profile checks resources against profiles: StructureDefinitions that constrain a base type, and definitions of
// extensions. Package validate has checked the base definitions before; here is only what a profile adds to them.
//
// A profile is compiled once into a tree of elements that holds what it and the profiles that it derives from ask (its
// snapshot, without what the base type asks anyway), and then walked beside the data.
//
// Read first: Set (which profiles there are), compile.go for the tree, check.go for the walk.
package profile

// Bounds on definitions and on checks, so that a hostile profile costs its author a refusal and the server little. They
// are published in docs/limits.md.
const (
	// MaxElements is how many elements a definition may have, with those of its bases.
	MaxElements = 5000
	// MaxBases is how many profiles may derive from each other in a row.
	MaxBases = 16
	// MaxNesting is how deep profiles may ask for other profiles within one value, and elements nest.
	MaxNesting = 32
	// MaxSteps is how many values one resource may have checked against profiles, values counted again where several
	// profiles or slices look at them.
	MaxSteps = 1_000_000
	// MaxInvariantSteps bounds the evaluation of one invariant of a profile on one value.
	MaxInvariantSteps = 200_000
	// MaxProfiles is how many profiles one resource may claim.
	MaxProfiles = 32
)
