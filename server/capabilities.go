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
// offer. It is built when first asked for, and again when the definitions are others: each change makes a new registry.
// The tag changes when anything but the date does. profiles are those that writes can be checked by, by type, and the
// number of their state; building says which search parameters older resources lack yet; endpoints are those of the
// authorization server, if there is one.
func Capabilities(current func() *conformance.Registry, profiles func() (map[string][]string, int64), building func(*conformance.SearchParameter) bool, baseURL, version string,
	operations []*conformance.Operation, multipleDelete bool, endpoints map[string]string, now func() time.Time) func() ([]byte, string) {
	o := conformance.CapabilityOptions{
		Base:         baseURL + FHIRPath,
		Version:      version,
		Formats:      []string{"application/fhir+json", "application/fhir+xml", "json", "xml"},
		PatchFormats: []string{"application/json-patch+json", "application/fhir+json", "application/fhir+xml"},
		TypeInteractions: codesOf(resources.Read, resources.VRead, resources.Update, resources.Patch, resources.Delete,
			resources.HistoryInstance, resources.HistoryType, resources.Create, resources.SearchType),
		SystemInteractions: codesOf(resources.Transaction, resources.Batch, resources.SearchSystem, resources.HistorySystem),
		ReadOnly:           resources.ReadOnlyTypes(),
		Operations:         operations,
		MultipleDelete:     multipleDelete,
		Offered:            resources.Offered,
		Topics:             resources.TopicURLs(),
		Security:           security(endpoints),
		Documentation: func(p *conformance.SearchParameter) string {
			if building(p) {
				return "New: resources from before it are not found by it until a reindex is done."
			}
			return ""
		},
	}
	var mu sync.Mutex
	var of *conformance.Registry
	var state int64
	var content []byte
	var tag string
	return func() ([]byte, string) {
		mu.Lock()
		defer mu.Unlock()
		supported, changed := profiles()
		if registry := current(); registry != of || changed != state {
			of, state, o.Profiles = registry, changed, supported
			o.Date = time.Time{}
			undated := registry.CapabilityStatement(o)
			sum := sha256.Sum256(undated.JSON())
			o.Date = now()
			dated := registry.CapabilityStatement(o)
			content, tag = dated.JSON(), hex.EncodeToString(sum[:8])
		}
		return content, tag
	}
}

func codesOf(list ...resources.Interaction) []string {
	codes := make([]string, len(list))
	for i, code := range list {
		codes[i] = string(code)
	}
	return codes
}
