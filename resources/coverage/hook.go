package coverage

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"kiln/fhir"
)

// This file is what the CDS service of a payer is asked before a booking. Spec: CDS Hooks 2.0, "Discovery" and "Calling a CDS
// Service"; hook appointment-book 1.0; Da Vinci CRD 2.1.

// HookBook is the hook that is called before a visit is booked.
const HookBook = "appointment-book"

// ExtensionVisitPeriod says, on a CoverageEligibilityRequest, from when to when the visit is: servicedDate has no time.
const ExtensionVisitPeriod = fhir.CanonicalBase + "StructureDefinition/visit-period"

// What is taken of a discovery.
const (
	maxServices = 100
	maxPrefetch = 20
	maxTemplate = 500
)

// HookService is a CDS service, as the discovery of its server describes it.
type HookService struct {
	// ID is the last segment of its address.
	ID       string
	prefetch []prefetch
}

// prefetch is something that a service wants to be sent along.
type prefetch struct{ key, template string }

// ReadServices finds the service for the hook appointment-book in a discovery; nil where there is none. ok is false for what
// is no discovery.
func ReadServices(n *fhir.Node) (h *HookService, ok bool) {
	services := n.Get("services")
	if services == nil || services.Kind != fhir.Array {
		return nil, false
	}
	for i, s := range services.Kids {
		id := s.Get("id")
		if i >= maxServices {
			break
		}
		if s.GetText("hook") != HookBook || id == nil || id.Kind != fhir.String || !isSegment(id.Text) {
			continue
		}
		h := &HookService{ID: id.Text}
		if templates := s.Get("prefetch"); templates != nil && templates.Kind == fhir.Object {
			for _, t := range templates.Kids {
				if t.Kind == fhir.String && len(t.Text) <= maxTemplate && len(h.prefetch) < maxPrefetch {
					h.prefetch = append(h.prefetch, prefetch{t.Name, t.Text})
				}
			}
		}
		return h, true
	}
	return nil, true
}

// isSegment says whether a text can be a segment of a path as it is, and leads nowhere else.
func isSegment(s string) bool {
	return s != "" && len(s) <= 200 && strings.Trim(s, ".") != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._~", c)
	})
}

// Request is the call that puts a question to a service.
func (h *HookService) Request(q *Question) fhir.Node {
	about := fhir.Obj(fhir.Str(q.user()).As("userId"), fhir.Str(q.Patient.ID()).As("patientId"),
		fhir.Obj(fhir.Str("Bundle").As("resourceType"), fhir.Str("collection").As("type"),
			fhir.Arr(fhir.Obj(q.proposed().As("resource"))).As("entry")).As("appointments"))
	n := fhir.Obj(fhir.Str(HookBook).As("hook"), fhir.Str(uuid.NewString()).As("hookInstance"), about.As("context"))
	found := fhir.Obj()
	for _, p := range h.prefetch {
		if r, ok := q.fetch(p.template); ok {
			found.Kids = append(found.Kids, r.As(p.key))
		}
	}
	if len(found.Kids) > 0 {
		n.Set("prefetch", found)
	}
	return n
}

// user is whom the payer is told of as the user: the practitioner of the visit, else the patient. Who sits at the keyboard is
// none of its business, and nobody does when it is asked again.
func (q *Question) user() string {
	if q.Provider != nil {
		return "Practitioner/" + q.Provider.ID()
	}
	return "Patient/" + q.Patient.ID()
}

// proposed is the visit that a question is about, with what a payer may know of it. Its id is that of the question.
func (q *Question) proposed() fhir.Node {
	n := fhir.Obj(fhir.Str("Appointment").As("resourceType"), fhir.Str(q.Request.ID()).As("id"), fhir.Str("proposed").As("status"))
	services := fhir.Arr()
	for _, i := range q.Items {
		if !i.Category {
			services.Kids = append(services.Kids, plain(&i.Code))
		}
	}
	if len(services.Kids) > 0 {
		n.Set("serviceType", services)
	}
	start, end := q.Visit()
	n.Set("start", fhir.Str(start))
	n.Set("end", fhir.Str(end))
	takes := func(name, status string) fhir.Node {
		return fhir.Obj(reference(name).As("actor"), fhir.Str("required").As("required"), fhir.Str(status).As("status"))
	}
	list := fhir.Arr(takes("Patient/"+q.Patient.ID(), "accepted"))
	if q.Provider != nil {
		list.Kids = append(list.Kids, takes("Practitioner/"+q.Provider.ID(), "needs-action"))
	}
	n.Set("participant", list)
	n.Set("requestedPeriod", fhir.Arr(fhir.Obj(fhir.Str(start).As("start"), fhir.Str(end).As("end"))))
	return n
}

