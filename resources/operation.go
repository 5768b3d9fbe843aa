package resources

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"kiln/conformance"
	"kiln/fhir"
)

// Operate is the interaction of an operation, Request.Operation. Spec: FHIR R4 operations.html.
const Operate Interaction = "operation"

// operation is one operation on offer. What it is called, where it may be called and what it takes stands in its
// OperationDefinition; run is what it does.
type operation struct {
	*conformance.Operation
	run func(context.Context, *call) (*Response, error)
}

// call is one call of an operation, with arguments that fit its definition.
type call struct {
	// Request is who asks, and about which type or instance. Query and Body have become the arguments.
	*Request
	definition *conformance.Operation
	arguments
	// cursor is the place that a paging link carries, for operations whose answers have pages.
	cursor string
	// criteria are the search parameters of the URL, for operations that take them.
	criteria string
}

// offer lists the operations of the server: the id of the definition and what it does. Routes, CapabilityStatement and
// documentation follow from it.
func (s *Service) offer() map[string]func(context.Context, *call) (*Response, error) {
	return map[string]func(context.Context, *call) (*Response, error){
		"reindex":        s.startReindex,
		"reindex-status": s.reindexStatus,

		"break-glass-grants": s.listGlasses,
		"break-glass-review": s.reviewGlass,

		"Resource-validate":    s.validateResource,
		"Resource-meta":        s.meta,
		"Resource-meta-add":    s.metaAdd,
		"Resource-meta-delete": s.metaDelete,
		"Resource-diff":        s.diff,
		"Resource-graphql":     s.graphql,
		"Composition-document": s.document,
		"Patient-everything":   s.everything,
		"Group-everything":     s.everythingOfGroup,
		"Patient-match":        s.matchPatients,
		"Patient-merge":        s.mergePatients,
		"Encounter-everything": s.everything,
		"summary":              s.summary,
		"docref":               s.docref,
		"Observation-lastn":    s.lastn,

		"Appointment-find":       s.findAppointments,
		"Appointment-hold":       s.holdAppointment,
		"Appointment-book":       s.bookAppointment,
		"Appointment-reschedule": s.rescheduleAppointment,
		"Appointment-cancel":     s.cancelAppointment,
		"Appointment-affected":   s.affectedAppointments,
		"Schedule-generate":      s.generateSlots,
		"Schedule-block":         s.blockTime,

		"Subscription-status": s.subscriptionStatus,
		"Subscription-events": s.subscriptionEvents,

		"CoverageEligibilityRequest-submit": s.submitEligibility,

		"ValueSet-expand":          s.expand,
		"ValueSet-validate-code":   s.validateInSet,
		"CodeSystem-validate-code": s.validateInSystem,
		"CodeSystem-lookup":        s.lookup,
		"CodeSystem-subsumes":      s.subsumes,
		"ConceptMap-translate":     s.translate,
	}
}

// graphqlID is the definition of the one operation whose question and answer are no FHIR.
const graphqlID = "Resource-graphql"

// loadOperations reads the definitions of what is on offer.
func (s *Service) loadOperations() error {
	for id, run := range s.offer() {
		definition, err := s.registry.Operation(id)
		if err != nil {
			return err
		}
		definition.AffectsState = definition.AffectsState || writing[id]
		definition.Searches = searching[id]
		s.operations = append(s.operations, &operation{definition, run})
	}
	slices.SortFunc(s.operations, func(a, b *operation) int {
		return cmp.Or(strings.Compare(a.Code, b.Code), strings.Compare(a.ID, b.ID))
	})
	return nil
}

// writing are the operations that change something, though R4 does not say so of them.
var writing = map[string]bool{"Resource-meta-add": true, "Resource-meta-delete": true}

// searching are the operations that take search parameters, which their definitions tell in words alone.
var searching = map[string]bool{"Observation-lastn": true}

// Operations are the definitions of the operations on offer, by code.
func (s *Service) Operations() []*conformance.Operation {
	list := make([]*conformance.Operation, len(s.operations))
	for i, o := range s.operations {
		list[i] = o.Operation
	}
	return list
}

