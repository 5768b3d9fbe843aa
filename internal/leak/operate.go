package leak

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/resources"
)

// call is an operation that writes, or a resource that runs one when it is made (AppointmentResponse).
type call struct {
	name string
	// names are the types of the resources that it names.
	names []string
	// refused are the places in names where one that the caller cannot read is a reason to refuse it all. Elsewhere it must
	// only be as if it were not there.
	refused []int
	// ask makes the request of the ids of those resources and an instant.
	ask func(ids []string, at time.Time) Ask
}

func operate(typ, id, code string, parts ...string) Ask {
	return Ask{Request: resources.Request{Interaction: resources.Operate, Operation: code, Type: typ, ID: id},
		Body: `{"resourceType":"Parameters","parameter":[` + strings.Join(parts, ",") + `]}`}
}

func refersTo(name, key string) string {
	return `{"name":"` + name + `","valueReference":{"reference":"` + key + `"}}`
}

func valueOf(name, element, text string) string {
	return `{"name":"` + name + `","` + element + `":"` + text + `"}`
}

const why = `{"name":"reason","valueCodeableConcept":{"text":"x"}}`

// visit is an Appointment for $hold and $book.
func visit(status, patient, slot string) string {
	return `{"name":"appointment-resource","resource":{"resourceType":"Appointment","status":"` + status + `","slot":[{"reference":"Slot/` + slot +
		`"}],"participant":[{"actor":{"reference":"Patient/` + patient + `"},"status":"accepted"}]}}`
}

// calls are the operations that write. What is named after the first is of the first, where that is what it refers to.
func calls() []call {
	instant := func(at time.Time) string { return at.UTC().Format(time.RFC3339) }
	day := func(at time.Time, days int) string { return at.UTC().AddDate(0, 0, days).Format(time.DateOnly) }
	only := []string{"Appointment"}
	response := func(actor string) func([]string, time.Time) Ask {
		return func(ids []string, _ time.Time) Ask {
			return Ask{Request: resources.Request{Interaction: resources.Create, Type: "AppointmentResponse"},
				Body: `{"resourceType":"AppointmentResponse","appointment":{"reference":"Appointment/` + ids[0] + `"},"actor":{"reference":"` + actor + "/" + ids[1] + `"},"participantStatus":"declined","comment":"x"}`}
		}
	}
	return []call{
		{"$cancel", only, []int{0}, func(ids []string, _ time.Time) Ask { return operate("Appointment", ids[0], "cancel", why) }},
		{"$reschedule", only, []int{0}, func(ids []string, at time.Time) Ask {
			return operate("Appointment", ids[0], "reschedule", valueOf("start", "valueDateTime", instant(at)))
		}},
		{"$book of what is here", only, []int{0}, func(ids []string, _ time.Time) Ask {
			return operate("Appointment", "", "book", refersTo("appointment-reference", "Appointment/"+ids[0]))
		}},
		{"$hold of what is here", only, []int{0}, func(ids []string, _ time.Time) Ask {
			return operate("Appointment", "", "hold", refersTo("appointment-reference", "Appointment/"+ids[0]))
		}},
		{"$book", []string{"Patient", "Slot"}, []int{0}, func(ids []string, _ time.Time) Ask {
			return operate("Appointment", "", "book", visit("booked", ids[0], ids[1]))
		}},
		{"$hold", []string{"Patient", "Slot"}, []int{0}, func(ids []string, _ time.Time) Ask {
			return operate("Appointment", "", "hold", visit("proposed", ids[0], ids[1]))
		}},
		{"$book with a coverage", []string{"Coverage", "Patient", "Slot"}, []int{0, 1}, func(ids []string, _ time.Time) Ask {
			return operate("Appointment", "", "book", visit("booked", ids[1], ids[2]), refersTo("coverage", "Coverage/"+ids[0]))
		}},
		{"$find", []string{"Patient", "Practitioner"}, nil, func(ids []string, at time.Time) Ask {
			return operate("Appointment", "", "find", valueOf("start", "valueDateTime", day(at, 0)), valueOf("end", "valueDateTime", day(at, 7)),
				refersTo("patient-reference", "Patient/"+ids[0]), refersTo("practitioner", "Practitioner/"+ids[1]))
		}},
		{"$find in a schedule", []string{"Schedule"}, nil, func(ids []string, at time.Time) Ask {
			return operate("Appointment", "", "find", valueOf("start", "valueDateTime", day(at, 0)), valueOf("end", "valueDateTime", day(at, 7)), refersTo("schedule", "Schedule/"+ids[0]))
		}},
		{"AppointmentResponse of a patient", []string{"Appointment", "Patient"}, []int{0}, response("Patient")},
		{"AppointmentResponse of a practitioner", []string{"Appointment", "Practitioner"}, []int{0}, response("Practitioner")},
		{"$block", []string{"Schedule"}, []int{0}, func(ids []string, at time.Time) Ask {
			return operate("Schedule", ids[0], "block", valueOf("start", "valueDateTime", instant(at)), valueOf("end", "valueDateTime", instant(at.Add(8*time.Hour))), valueOf("resolve", "valueCode", "list"))
		}},
		{"$generate", []string{"Schedule"}, []int{0}, func(ids []string, at time.Time) Ask {
			return operate("Schedule", ids[0], "generate", valueOf("from", "valueDate", day(at, 0)), valueOf("to", "valueDate", day(at, 1)))
		}},
		{"$submit", []string{"Coverage", "Patient", "Organization"}, []int{0, 1}, func(ids []string, _ time.Time) Ask {
			return operate("CoverageEligibilityRequest", "", "submit", `{"name":"resource","resource":{"resourceType":"CoverageEligibilityRequest","status":"active","purpose":["validation"],"created":"2024-01-01","patient":{"reference":"Patient/`+ids[1]+
				`"},"insurer":{"reference":"Organization/`+ids[2]+`"},"insurance":[{"coverage":{"reference":"Coverage/`+ids[0]+`"}}]}}`)
		}},
		{"$merge", []string{"Patient", "Patient"}, []int{0, 1}, func(ids []string, _ time.Time) Ask {
			return operate("Patient", "", "merge", refersTo("source-patient", "Patient/"+ids[0]), refersTo("target-patient", "Patient/"+ids[1]), `{"name":"preview","valueBoolean":true}`)
		}},
	}
}

