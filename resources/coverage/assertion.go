package coverage

import (
	"slices"
	"strings"

	"kiln/fhir"
)

// This file is what the CDS service of a payer says of a visit. Spec: Da Vinci CRD 2.1, extension coverage-information and its
// code systems.

// CoverageInformation is the extension of an Appointment by which a payer says whether it is covered.
const CoverageInformation = "http://hl7.org/fhir/us/davinci-crd/StructureDefinition/ext-coverage-information"

// ExtensionAssertion keeps, on an item of a CoverageEligibilityResponse, what a CDS service said of it: R4 has no elements for that.
const ExtensionAssertion = fhir.CanonicalBase + "StructureDefinition/coverage-assertion"

// What is taken of an answer of a CDS service.
const (
	maxAssertions = 10
	maxActions    = 50
	maxCards      = 3
)

// The codes of coverage-information that count here.
const (
	assertCovered       = "covered"
	assertNotCovered    = "not-covered"
	assertConditional   = "conditional"
	assertIndeterminate = "indeterminate"
	authNeeded          = "auth-needed"
	authByPerformer     = "performpa"
	authSatisfied       = "satisfied"
	reasonOutOfNetwork  = "auth-out-network"
)

// reasonsNotInForce are those by which a payer says that it does not insure the patient.
var reasonsNotInForce = []string{"no-member-found", "no-active-coverage", "coverage-not-found"}

// Assertion is one coverage-information.
type Assertion struct {
	// Coverage is a relative reference.
	Coverage string
	// Covered is a code, Authorization (pa-needed) too, or "". Documents (doc-needed) and Reasons are codes.
	Covered, Authorization string
	Documents, Reasons     []string
	// PreAuthRef is the number of the authorization that there is (satisfied-pa-id), ID what a claim names the assertion by.
	PreAuthRef, ID string
	// Note is for people.
	Note string
}

// HookAnswer is what a CDS service said, as far as it counts here.
type HookAnswer struct {
	Assertions []Assertion
	// Notes are the summaries of its cards.
	Notes []string
}

// ReadHook reads the answer to Request: coverage-information on the Appointment of the question, in systemActions and in
// suggestions of cards, about coverages of the question. ok is false for what is no answer.
func ReadHook(n *fhir.Node, q *Question) (a *HookAnswer, ok bool) {
	cards, actions := n.Get("cards"), n.Get("systemActions")
	isList := func(n *fhir.Node) bool { return n != nil && n.Kind == fhir.Array }
	if n.Kind != fhir.Object || cards == nil && actions == nil || cards != nil && !isList(cards) || actions != nil && !isList(actions) {
		return nil, false
	}
	a = &HookAnswer{}
	budget := maxActions
	take := func(list *fhir.Node) {
		for action := range list.Items() {
			if budget--; budget < 0 {
				return
			}
			if typ := action.GetText("type"); typ == "update" || typ == "create" {
				a.read(action.Get("resource"), q)
			}
		}
	}
	take(actions)
	for card := range cards.Items() {
		if note := line(card.GetText("summary")); note != "" && len(a.Notes) < maxCards {
			a.Notes = append(a.Notes, note)
		}
		for s := range card.Get("suggestions").Items() {
			if budget--; budget < 0 {
				break
			}
			take(s.Get("actions"))
		}
	}
	return a, true
}

// read takes what a resource asserts, if it is the Appointment of the question.
func (a *HookAnswer) read(n *fhir.Node, q *Question) {
	if n == nil || n.ResourceType() != "Appointment" || n.ID() != q.Request.ID() {
		return
	}
	for e := range n.Get("extension").Items() {
		if e.GetText("url") != CoverageInformation || len(a.Assertions) >= maxAssertions {
			continue
		}
		x, about := readAssertion(e), extension(e, "coverage").Get("valueReference").GetText("reference")
		for _, c := range q.Coverages {
			if name := "Coverage/" + c.ID(); about == name || strings.HasSuffix(about, "/"+name) {
				x.Coverage = name
			}
		}
		if x.Coverage != "" && x.Covered != "" && !slices.ContainsFunc(a.Assertions, x.equal) {
			a.Assertions = append(a.Assertions, x)
		}
	}
}

