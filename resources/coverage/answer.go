package coverage

import (
	"math/big"

	"kiln/fhir"
)

// The outcomes of an answer. Spec: CodeSystem remittance-outcome.
const (
	Complete = "complete"
	Partial  = "partial"
	Queued   = "queued"
	Failed   = "error"
)

// Answer is what a CoverageEligibilityResponse says, as far as it counts here. Whatever a payer sends is read into one and
// written anew, so that nothing else of it comes in.
type Answer struct {
	Outcome     string
	Disposition string
	Insurance   []Insurance
	// PreAuthRef is the number of an authorization that there is already.
	PreAuthRef string
	// Errors are CodeableConcepts.
	Errors []fhir.Node

	// Recorded is how much of Used is no visit that is booked here; Since is from which date on visits that are booked here
	// are to be added to it. Benefit names what they count for.
	Recorded int
	Since    string
	Benefit  string
}

// Insurance is what an answer says of one coverage.
type Insurance struct {
	// Coverage is a relative reference.
	Coverage string
	InForce  *bool
	// From and To bound the benefit period, as dates; "" for no bound.
	From, To string
	Items    []ItemAnswer
}

// ItemAnswer is what an answer says of one service.
type ItemAnswer struct {
	Item
	Excluded          bool
	Name, Description string
	// Network is in or out, or "" where nothing is said.
	Network       string
	Authorization bool
	Benefits      []Benefit
	// Assertions are what the CDS service of the payer said of it.
	Assertions []Assertion
}

// Benefit is how much is allowed and used.
type Benefit struct {
	// Type is a code of benefit-type, or a payer's own CodeableConcept.
	Type          string
	own           *fhir.Node
	Allowed, Used Amount
}

// Amount is a number of visits, or money where it has a currency; the zero value is none.
type Amount struct {
	Value    *big.Rat
	Currency string
}

// Count is a number of visits.
func Count(n int) Amount { return Amount{Value: big.NewRat(int64(n), 1)} }

// Node writes the answer to a question as a CoverageEligibilityResponse with an id.
func (a *Answer) Node(id string, q *Question) fhir.Node {
	n := fhir.Obj(fhir.Str("CoverageEligibilityResponse").As("resourceType"), fhir.Str(id).As("id"), fhir.Str("active").As("status"))
	copyOf := func(name string) {
		if v := q.Request.Get(name); v != nil {
			n.Set(name, v.Clone())
		}
	}
	for _, name := range []string{"purpose", "patient", "servicedDate", "servicedPeriod"} {
		copyOf(name)
	}
	n.Set("created", fhir.Str(fhir.FormatInstant(q.Asked)))
	if provider := q.Request.Get("provider"); provider != nil {
		n.Set("requestor", provider.Clone())
	}
	n.Set("request", reference("CoverageEligibilityRequest/"+q.Request.ID()))
	n.Set("outcome", fhir.Str(a.Outcome))
	if a.Disposition != "" {
		n.Set("disposition", fhir.Str(a.Disposition))
	}
	copyOf("insurer")
	if len(a.Insurance) > 0 {
		list := fhir.Arr()
		for _, i := range a.Insurance {
			list.Kids = append(list.Kids, i.node(q))
		}
		n.Set("insurance", list)
	}
	if a.PreAuthRef != "" {
		n.Set("preAuthRef", fhir.Str(a.PreAuthRef))
	}
	if len(a.Errors) > 0 {
		list := fhir.Arr()
		for _, e := range a.Errors {
			list.Kids = append(list.Kids, fhir.Obj(e.Clone().As("code")))
		}
		n.Set("error", list)
	}
	return n
}

func reference(to string) fhir.Node { return fhir.Obj(fhir.Str(to).As("reference")) }

func (i *Insurance) node(q *Question) fhir.Node {
	n := fhir.Obj(reference(i.Coverage).As("coverage"))
	if i.InForce != nil {
		n.Set("inforce", fhir.Boolean(*i.InForce))
	}
	if i.From != "" || i.To != "" {
		p := fhir.Obj()
		if i.From != "" {
			p.Set("start", fhir.Str(i.From))
		}
		if i.To != "" {
			p.Set("end", fhir.Str(i.To))
		}
		n.Set("benefitPeriod", p)
	}
	items := fhir.Arr()
	for _, x := range i.Items {
		items.Kids = append(items.Kids, x.node(q))
	}
	if len(items.Kids) > 0 {
		n.Set("item", items)
	}
	return n
}

func (x *ItemAnswer) node(q *Question) fhir.Node {
	n := fhir.Obj()
	if len(x.Assertions) > 0 {
		list := fhir.Arr()
		for _, a := range x.Assertions {
			list.Kids = append(list.Kids, a.node())
		}
		n.Set("extension", list)
	}
	if x.Category { // exactly one of the two: ces-1
		n.Set("category", x.Code.Clone())
	} else {
		n.Set("productOrService", x.Code.Clone())
	}
	if x.Provider != "" {
		n.Set("provider", reference(x.Provider))
	}
	if q.Wants(Benefits) || x.Excluded {
		n.Set("excluded", fhir.Boolean(x.Excluded))
	}
	if x.Name != "" {
		n.Set("name", fhir.Str(x.Name))
	}
	if x.Description != "" {
		n.Set("description", fhir.Str(x.Description))
	}
	if x.Network != "" {
		n.Set("network", concept("http://terminology.hl7.org/CodeSystem/benefit-network", x.Network))
	}
	if q.Wants(Benefits) && len(x.Benefits) > 0 {
		list := fhir.Arr()
		for _, b := range x.Benefits {
			list.Kids = append(list.Kids, b.node())
		}
		n.Set("benefit", list)
	}
	if q.Wants(AuthRequired) || x.Authorization {
		n.Set("authorizationRequired", fhir.Boolean(x.Authorization))
	}
	return n
}

func concept(system, code string) fhir.Node {
	return fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str(system).As("system"), fhir.Str(code).As("code"))).As("coding"))
}

func (b *Benefit) node() fhir.Node {
	typ := concept("http://terminology.hl7.org/CodeSystem/benefit-type", b.Type)
	if b.own != nil {
		typ = b.own.Clone()
	}
	n := fhir.Obj(typ.As("type"))
	b.Allowed.set(&n, "allowed")
	b.Used.set(&n, "used")
	return n
}

func (a Amount) set(n *fhir.Node, name string) {
	switch {
	case a.Value == nil:
	case a.Currency != "":
		n.Set(name+"Money", fhir.Obj(fhir.Num(a.Value.FloatString(2)).As("value"), fhir.Str(a.Currency).As("currency")))
	default:
		n.Set(name+"UnsignedInt", fhir.Num(a.Value.Num().String()))
	}
}

// String is the amount for people.
func (a Amount) String() string {
	if a.Value == nil {
		return ""
	}
	if a.Currency != "" {
		return a.Value.FloatString(2) + " " + a.Currency
	}
	return a.Value.Num().String()
}

// Visits are how many visits an answer says are used, and until when its benefits reach; "" for no bound.
func (a *Answer) Visits(coverage string) (used int, until string) {
	i := a.of(coverage)
	if i == nil {
		return 0, ""
	}
	for _, x := range i.Items {
		for _, b := range x.Benefits {
			if b.Used.Value != nil && b.Used.Currency == "" && b.Used.Value.IsInt() {
				used = int(b.Used.Value.Num().Int64())
			}
		}
	}
	if a.Since == "" || a.Since >= i.From {
		until = i.To
	}
	return used, until
}