// operated is an operation that names something hidden, or one that names what the caller may read: then its answer must
// tell of nothing else. nil where there is nothing to name. Each operation has its turn.
func (w *writer) operated(ctx context.Context, turn int) (*attempt, error) {
	if turn %= len(w.calls) + 1; turn == len(w.calls) {
		return w.matched(), nil
	}
	c := w.calls[turn]
	at := w.world.visitTime(w.r)
	ids := make([]string, len(c.names))
	var first *fhir.Node
	all := true
	for i, typ := range c.names {
		n, err := w.met(ctx, typ, true)
		if err != nil {
			return nil, err
		}
		if first != nil && typ != first.ResourceType() && w.r.IntN(4) > 0 {
			if fits := w.world.referredTo(w.r, first, typ); fits != nil {
				if n = fits; all {
					if all, err = w.readable(ctx, keyOf(n)); err != nil {
						return nil, err
					}
				}
			}
		}
		if i == 0 {
			first = n
		}
		if ids[i] = never; n != nil {
			ids[i] = n.ID()
		}
		all = all && n != nil
	}
	if all && w.r.IntN(2) == 0 {
		return &attempt{kind: c.name + " of what is visible", ask: c.ask(ids, at), visible: true}, nil
	}
	place := w.r.IntN(len(c.names))
	typ := c.names[place]
	if !w.granted(ctx, typ) {
		return nil, nil
	}
	n, err := w.met(ctx, typ, false)
	if err != nil || n == nil || w.who.standsFor(keyOf(n)) || strings.Contains(w.who.Scopes.String(), keyOf(n)) {
		return nil, err
	}
	return w.both(c.name, n, slices.Contains(c.refused, place), func(id string) Ask {
		named := slices.Clone(ids)
		named[place] = id
		return c.ask(named, at)
	}), nil
}

// matched looks for a patient by all that is known of one, hidden or not.
func (w *writer) matched() *attempt {
	p := w.world.of(w.r, "Patient")
	if p == nil {
		return nil
	}
	return &attempt{kind: "$match", ask: operate("Patient", "", "match", `{"name":"resource","resource":`+without(p)+`}`), visible: true}
}

// referredTo is a resource of a type that another one refers to; nil for none.
func (w *World) referredTo(r *rand.Rand, n *fhir.Node, typ string) *fhir.Node {
	var list []*fhir.Node
	n.Walk(func(n *fhir.Node) bool {
		if n.Name == "reference" && strings.HasPrefix(n.Text, typ+"/") && w.byKey[n.Text] != nil {
			list = append(list, w.byKey[n.Text])
		}
		return true
	})
	if list == nil {
		return nil
	}
	return pick(r, list)
}

// may finds out which operations the caller may run at all: on nothing they fail, but for another reason.
func (w *writer) may(ctx context.Context) error {
	w.calls = nil
	for _, c := range calls() {
		ids := slices.Repeat([]string{never}, len(c.names))
		if c.name == "$merge" {
			ids[1] += "-either"
		}
		_, err := w.as(ctx, w.who, c.ask(ids, time.Now()))
		var e *fhir.Error
		switch kind := fhir.KindOf(err); {
		case err != nil && kind == fhir.Internal:
			return err
		case err != nil && kind == fhir.Forbidden && !(errors.As(err, &e) && e.Issues[0].Detail == "out-of-compartment"):
		default:
			w.calls = append(w.calls, c)
		}
	}
	w.r.Shuffle(len(w.calls), func(i, j int) { w.calls[i], w.calls[j] = w.calls[j], w.calls[i] })
	return nil
}

