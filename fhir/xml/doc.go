// Package xml writes resources as FHIR XML and reads them back (FHIR R4 xml.html). What it cannot carry to the other
// side unchanged, it refuses with the place: no element is ever dropped and no value altered.
//
// It knows which names, kinds and order the definitions give, because XML cannot be read without them; every other rule
// is left to the validator. Two spellings have one meaning and come back as one: an array of nulls beside its "_name"
// is left out, and a narrative has no white space around its div.
//
// Read Encode and Decode first; scanner is the small part of XML 1.0 that FHIR uses, which has no DTD, and so no
// entities to expand (docs/adr/0004 says why JSON has a scanner of its own; the same holds here).
package xml
