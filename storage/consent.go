package storage

import (
	"slices"
	"strings"
	"time"

	"kiln/fhir"
)

// consentEntry is one provision of a Consent, as a row of consent_rule. nil in a list means any.
type consentEntry struct {
	patient     int64
	deny        bool
	specificity int16
	low, high   time.Time
	actors      []int64
	types       []int16
	labels      *int32
	purposes    []string
}

// consents reads the provisions of an active Consent for patient privacy. A nested provision is an exception to the one
// around it and more specific than that. What this server cannot judge, such as a clinical code or single resources,
// makes a denial wider and a permission no permission: it never shows more than was meant.
// Spec: FHIR R4 consent.html.
func (ix *Indexer) consents(row *indexRow, n *fhir.Node) {
	privacy := slices.Contains(codesIn(n.Get("scope")), "patient-privacy")
	patients := row.compartments
	if n.GetText("status") != "active" || !privacy || len(patients) == 0 {
		return
	}
	effect := ""
	for _, code := range codesIn(n.Get("policyRule")) {
		switch {
		case strings.HasPrefix(code, "OPTOUT"):
			effect = "deny"
		case strings.HasPrefix(code, "OPTIN") && effect == "":
			effect = "permit"
		}
	}
	root := n.Get("provision")
	base := consentEntry{low: beginningOfTime, high: endOfTime}
	for _, patient := range patients {
		base.patient = patient
		if root == nil {
			if effect != "" {
				base.deny = effect == "deny"
				row.consents = append(row.consents, base)
			}
			continue
		}
		ix.provision(row, root, base, effect, 0)
	}
}

const maxProvisionDepth = 10

func (ix *Indexer) provision(row *indexRow, p *fhir.Node, around consentEntry, effect string, depth int16) {
	e := around
	e.specificity = depth * 10
	if t := p.GetText("type"); t != "" {
		effect = t
	}
	e.deny = effect == "deny"
	if low, high, ok := periodRange(p.Get("period"), ix.zone); ok {
		e.low, e.high = later(e.low, low), earlier(e.high, high)
		e.specificity++
	}
	if actors := p.Get("actor"); actors != nil {
		e.actors = []int64{}
		for a := range actors.Items() {
			if ref, ok := ix.parseReference(a.At("reference").GetText("reference")); ok && ref.Type != "" && ref.Base == "" {
				e.actors = append(e.actors, ix.hash.Resource(ref.Type, ref.ID))
			}
		}
		e.specificity += 4
	}
	if classes := p.Get("class"); classes != nil {
		e.types = []int16{}
		for c := range classes.Items() {
			if ix.isResource(c.GetText("code")) {
				e.types = append(e.types, ix.registry.TypeNumber(c.GetText("code")))
			}
		}
		e.specificity += 2
	}
	if labels := p.Get("securityLabel"); labels != nil {
		var mask int32
		for l := range labels.Items() {
			if bit, ok := ix.rules.labels[l.GetText("system")+"|"+l.GetText("code")]; ok {
				mask |= 1 << bit
			}
		}
		e.labels = &mask
		e.specificity += 2
	}
	if purposes := p.Get("purpose"); purposes != nil {
		e.purposes = []string{}
		for c := range purposes.Items() {
			e.purposes = append(e.purposes, c.GetText("code"))
		}
		e.specificity += 2
	}
	narrower := p.Get("code") != nil || p.Get("data") != nil || p.Get("dataPeriod") != nil || p.Get("action") != nil
	if (effect == "deny" || effect == "permit" && !narrower) && e.low.Before(e.high) {
		if effect == "deny" && e.types != nil && len(e.types) == 0 {
			e.types = nil // a class that is no resource type
		}
		row.consents = append(row.consents, e)
	}
	if depth == maxProvisionDepth {
		return
	}
	opposite := map[string]string{"deny": "permit", "permit": "deny"}[effect]
	for nested := range p.Get("provision").Items() {
		ix.provision(row, nested, e, opposite, depth+1)
	}
}

func codesIn(concept *fhir.Node) (codes []string) {
	for c := range concept.Get("coding").Items() {
		codes = append(codes, c.GetText("code"))
	}
	return codes
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
