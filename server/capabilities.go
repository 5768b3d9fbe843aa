package server

import (
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"

	"kiln/conformance"
	"kiln/resources"
)

// Capabilities makes the function behind GET /metadata: the statement of what the routes, the formats and the registry
// offer. It is built when first asked for. The tag changes when anything but the date does.
func Capabilities(registry *conformance.Registry, baseURL, version string, multipleDelete bool, began time.Time) func() ([]byte, string) {
	return sync.OnceValues(func() ([]byte, string) {
		o := conformance.CapabilityOptions{
			Base:         baseURL + FHIRPath,
			Version:      version,
			Formats:      []string{"application/fhir+json", "json"},
			PatchFormats: []string{"application/json-patch+json", "application/fhir+json"},
			TypeInteractions: codesOf(resources.Read, resources.VRead, resources.Update, resources.Patch, resources.Delete,
				resources.HistoryInstance, resources.HistoryType, resources.Create, resources.SearchType),
			SystemInteractions: codesOf(resources.Transaction, resources.Batch, resources.SearchSystem, resources.HistorySystem),
			MultipleDelete:     multipleDelete,
			Offered:            resources.Offered,
		}
		undated := registry.CapabilityStatement(o)
		tag := sha256.Sum256(undated.JSON())
		o.Date = began
		dated := registry.CapabilityStatement(o)
		return dated.JSON(), hex.EncodeToString(tag[:8])
	})
}

func codesOf(list ...resources.Interaction) []string {
	codes := make([]string, len(list))
	for i, code := range list {
		codes[i] = string(code)
	}
	return codes
}