func (x Assertion) equal(y Assertion) bool {
	return x.Coverage == y.Coverage && x.Covered == y.Covered && x.Authorization == y.Authorization && x.PreAuthRef == y.PreAuthRef && x.ID == y.ID &&
		x.Note == y.Note && slices.Equal(x.Documents, y.Documents) && slices.Equal(x.Reasons, y.Reasons)
}

// readAssertion reads the parts that coverage-information and coverage-assertion have in common. Codes that the guide does not
// have are left out: of what is covered, they make the whole void.
func readAssertion(e *fhir.Node) (x Assertion) {
	for part := range e.Get("extension").Items() {
		code := part.GetText("valueCode")
		known := func(codes ...string) bool { return slices.Contains(codes, code) }
		switch part.GetText("url") {
		case "covered":
			if known(assertCovered, assertNotCovered, assertConditional, assertIndeterminate) {
				x.Covered = code
			}
		case "pa-needed":
			if known("no-auth", authNeeded, authByPerformer, authSatisfied, assertConditional, assertIndeterminate) {
				x.Authorization = code
			}
		case "doc-needed":
			if known("clinical", "admin", "both", "patient", assertConditional, assertIndeterminate) && len(x.Documents) < maxAssertions {
				x.Documents = append(x.Documents, code)
			}
		case "satisfied-pa-id":
			x.PreAuthRef = line(part.GetText("valueString"))
		case "coverage-assertion-id":
			x.ID = line(part.GetText("valueString"))
		case "reason":
			reason := part.Get("valueCodeableConcept")
			for c := range reason.Get("coding").Items() {
				if isSegment(c.GetText("code")) && len(x.Reasons) < maxAssertions {
					x.Reasons = append(x.Reasons, c.GetText("code"))
				}
				if text := c.GetText("display"); text != "" && x.Note == "" {
					x.Note = line(text)
				}
			}
			if text := line(reason.GetText("text")); text != "" {
				x.Note = text
			}
		}
	}
	return x
}

// line is a text from outside as one line.
func line(s string) string { return short(strings.Join(strings.Fields(s), " ")) }

// node is the assertion as the extension coverage-assertion.
func (x *Assertion) node() fhir.Node {
	parts := fhir.Arr()
	add := func(url, element string, value fhir.Node) {
		parts.Kids = append(parts.Kids, fhir.Obj(fhir.Str(url).As("url"), value.As(element)))
	}
	text := func(url, element, value string) {
		if value != "" {
			add(url, element, fhir.Str(value))
		}
	}
	text("covered", "valueCode", x.Covered)
	text("pa-needed", "valueCode", x.Authorization)
	for _, code := range x.Documents {
		text("doc-needed", "valueCode", code)
	}
	text("satisfied-pa-id", "valueString", x.PreAuthRef)
	text("coverage-assertion-id", "valueString", x.ID)
	if reason := x.reason(); reason != nil {
		add("reason", "valueCodeableConcept", *reason)
	}
	return fhir.Obj(fhir.Str(ExtensionAssertion).As("url"), parts.As("extension"))
}

func (x *Assertion) reason() *fhir.Node {
	codings := fhir.Arr()
	for _, code := range x.Reasons {
		codings.Kids = append(codings.Kids, fhir.Obj(fhir.Str(code).As("code")))
	}
	n := fhir.Obj()
	if len(codings.Kids) > 0 {
		n.Set("coding", codings)
	}
	if x.Note != "" {
		n.Set("text", fhir.Str(x.Note))
	}
	if len(n.Kids) == 0 {
		return nil
	}
	return &n
}

// readAssertions are the assertions that a stored answer keeps.
func readAssertions(item *fhir.Node) (list []Assertion) {
	for e := range item.Get("extension").Items() {
		if e.GetText("url") == ExtensionAssertion && len(list) < maxAssertions {
			list = append(list, readAssertion(e))
		}
	}
	return list
}

