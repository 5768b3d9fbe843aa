package validate

import (
	"slices"
	"strings"

	"kiln/fhir"
)

// bundleScope finds the types of a Bundle's entries by their fullUrl.
type bundleScope struct {
	bundle *fhir.Node
	types  map[string]string // made when first asked
}

func (b *bundleScope) typeOf(fullURL string) string {
	if b.types == nil {
		b.types = map[string]string{}
		for e := range b.bundle.Get("entry").Items() {
			if u := e.GetText("fullUrl"); u != "" && b.types[u] == "" {
				b.types[u] = e.Get("resource").ResourceType()
			}
		}
	}
	return b.types[fullURL]
}

// bundle checks the rules of a Bundle (FHIR R4 bundle.html, bdl-1 to bdl-12). They are written out here because their
// published form looks at all entries for each entry, and points at the Bundle where the fault is in one entry.
func bundle(r *run, n *fhir.Node, _ *prop, start int) {
	kind := n.GetText("type")
	rule := func(key string, holds bool, text string) {
		if !holds {
			r.add(start, fhir.SeverityError, fhir.CodeInvariant, key, "%s", text)
		}
	}
	rule("bdl-1", n.Get("total") == nil || kind == "searchset" || kind == "history",
		"Only a searchset or a history has a total")
	if kind == "document" {
		identifier := n.Get("identifier")
		rule("bdl-9", identifier.Get("system") != nil && identifier.Get("value") != nil,
			"A document must have an identifier with a system and a value")
		rule("bdl-10", n.GetText("timestamp") != "", "A document must have a timestamp")
		rule("bdl-11", n.At("entry", "resource").ResourceType() == "Composition",
			"A document's first entry must be a Composition")
	}
	if kind == "message" {
		rule("bdl-12", n.At("entry", "resource").ResourceType() == "MessageHeader",
			"A message's first entry must be a MessageHeader")
	}
	r.links(n, start)
	entries := n.Get("entry")
	if entries == nil || entries.Kind != fhir.Array {
		return
	}
	asks := kind == "batch" || kind == "transaction" || kind == "history"
	answers := kind == "batch-response" || kind == "transaction-response" || kind == "history"
	scan := entryScan{run: r, at: start, kind: kind, asks: asks, answers: answers, seen: map[string]bool{}}
	r.push("entry")
	defer r.pop()
	for i := range entries.Kids {
		if e := &entries.Kids[i]; e.Kind == fhir.Object && len(e.Kids) > 0 {
			r.item(i)
			scan.entry(e)
		}
	}
}

// entryScan checks the entries of one Bundle.
type entryScan struct {
	*run
	at            int // where the next issue goes
	kind          string
	asks, answers bool // entries have a request, a response
	seen          map[string]bool
}

func (s *entryScan) rule(key string, holds bool, severity, text string, args ...any) {
	if !holds {
		s.add(s.at, severity, fhir.CodeInvariant, key, text, args...)
		s.at++
	}
}

func (s *entryScan) entry(e *fhir.Node) {
	const failed = fhir.SeverityError
	resource, request, response := e.Get("resource"), e.Get("request"), e.Get("response")
	s.rule("bdl-2", e.Get("search") == nil || s.kind == "searchset", failed, "Only the entries of a searchset have search")
	if s.asks {
		s.rule("bdl-3", request != nil, failed, "Each entry of a %s must have a request", s.kind)
	} else {
		s.rule("bdl-3", request == nil, failed, "An entry has a request only in a batch, a transaction or a history")
	}
	if s.answers {
		s.rule("bdl-4", response != nil, failed, "Each entry of a %s must have a response", s.kind)
	} else {
		s.rule("bdl-4", response == nil, failed,
			"An entry has a response only in a batch-response, a transaction-response or a history")
	}
	s.rule("bdl-5", resource != nil || request != nil || response != nil, failed,
		"An entry needs a resource, a request or a response")
	u := e.GetText("fullUrl")
	if u == "" {
		return
	}
	s.rule("bdl-8", !strings.Contains(u, "/_history/"), failed, "fullUrl must not name a version")
	if key := u + "|" + resource.Get("meta").GetText("versionId"); s.kind != "history" {
		s.rule("bdl-7", !s.seen[key], failed, "Another entry has this fullUrl with the same meta.versionId")
		s.seen[key] = true
	}
	// What is asked for stands in the request, so a fullUrl that is not quite right does no harm there: senders use
	// urn:uuid:patient-1 as a mere label.
	severity := failed
	if s.kind == "batch" || s.kind == "transaction" {
		severity = fhir.SeverityWarning
	}
	s.rule("full-url-absolute", hasScheme(u), severity, "fullUrl must be an absolute URL: %s is not", quote(u))
	s.rule("full-url-urn", wrongURN(u) == "", severity, "fullUrl %s must be %s", quote(u), wrongURN(u))
	s.rule("full-url-id", s.agrees(u, resource), severity,
		"fullUrl %s must end with the type and id of the resource", quote(u))
}

// agrees says whether a RESTful fullUrl names the resource that it stands with.
func (r *run) agrees(fullURL string, resource *fhir.Node) bool {
	id := resource.ID()
	if id == "" || !strings.HasPrefix(fullURL, "http") {
		return true
	}
	ref, ok := fhir.ParseReference(fullURL, r.v.isType)
	return !ok || ref.Type == "" || ref.Type == resource.ResourceType() && ref.ID == id
}

// links tells of relations that stand twice: a page has one next page.
func (r *run) links(n *fhir.Node, start int) {
	links := n.Get("link")
	if links == nil || links.Kind != fhir.Array {
		return
	}
	single := [...]string{"self", "first", "previous", "prev", "next", "last"}
	var seen [len(single)]bool
	for i := range links.Kids {
		k := slices.Index(single[:], links.Kids[i].GetText("relation"))
		if k < 0 {
			continue
		}
		if seen[k] {
			r.push("link")
			r.item(i)
			r.add(start, fhir.SeverityError, fhir.CodeInvariant, "bundle-link",
				"The link %s may stand once only", single[k])
			r.pop()
		}
		seen[k] = true
	}
}
