package resources

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage"
)

// This file is the topics that Subscriptions can name, and what makes an event of each. Spec: Subscriptions R5 Backport 1.1 for
// R4; FHIR R5 SubscriptionTopic.

// topicBase is what the canonical URLs of topics begin with.
const topicBase = fhir.CanonicalBase + "SubscriptionTopic/"

// filterExtension narrows a topic: a search of one type.
const filterExtension = backport + "backport-filter-criteria"

// topic is something that can happen to resources.
type topic struct {
	name, about string
	// filters are the search parameters that narrow it, by the types of its resources.
	filters map[string][]string
	// happened says whether a version is an event; before is nil where there was none, or it was deleted.
	happened func(before, after *fhir.Node) bool
}

// visitFilters narrow the topics of Appointments. Like all filters they are tokens and references, which can be looked for in
// any version of a resource.
var visitFilters = map[string][]string{"Appointment": {"actor", "appointment-type", "location", "patient", "practitioner", "service-category", "service-type", "specialty", "status"}}

// topics are those that there are.
var topics = []topic{
	{"appointment-created", "an Appointment is created, a hold too", visitFilters,
		func(before, _ *fhir.Node) bool { return before == nil }},
	{"appointment-status", "the status of an Appointment changes", visitFilters,
		func(before, after *fhir.Node) bool {
			return before != nil && before.GetText("status") != after.GetText("status")
		}},
	{"appointment-time", "the start or the end of an Appointment changes", visitFilters,
		func(before, after *fhir.Node) bool {
			return before != nil && (anotherInstant(before, after, "start") || anotherInstant(before, after, "end"))
		}},
	{"slot-freed", "a Slot that was not free becomes free; a new one has not been anything else", map[string][]string{"Slot": {"appointment-type", "schedule", "service-category", "service-type", "specialty"}},
		func(before, after *fhir.Node) bool {
			return before != nil && before.GetText("status") != "free" && after.GetText("status") == "free"
		}},
	{"result-final", "an Observation or a DiagnosticReport becomes final, or is created so", map[string][]string{
		"DiagnosticReport": {"category", "code", "encounter", "patient", "performer", "subject"},
		"Observation":      {"category", "code", "encounter", "patient", "performer", "subject"}},
		func(before, after *fhir.Node) bool {
			return after.GetText("status") == "final" && before.GetText("status") != "final"
		}},
}

// anotherInstant says whether an instant is another one, however it is written.
func anotherInstant(before, after *fhir.Node, name string) bool {
	return !instant(before.Get(name)).Equal(instant(after.Get(name)))
}

func (t *topic) url() string { return topicBase + t.name }

// types are those of the resources that a topic is about, in their order.
func (t *topic) types() (list []string) {
	for typ := range t.filters {
		list = append(list, typ)
	}
	slices.Sort(list)
	return list
}

// topicOf finds a topic by its URL; nil for none.
func topicOf(url string) *topic {
	for i := range topics {
		if topics[i].url() == url {
			return &topics[i]
		}
	}
	return nil
}

// TopicURLs are the canonical URLs of the topics, for the CapabilityStatement.
func TopicURLs() (list []string) {
	for i := range topics {
		list = append(list, topics[i].url())
	}
	return list
}

// topicTable writes the topics as markdown: docs/messages.md holds it, and a test compares the two.
func topicTable() string {
	var b strings.Builder
	b.WriteString("| topic | an event | filters |\n|---|---|---|\n")
	for i := range topics {
		t := &topics[i]
		var filters []string
		for _, typ := range t.types() {
			filters = append(filters, "`"+typ+"?` "+strings.Join(t.filters[typ], ", "))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", t.name, t.about, strings.Join(filters, "; "))
	}
	return b.String()
}

// readFilters reads the filters of a topic: searches by type. What is wrong with one is told by wrong.
func (t *topic) readFilters(list *fhir.Node, wrong func(text string)) map[string]string {
	filters := map[string]string{}
	for e := range list.Items() {
		if e.GetText("url") != filterExtension {
			continue
		}
		typ, criteria, ok := strings.Cut(e.GetText("valueString"), "?")
		allowed, is := t.filters[typ]
		pairs, err := search.ParsePairs(criteria)
		if !ok || !is || err != nil || len(pairs) == 0 {
			wrong("A filter is a search such as " + t.types()[0] + "?" + t.filters[t.types()[0]][0] + "=…, of a type that the topic is about: " + strings.Join(t.types(), ", "))
			continue
		}
		for _, p := range pairs {
			if !slices.Contains(allowed, p.Name) {
				wrong(quote(p.Name) + " is no filter of this topic for " + typ + ": those are " + strings.Join(allowed, ", ") + ", without modifiers")
			}
		}
		if filters[typ] != "" {
			filters[typ] += "&"
		}
		filters[typ] += criteria
	}
	return filters
}

// conditions are a filter as conditions on a version.
//
// Errors: Invalid for one that cannot be used.
func (s *Service) conditions(typ, filter string) (list []*search.Match, err error) {
	pairs, err := search.ParsePairs(filter)
	if err != nil || len(pairs) == 0 {
		return nil, err
	}
	q, err := search.Parse(pairs, catalog{s.store.Registry(), nil}, search.Options{Types: []string{typ}, ConditionsOnly: true, Now: s.now(), Zone: time.UTC})
	if err != nil {
		return nil, err
	}
	for _, e := range q.Where {
		m, ok := e.(*search.Match)
		if !ok || m.Modifier != "" {
			return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue, "A filter is a plain condition")
		}
		list = append(list, m)
	}
	return list, nil
}

// happenings are the changes that are events of a topic, each by the version that it made and the one before, and that pass the
// filters. Whether the subscriber may know of them is not looked at.
func (s *Service) happenings(ctx context.Context, tx *storage.Tx, h *hook, changes []storage.Change) (events []storage.Change, err error) {
	where := map[string][]*search.Match{}
	for typ, filter := range h.filters {
		if where[typ], err = s.conditions(typ, filter); err != nil {
			return nil, err
		}
	}
	before, after, err := tx.Transitions(everything(ctx), changes)
	if err != nil {
		return nil, err
	}
	for i, c := range changes {
		was, err := contentOf(before[i])
		if err != nil {
			return nil, err
		}
		is, err := contentOf(after[i])
		if err != nil {
			return nil, err
		}
		if is == nil || !h.topic.happened(was, is) {
			continue
		}
		if fits, err := s.store.Fits(is, where[c.Type]); err != nil || !fits {
			if err != nil {
				return nil, err
			}
			continue
		}
		events = append(events, c)
	}
	return events, nil
}

// contentOf is the content of a version; nil where there is none.
func contentOf(v *storage.Version) (*fhir.Node, error) {
	if v == nil || v.Deleted {
		return nil, nil
	}
	return fhir.ParseJSON(v.Content)
}