// Visit is from when to when the visit is that a question is about; "" where it is about none.
func (q *Question) Visit() (start, end string) {
	period := extension(q.Request, ExtensionVisitPeriod).Get("valuePeriod")
	if start, end = period.GetText("start"), period.GetText("end"); start == "" || end == "" {
		return "", ""
	}
	return start, end
}

// Parties are those whom a question is about, with what a payer has to know of them, and nothing else: the patient, the
// coverages that are asked about, the practitioner and the payor.
func (q *Question) Parties() (list []fhir.Node) {
	add := func(n *fhir.Node, elements ...string) {
		if n != nil {
			list = append(list, partOf(n, elements...))
		}
	}
	add(q.Patient, "name", "gender", "birthDate")
	for _, c := range q.Coverages {
		add(c, "identifier", "status", "type", "subscriberId", "beneficiary", "dependent", "relationship", "period", "payor", "class", "network")
	}
	add(q.Provider, "identifier", "name")
	add(q.Payor, "identifier", "name")
	return list
}

// partOf is a resource with some of its elements.
func partOf(n *fhir.Node, elements ...string) fhir.Node {
	out := fhir.Obj()
	for _, name := range append([]string{"resourceType", "id"}, elements...) {
		if v := n.Get(name); v != nil {
			out.Set(name, v.Clone())
		}
	}
	return out
}

// fetch resolves a prefetch template among the parties of a question, and nowhere else: whatever a template asks for, nothing
// of anybody else comes out. ok is false for one that is not resolved; its key is left out then.
func (q *Question) fetch(template string) (found fhir.Node, ok bool) {
	query, ok := q.fill(template)
	if !ok {
		return found, false
	}
	parties := q.Parties()
	path, search, isSearch := strings.Cut(query, "?")
	if !isSearch {
		typ, id, _ := strings.Cut(path, "/")
		i := slices.IndexFunc(parties, func(n fhir.Node) bool { return n.ResourceType() == typ && n.ID() == id })
		if i < 0 {
			return found, false
		}
		return parties[i], true
	}
	values, err := url.ParseQuery(search)
	if err != nil || !slices.Contains([]string{"Patient", "Coverage", "Practitioner", "Organization"}, path) {
		return found, false
	}
	entries, payors := fhir.Arr(), false
	for _, n := range parties {
		fits := n.ResourceType() == path
		for name, list := range values {
			for _, value := range list {
				alternatives := strings.Split(value, ",")
				switch {
				case name == "_id":
					fits = fits && slices.ContainsFunc(alternatives, func(v string) bool { return strings.TrimPrefix(v, path+"/") == n.ID() })
				case path == "Coverage" && (name == "patient" || name == "beneficiary"):
					fits = fits && strings.TrimPrefix(value, "Patient/") == q.Patient.ID()
				case path == "Coverage" && name == "status":
					fits = fits && slices.Contains(alternatives, n.GetText("status"))
				case path == "Coverage" && name == "_include" && (value == "Coverage:payor" || value == "Coverage:payor:Organization"):
					payors = true
				default:
					return found, false
				}
			}
		}
		if fits {
			entries.Kids = append(entries.Kids, fhir.Obj(n.As("resource"), fhir.Obj(fhir.Str("match").As("mode")).As("search")))
		}
	}
	bundle := fhir.Obj(fhir.Str("Bundle").As("resourceType"), fhir.Str("searchset").As("type"), fhir.Num(strconv.Itoa(len(entries.Kids))).As("total"))
	if payors && len(entries.Kids) > 0 && q.Payor != nil {
		payor := parties[len(parties)-1]
		entries.Kids = append(entries.Kids, fhir.Obj(payor.As("resource"), fhir.Obj(fhir.Str("include").As("mode")).As("search")))
	}
	if len(entries.Kids) > 0 {
		bundle.Set("entry", entries)
	}
	return bundle, true
}

// fill puts the context into the tokens of a template; ok is false where one is not known.
func (q *Question) fill(template string) (filled string, ok bool) {
	var b strings.Builder
	for {
		before, rest, more := strings.Cut(template, "{{")
		if b.WriteString(before); !more {
			return b.String(), true
		}
		token, after, closed := strings.Cut(rest, "}}")
		if !closed {
			return "", false
		}
		user, id, _ := strings.Cut(q.user(), "/")
		switch token = strings.TrimSpace(token); {
		case token == "context.patientId":
			b.WriteString(q.Patient.ID())
		case token == "context.userId":
			b.WriteString(q.user())
		case token == "user"+user+"Id": // userPractitionerId, userPatientId
			b.WriteString(id)
		default:
			return "", false
		}
		template = after
	}
}
