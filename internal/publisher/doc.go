// Package publisher reads code systems from the files that their publishers give out: LOINC, SNOMED CT, RxNorm and
// ICD-10-CM, and CodeSystems, ValueSets and ConceptMaps of FHIR packages. None of their content is part of Kiln.
//
// Files are read as a stream, from folders, single files and zips; what a code system needs at once (who is above whom,
// and the names of SNOMED CT and RxNorm) is kept in memory. Open is the way in.
package publisher