// met is a resource of a type that the caller can read, or cannot; nil where none is met.
func (w *writer) met(ctx context.Context, typ string, readable bool) (*fhir.Node, error) {
	for range 12 {
		n := w.world.of(w.r, typ)
		if n == nil {
			break
		}
		if is, err := w.readable(ctx, keyOf(n)); err != nil || is == readable {
			return n, err
		}
	}
	return nil, nil
}

// visitTime is when some Slot of the sample begins; a day of the next week where it has none.
func (w *World) visitTime(r *rand.Rand) time.Time {
	if slot := w.of(r, "Slot"); slot != nil {
		if at, err := time.Parse(time.RFC3339, slot.GetText("start")); err == nil {
			return at
		}
	}
	return time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 7)
}

// references finds references to resources in texts.
var references = regexp.MustCompile(`\b[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}`)

// keysIn are the resources, Type/id, that a text refers to.
func keysIn(text string) map[string]bool {
	keys := map[string]bool{}
	for _, key := range references.FindAllString(text, -1) {
		keys[strings.TrimRight(key, ".")] = true // which ends the sentence
	}
	return keys
}

// shown are the resources that a read names in those that the caller has named, as far as the caller reads them.
func (w *writer) shown(ctx context.Context, asked map[string]bool) (map[string]bool, error) {
	keys := map[string]bool{}
	for key := range asked {
		typ, id, _ := strings.Cut(key, "/")
		if w.world.byKey[key] == nil {
			continue
		}
		resp, err := w.as(ctx, w.who, Ask{Request: resources.Request{Interaction: resources.Read, Type: typ, ID: id}})
		switch fhir.KindOf(err) {
		case fhir.Internal, fhir.Transient:
			if err != nil {
				return nil, err
			}
		}
		if err == nil && resp.Version != nil {
			maps.Copy(keys, keysIn(string(resp.Version.Content)))
		}
	}
	return keys, nil
}

// tells says what an answer to a write tells of what its caller cannot read: a resource as it is stored, whole or within
// another, or one that a message names. Whose time is taken and which calendars are open may be told without a scope for
// those, and what was sent is no news, nor what a read shows of the resources that were named in it.
func (w *writer) tells(ctx context.Context, a *attempt, resp *resources.Response, failed error) (string, error) {
	var keys []string
	content := func(n *fhir.Node) {
		n.Walk(func(n *fhir.Node) bool {
			if n.Kind == fhir.Object && n.ResourceType() != "" && n.ID() != "" {
				keys = append(keys, keyOf(n))
			}
			return true
		})
	}
	var look func(*resources.Response)
	look = func(resp *resources.Response) {
		if resp == nil {
			return
		}
		if resp.Version != nil {
			keys = append(keys, resp.Version.Type+"/"+resp.Version.ID)
		}
		if resp.Resource != nil {
			content(resp.Resource)
		}
		if resp.Bundle == nil {
			return
		}
		for _, e := range resp.Bundle.Entries {
			if e.Version != nil {
				keys = append(keys, e.Version.Type+"/"+e.Version.ID)
				if n, err := fhir.ParseJSON(e.Version.Content); err == nil {
					content(n)
				}
			}
			look(e.Response)
		}
	}
	look(resp)
	if told := keysIn(messages(resp, failed)); len(told) > 0 {
		sent := keysIn(a.ask.String() + a.ask.Body)
		shown, err := w.shown(ctx, sent)
		if err != nil {
			return "", err
		}
		for key := range told {
			if typ, _, _ := strings.Cut(key, "/"); w.world.byKey[key] != nil && !sent[key] && !shown[key] && w.granted(ctx, typ) {
				keys = append(keys, key)
			}
		}
	}
	for _, key := range keys {
		if w.world.byKey[key] == nil { // made by the operation, or beyond the sample
			continue
		}
		if readable, err := w.readable(ctx, key); err != nil {
			return "", err
		} else if !readable {
			return "it tells of " + key + ", which a read does not show", nil
		}
	}
	return "", nil
}

// messages are the texts of an answer that is for people.
func messages(resp *resources.Response, err error) string {
	var b strings.Builder
	if err != nil {
		fmt.Fprintf(&b, "%s\n", describe(err))
	}
	if resp != nil {
		issues(&b, resp.Issues)
		if resp.Bundle != nil {
			issues(&b, resp.Bundle.Issues)
		}
	}
	return b.String()
}