// Unheard is what counts as the answer of a CDS service that cannot be asked.
func Unheard(q *Question) *HookAnswer {
	a := &HookAnswer{}
	for _, c := range q.Coverages {
		a.Assertions = append(a.Assertions, Assertion{Coverage: "Coverage/" + c.ID(), Covered: assertIndeterminate, Note: "The CDS service of the payer cannot be asked"})
	}
	return a
}

// Hear adds what the CDS service of the payer said to an answer. Where the two differ, what is worse for the visit counts. An
// answer without insurances, from a payer that has nothing but the service, gets those of the question.
func (a *Answer) Hear(q *Question, h *HookAnswer) {
	for _, c := range q.Coverages {
		name := "Coverage/" + c.ID()
		var about []Assertion
		for _, x := range h.Assertions {
			if x.Coverage == name {
				about = append(about, x)
			}
		}
		i := a.of(name)
		if i == nil {
			a.Insurance = append(a.Insurance, Insurance{Coverage: name})
			i = &a.Insurance[len(a.Insurance)-1]
		}
		if len(about) > 0 {
			i.hear(q, about)
		}
		if i.InForce == nil && a.Outcome == Complete {
			a.Outcome = Partial
		}
		if ref := satisfied(about); ref != "" && a.PreAuthRef == "" && len(q.Coverages) == 1 {
			a.PreAuthRef = ref
		}
	}
	a.Disposition = short(strings.Join(slices.DeleteFunc(append([]string{a.Disposition}, h.Notes...), func(s string) bool { return s == "" }), "; "))
}

// satisfied is the number of the authorization that there is, where none other is needed.
func satisfied(list []Assertion) (ref string) {
	for _, x := range list {
		switch x.Authorization {
		case authNeeded, authByPerformer:
			return ""
		case authSatisfied:
			if ref = x.PreAuthRef; ref == "" {
				ref = authSatisfied
			}
		}
	}
	return ref
}

func (i *Insurance) hear(q *Question, about []Assertion) {
	has := func(is func(Assertion) bool) bool { return slices.ContainsFunc(about, is) }
	gone := has(func(x Assertion) bool {
		return slices.ContainsFunc(x.Reasons, func(r string) bool { return slices.Contains(reasonsNotInForce, r) })
	})
	switch {
	case gone:
		i.InForce = new(false)
	case i.InForce == nil && has(func(x Assertion) bool { return x.Covered != assertIndeterminate }):
		i.InForce = new(true)
	}
	if len(i.Items) == 0 {
		for _, wanted := range q.Items {
			i.Items = append(i.Items, ItemAnswer{Item: wanted})
		}
	}
	if len(i.Items) == 0 {
		i.Items = []ItemAnswer{{Item: anyService()}}
	}
	for k := range i.Items {
		x := &i.Items[k]
		x.Assertions = about
		x.Excluded = x.Excluded || !has(func(y Assertion) bool { return y.Covered != assertNotCovered })
		x.Authorization = x.Authorization || has(func(y Assertion) bool {
			return y.Authorization == authNeeded || y.Authorization == authByPerformer || y.Authorization == authSatisfied
		})
		if has(func(y Assertion) bool { return slices.Contains(y.Reasons, reasonOutOfNetwork) }) {
			x.Network = "out"
		}
		for _, y := range about {
			if x.Description == "" {
				x.Description = y.Note
			}
		}
	}
}

// conditions are what a service is paid under, for people; "" for none.
func (x *ItemAnswer) conditions() string {
	var list []string
	say := func(text string) {
		if !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	for i, y := range x.Assertions {
		switch {
		case y.Covered == assertIndeterminate:
			say("the payer could not say whether it is covered" + because(y.Note))
		case y.Covered == assertConditional, i > 0 && y.Covered != x.Assertions[0].Covered:
			say("whether it is covered depends on more than the payer was told" + because(y.Note))
		}
		if y.Authorization == assertConditional || y.Authorization == assertIndeterminate {
			say("whether it has to be authorized is not certain" + because(y.Note))
		}
		if len(y.Documents) > 0 {
			say("the payer wants documents (" + strings.Join(y.Documents, ", ") + ")" + because(y.Note))
		}
	}
	return strings.Join(list, "; ")
}
