package coverage

import (
	"slices"
	"strings"
	"time"

	"kiln/fhir"
)

// The purposes of a question. Spec: CodeSystem eligibilityrequest-purpose.
const (
	Validation   = "validation"
	Benefits     = "benefits"
	AuthRequired = "auth-requirements"
	Discovery    = "discovery"
)

// Question is a CoverageEligibilityRequest together with what it refers to.
type Question struct {
	// Request is the CoverageEligibilityRequest, with its id.
	Request *fhir.Node
	// Coverages are those that it asks about, Payor the Organization that is asked; nil where it is only named.
	Coverages []*fhir.Node
	Payor     *fhir.Node
	Patient   *fhir.Node
	// Provider is the Practitioner of the visit; nil for none.
	Provider *fhir.Node
	// Endpoint is the address of the payor's FHIR server, Hooks that of its CDS services, each or "".
	Endpoint, Hooks string
	// From and To are the first and last date that it asks about, as YYYY-MM-DD.
	From, To string
	Items    []Item
	Asked    time.Time
	// Ours says that a client put the question, not a booking: then no visit is going to be added by it.
	Ours bool
}

// Item is one service that a question asks about.
type Item struct {
	// Code is a CodeableConcept; Category says that it is one of benefits, not of services.
	Code     fhir.Node
	Category bool
	// Provider is a relative reference, or "".
	Provider string
}

// Wants says whether the question has a purpose.
func (q *Question) Wants(purpose string) bool {
	for p := range q.Request.Get("purpose").Items() {
		if p.Text == purpose {
			return true
		}
	}
	return false
}

// Draft is what a booking asks: a CoverageEligibilityRequest in the making.
type Draft struct {
	ID, Patient, Coverage string
	// Insurer is the Coverage's payor, a Reference.
	Insurer *fhir.Node
	// Date is that of the visit, as YYYY-MM-DD.
	Date string
	// Start and End are those of the visit.
	Start, End time.Time
	Provider   string
	Facility   string
	// Service is a CodeableConcept without codings where nothing is known of it.
	Service fhir.Node
	Created time.Time
}

// Key says what a draft asks about a coverage: two with the same key have the same answer.
func (d *Draft) Key() string { return d.Date + "|" + Keys(&d.Service) + "|" + d.Provider }

// Keys are the codings of a CodeableConcept as one text.
func Keys(concept *fhir.Node) string {
	var list []string
	for c := range concept.Get("coding").Items() {
		list = append(list, c.GetText("system")+"#"+c.GetText("code"))
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), ",")
}

// Node is the draft as a CoverageEligibilityRequest.
func (d *Draft) Node() fhir.Node {
	ref := func(to string) fhir.Node { return fhir.Obj(fhir.Str(to).As("reference")) }
	insurer := fhir.Obj(fhir.Str("The payer of the coverage").As("display"))
	if name := d.Insurer.GetText("display"); name != "" {
		insurer = fhir.Obj(fhir.Str(name).As("display"))
	}
	if to := d.Insurer.GetText("reference"); strings.HasPrefix(to, "Organization/") {
		insurer = ref(to)
	}
	n := fhir.Obj(fhir.Str("CoverageEligibilityRequest").As("resourceType"), fhir.Str(d.ID).As("id"), fhir.Str("active").As("status"),
		fhir.Arr(fhir.Str(Validation), fhir.Str(Benefits), fhir.Str(AuthRequired)).As("purpose"), ref(d.Patient).As("patient"),
		fhir.Str(d.Date).As("servicedDate"), fhir.Str(fhir.FormatInstant(d.Created)).As("created"))
	if !d.Start.IsZero() && d.End.After(d.Start) {
		period := fhir.Obj(fhir.Str(fhir.FormatInstant(d.Start)).As("start"), fhir.Str(fhir.FormatInstant(d.End)).As("end"))
		n.Set("extension", fhir.Arr(fhir.Obj(fhir.Str(ExtensionVisitPeriod).As("url"), period.As("valuePeriod"))))
	}
	if d.Provider != "" {
		n.Set("provider", ref(d.Provider))
	}
	n.Set("insurer", insurer)
	if d.Facility != "" {
		n.Set("facility", ref(d.Facility))
	}
	n.Set("insurance", fhir.Arr(fhir.Obj(fhir.Boolean(true).As("focal"), ref(d.Coverage).As("coverage"))))
	if d.Service.Get("coding") != nil {
		item := fhir.Obj(d.Service.As("productOrService"))
		if d.Provider != "" {
			item.Set("provider", ref(d.Provider))
		}
		n.Set("item", fhir.Arr(item))
	}
	return n
}

// Dates are the first and last date that a request asks about; without any, that of its making.
func Dates(request *fhir.Node) (from, to string) {
	if d := request.GetText("servicedDate"); d != "" {
		return dayOf(d, false), dayOf(d, true)
	}
	from, to = periodOf(request.Get("servicedPeriod"))
	switch made := request.GetText("created"); {
	case from == "" && to == "":
		return dayOf(made, false), dayOf(made, true)
	case from == "":
		from = to
	case to == "":
		to = from
	}
	return from, to
}

// ItemsOf are the services that a request asks about.
func ItemsOf(request *fhir.Node) (list []Item) {
	for n := range request.Get("item").Items() {
		item := Item{Provider: n.Get("provider").GetText("reference")}
		if item.Provider == "" {
			item.Provider = request.Get("provider").GetText("reference")
		}
		switch code := n.Get("productOrService"); {
		case code != nil:
			item.Code = code.Clone()
		case n.Get("category") != nil:
			item.Code, item.Category = n.Get("category").Clone(), true
		default:
			continue
		}
		list = append(list, item)
	}
	return list
}

// anyService is what an answer is about where the question names no service.
func anyService() Item { return Item{Code: fhir.Obj(fhir.Str("Any service").As("text"))} }

// IsSelfPay says whether a Coverage is the promise to pay oneself. Spec: CodeSystem coverage-selfpay.
func IsSelfPay(coverage *fhir.Node) bool {
	for c := range coverage.At("type", "coding").Items() {
		if c.GetText("system") == SelfPaySystem && c.GetText("code") == "pay" {
			return true
		}
	}
	return false
}

// SelfPaySystem is the code system of the type of a Coverage that is no insurance.
const SelfPaySystem = "http://terminology.hl7.org/CodeSystem/coverage-selfpay"

// MemberID is what the payer knows the insured by: the subscriberId, else the first identifier.
func MemberID(coverage *fhir.Node) string {
	if id := coverage.GetText("subscriberId"); id != "" {
		return id
	}
	return textOf(coverage.At("identifier", "value"))
}