// Operation is the definition of what a request for $code would run at the system (typ and id are ""), at a type, or
// at an instance; nil where nothing is offered there.
func (s *Service) Operation(code, typ, id string) *conformance.Operation {
	if o := s.operation(code, typ, id); o != nil {
		return o.Operation
	}
	return nil
}

func (s *Service) operation(code, typ, id string) *operation {
	for _, o := range s.operations {
		if o.Code != code {
			continue
		}
		switch {
		case typ == "" && o.System, typ != "" && id == "" && o.Type && o.On(typ), id != "" && o.Instance && o.On(typ):
			return o
		}
	}
	return nil
}

// operate runs an operation.
//
// Errors: NotFound where it is not offered; Invalid with everything that is wrong with the arguments.
func (s *Service) operate(ctx context.Context, r Request) (*Response, error) {
	o := s.operation(r.Operation, r.Type, r.ID)
	if o == nil {
		return nil, s.noOperation(&r)
	}
	if r.ID != "" && !fhir.ValidID(r.ID) {
		return nil, checkOwnID(r.Type, r.ID)
	}
	c := &call{Request: &r, definition: o.Operation}
	if o.Parameter("_count") != nil {
		c.cursor = takeCursor(&r)
	}
	if o.Searches {
		c.criteria, r.Query = splitCriteria(o.Operation, r.Query)
	}
	if o.ID == graphqlID { // its arguments are those of GraphQL
		return o.run(ctx, c)
	}
	var err error
	if c.arguments, err = s.readArguments(o.Operation, &r); err != nil {
		return nil, err
	}
	return o.run(ctx, c)
}

// takeCursor takes the place of a paging link out of the query. It is no argument: no definition knows of it.
func takeCursor(r *Request) (cursor string) {
	kept := make([]string, 0, 8)
	for pair := range strings.SplitSeq(r.Query, "&") {
		if value, is := strings.CutPrefix(pair, "_cursor="); is {
			if v, err := url.QueryUnescape(value); err == nil {
				value = v
			}
			cursor = value
			continue
		}
		kept = append(kept, pair)
	}
	r.Query = strings.Join(kept, "&")
	return cursor
}

// splitCriteria divides the query of an operation that takes search parameters into those and its arguments.
func splitCriteria(o *conformance.Operation, query string) (criteria, arguments string) {
	var search, own []string
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		if o.Parameter(name) != nil {
			own = append(own, pair)
		} else if pair != "" {
			search = append(search, pair)
		}
	}
	return strings.Join(search, "&"), strings.Join(own, "&")
}

func (s *Service) noOperation(r *Request) *fhir.Error {
	at := "the whole server"
	switch {
	case r.ID != "":
		at = "one " + r.Type
	case r.Type != "":
		at = "the type " + r.Type
	}
	text := fmt.Sprintf("The operation %s is not offered for %s", quote("$"+r.Operation), at)
	var elsewhere []string
	for _, o := range s.operations {
		if o.Code == r.Operation {
			elsewhere = append(elsewhere, places(o.Operation)...)
		}
	}
	if len(elsewhere) > 0 {
		slices.Sort(elsewhere)
		text += "; it is at " + strings.Join(slices.Compact(elsewhere), ", ")
	}
	return fhir.NewError(fhir.NotFound, fhir.CodeNotSupported, text)
}

// places are the paths of an operation, for people.
func places(o *conformance.Operation) []string {
	var list []string
	if o.System {
		list = append(list, "/$"+o.Code)
	}
	types := o.Resources
	if slices.Contains(types, "Resource") || slices.Contains(types, "DomainResource") {
		types = []string{"[type]"}
	}
	for _, t := range types {
		if o.Type {
			list = append(list, "/"+t+"/$"+o.Code)
		}
		if o.Instance {
			list = append(list, "/"+t+"/[id]/$"+o.Code)
		}
	}
	return list
}

// parameters makes the answer of an operation with several out-parameters.
func parameters(list ...fhir.Node) *fhir.Node {
	n := fhir.Obj(fhir.Str("Parameters").As("resourceType"))
	if len(list) > 0 {
		n.Set("parameter", fhir.Arr(list...))
	}
	return &n
}
