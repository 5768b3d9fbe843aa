package coverage

import (
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

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

// What is taken of an answer from outside.
const (
	maxItems    = 50
	maxBenefits = 20
	maxText     = 1000
)

// ReadAnswer reads a CoverageEligibilityResponse; ok is false where it is none that can be understood. coverages are
// relative references that its insurances stand for, in order: a payer has ids of its own.
func ReadAnswer(n *fhir.Node, coverages ...string) (a *Answer, ok bool) {
	a = &Answer{Outcome: n.GetText("outcome"), Disposition: short(n.GetText("disposition")), PreAuthRef: short(n.GetText("preAuthRef"))}
	if n.ResourceType() != "CoverageEligibilityResponse" || !slices.Contains([]string{Complete, Partial, Queued, Failed}, a.Outcome) {
		return nil, false
	}
	index := 0
	for x := range n.Get("insurance").Items() {
		i := Insurance{Coverage: x.Get("coverage").GetText("reference")}
		if len(coverages) > 0 {
			if index >= len(coverages) {
				break
			}
			i.Coverage = coverages[index]
		}
		index++
		if v := x.Get("inforce"); v != nil {
			i.InForce = new(v.Text == "true")
		}
		i.From, i.To = periodOf(x.Get("benefitPeriod"))
		for y := range x.Get("item").Items() {
			if len(i.Items) >= maxItems {
				break
			}
			if item, ok := readItem(y); ok {
				i.Items = append(i.Items, item)
			}
		}
		a.Insurance = append(a.Insurance, i)
	}
	for e := range n.Get("error").Items() {
		if code := e.Get("code"); code != nil && len(a.Errors) < maxItems {
			a.Errors = append(a.Errors, plain(code))
		}
	}
	return a, true
}

func readItem(n *fhir.Node) (x ItemAnswer, ok bool) {
	category, service := n.Get("category"), n.Get("productOrService")
	if (category == nil) == (service == nil) { // ces-1
		return x, false
	}
	if category != nil {
		x.Code, x.Category = plain(category), true
	} else {
		x.Code = plain(service)
	}
	is := func(name string) bool { v := n.Get(name); return v != nil && v.Text == "true" }
	x.Excluded, x.Authorization = is("excluded"), is("authorizationRequired")
	x.Name, x.Description = short(n.GetText("name")), short(n.GetText("description"))
	switch code := n.At("network", "coding", "code"); {
	case code != nil && (code.Text == "in" || code.Text == "out"):
		x.Network = code.Text
	}
	for b := range n.Get("benefit").Items() {
		if len(x.Benefits) >= maxBenefits {
			break
		}
		x.Benefits = append(x.Benefits, Benefit{own: new(plain(b.Get("type"))), Allowed: readAmount(b, "allowed"), Used: readAmount(b, "used")})
	}
	return x, true
}

func readAmount(n *fhir.Node, name string) (a Amount) {
	if v := n.Get(name + "UnsignedInt"); v != nil {
		if count, err := strconv.Atoi(v.Text); err == nil && count >= 0 {
			return Count(count)
		}
	}
	if v := n.Get(name + "Money"); v != nil {
		if d, ok := fhir.ParseDecimal(textOf(v.Get("value"))); ok && v.GetText("currency") != "" {
			return Amount{Value: d.Rat(), Currency: v.GetText("currency")}
		}
	}
	return a
}

// plain is a CodeableConcept without anything but its codings and text.
func plain(n *fhir.Node) fhir.Node {
	codings := fhir.Arr()
	for c := range n.Get("coding").Items() {
		coding := fhir.Obj()
		for _, name := range []string{"system", "code", "display"} {
			if text := short(c.GetText(name)); text != "" {
				coding.Set(name, fhir.Str(text))
			}
		}
		if len(coding.Kids) > 0 && len(codings.Kids) < maxBenefits {
			codings.Kids = append(codings.Kids, coding)
		}
	}
	out := fhir.Obj()
	if len(codings.Kids) > 0 {
		out.Set("coding", codings)
	}
	if text := short(n.GetText("text")); text != "" {
		out.Set("text", fhir.Str(text))
	}
	if len(out.Kids) == 0 {
		out.Set("text", fhir.Str("unnamed"))
	}
	return out
}

func textOf(n *fhir.Node) string {
	if n == nil {
		return ""
	}
	return n.Text
}

// short is a text from outside, cut to what is kept of one.
func short(s string) string {
	if r := []rune(s); len(r) > maxText {
		s = string(r[:maxText])
	}
	return strings.TrimSpace(s)
}

// periodOf are the dates of a Period: those that its texts show, so that an end date without a time is inclusive.
func periodOf(p *fhir.Node) (from, to string) {
	date := func(text string, end bool) string {
		d, ok := fhir.ParseDateTime(text, time.UTC)
		switch {
		case !ok:
			return ""
		case len(text) >= len(time.DateOnly):
			return text[:len(time.DateOnly)]
		case end:
			return d.End().Add(-time.Second).Format(time.DateOnly)
		}
		return d.Time.Format(time.DateOnly)
	}
	return date(p.GetText("start"), false), date(p.GetText("end"), true)
}

// holds says whether a date lies in a period; both ends count.
func holds(from, to, date string) bool {
	return (from == "" || from <= date) && (to == "" || date <= to)
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
