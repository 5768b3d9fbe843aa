package conformance

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"kiln/fhir"
)

// publishedTypes are the types of the definitions that a server offers to its clients, in the order of EachDefinition:
// what a CapabilityStatement names comes first.
var publishedTypes = []string{"OperationDefinition", "CompartmentDefinition", "SearchParameter", "StructureDefinition",
	"CodeSystem", "ValueSet", "ConceptMap"}

// Publishes says whether there are definitions of this type among those of EachDefinition.
func Publishes(resourceType string) bool { return slices.Contains(publishedTypes, resourceType) }

// PublishedHash names what EachDefinition calls for by its content.
func PublishedHash() string {
	sum := sha256.New()
	sum.Write([]byte(DefinitionsHash()))
	list, err := OwnDefinitions()
	if err != nil {
		return ""
	}
	for _, data := range list {
		sum.Write(data)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// EachDefinition calls do for every definition that a server has built in, official ones and our own, until it returns an
// error. The node is do's own. The order is the same each time.
func EachDefinition(do func(*fhir.Node) error) error {
	own, err := OwnDefinitions()
	if err != nil {
		return err
	}
	for _, data := range own {
		n, err := fhir.ParseJSON(data)
		if err != nil {
			return err
		}
		if err := do(n); err != nil {
			return err
		}
	}
	return eachOf(publishedTypes, do)
}
