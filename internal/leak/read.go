package leak

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"kiln/fhir"
	"kiln/resources"
)

// Read makes one request that reads: any interaction, operation and kind of search that shows what is stored.
func (w *World) Read(r *rand.Rand) Ask {
	n := w.one(r)
	typ, id := n.ResourceType(), n.ID()
	if r.IntN(12) == 0 {
		id = "nothing-has-this-id"
	}
	switch r.IntN(24) {
	case 0, 9:
		return Ask{Request: resources.Request{Interaction: resources.Read, Type: typ, ID: id}}
	case 1:
		return Ask{Request: resources.Request{Interaction: resources.VRead, Type: typ, ID: id, Version: fmt.Sprint(1 + r.IntN(3))}}
	case 2:
		return w.history(r, resources.Request{Interaction: resources.HistoryInstance, Type: typ, ID: id})
	case 3:
		return w.history(r, resources.Request{Interaction: resources.HistoryType, Type: typ})
	case 4:
		return w.history(r, resources.Request{Interaction: resources.HistorySystem})
	case 5:
		return w.compartment(r)
	case 6:
		return w.system(r)
	case 7:
		return w.operation(r)
	case 8:
		return w.batch(r)
	case 10, 11, 12:
		if a, ok := w.record(r, typ); ok {
			return a
		}
		fallthrough
	default:
		return w.search(r, typ)
	}
}

func (w *World) history(r *rand.Rand, request resources.Request) Ask {
	a := Ask{Request: request}
	if r.IntN(2) == 0 {
		a.Params = append(a.Params, fixed(fmt.Sprintf("_count=%d", r.IntN(6)))...)
	}
	if r.IntN(4) == 0 {
		a.Params = append(a.Params, fixed(pick(r, []string{"_since=2020-01-01", "_at=2026", "_since=2030-01-01"}))...)
	}
	return a
}

// compartment searches in the compartment of anybody.
func (w *World) compartment(r *rand.Rand) Ask {
	owner := w.of(r, pick(r, []string{"Patient", "Patient", "Encounter", "Practitioner", "RelatedPerson", "Device"}))
	if owner == nil {
		owner = w.one(r)
	}
	a := Ask{Request: resources.Request{Interaction: resources.SearchType, Compartment: owner.ResourceType(), CompartmentID: owner.ID(), Type: pick(r, w.types)}}
	if r.IntN(2) == 0 {
		a.Interaction, a.Type = resources.SearchSystem, ""
	} else {
		a.Params = w.shape(r, a.Type)
	}
	return a
}

// record searches a patient's record for what a resource of a type has, as apps do most: the patient and a code or category, or nothing else, the
// latest first.
func (w *World) record(r *rand.Rand, typ string) (Ask, bool) {
	n, patient := w.of(r, typ), w.of(r, "Patient")
	if n == nil || patient == nil || w.registry.SearchParameter(typ, "patient") == nil {
		return Ask{}, false
	}
	a := Ask{Request: resources.Request{Interaction: resources.SearchType, Type: typ}, Params: fixed("patient=" + patient.ID())}
	for range r.IntN(3) {
		if p := w.condition(r, n); p.Name == "code" || p.Name == "category" || p.Name == "status" {
			a.Params = append(a.Params, p)
		}
	}
	if w.registry.SearchParameter(typ, "date") != nil && r.IntN(2) == 0 {
		a.Params = append(a.Params, fixed("_sort=-date")...)
	}
	if r.IntN(3) == 0 {
		a.Params = append(a.Params, fixed("_count=5")...)
	}
	return a, true
}

// system searches several types.
func (w *World) system(r *rand.Rand) Ask {
	a := Ask{Request: resources.Request{Interaction: resources.SearchSystem}}
	types := pick(r, w.types)
	for range r.IntN(3) {
		if t := pick(r, w.types); !strings.Contains(types, t) {
			types += "," + t
		}
	}
	a.Params = append(a.Params, fixed("_type="+types)...)
	if r.IntN(2) == 0 {
		n := w.one(r)
		a.Params = append(a.Params, Param{"_content", word(r, n), "a word of " + keyOf(n)})
	}
	if r.IntN(2) == 0 {
		a.Params = append(a.Params, fixed(pick(r, []string{"_sort=_lastUpdated", "_sort=-_id", "_total=accurate", "_summary=count", "_count=3"}))...)
	}
	return a
}

// operation runs an operation that reads.
func (w *World) operation(r *rand.Rand) Ask {
	n := w.one(r)
	run := func(code string, n *fhir.Node, params ...string) Ask {
		return Ask{Request: resources.Request{Interaction: resources.Operate, Operation: code, Type: n.ResourceType(), ID: n.ID(), Safe: true}, Params: fixed(params...)}
	}
	switch r.IntN(16) {
	case 14:
		return Ask{Request: resources.Request{Interaction: resources.Operate, Operation: "graphql", Safe: true}, Body: `{"query":` + jsonText(pick(r, []string{
			`{ PatientConnection(_count: 3) { count edges { resource { id name { family } } } } }`,
			`{ ObservationList(_count: 9) { id subject { resource(optional: true) { ... on Patient { id name { family } } } } } }`,
			`{ AppointmentList(_count: 9) { id participant { actor { reference display resource(optional: true) { resourceType id } } } } }`,
			`{ ` + n.ResourceType() + `(id: "` + n.ID() + `") { id meta { versionId } } }`,
			`{ ` + n.ResourceType() + `List(_count: 7) { id ProvenanceList(_reference: target) { id } } }`})) + `}`}
	case 15:
		if p := w.of(r, "Patient"); p != nil {
			a := run("graphql", p)
			a.Body = `{"query":` + jsonText(`{ id name { family } generalPractitioner { resource(optional: true) { resourceType id } } ObservationList(_reference: subject, _count: 5) { id }
AppointmentConnection(_reference: actor) { count edges { resource { id participant { actor { reference resource(optional: true) { id } } } } } } ConsentList(_reference: patient) { id status } }`) + `}`
			return a
		}
	case 13: // of whom it is, who asks decides: the order is theirs, so it is compared between two databases, and read here
		all := Ask{Request: resources.Request{Interaction: resources.Operate, Operation: "everything", Type: "Patient", Safe: true},
			Params: fixed(pick(r, [][]string{nil, {"_count=3"}, {"_type=Observation,Appointment"}, {"_type=Provenance", "_count=5"}, {"start=2000-01-01", "end=2024-06-01"}})...)}
		if g := w.of(r, "Group"); g != nil && r.IntN(3) == 0 {
			all.Type, all.ID = "Group", g.ID()
		}
		return all
	case 12:
		if p := w.of(r, "Patient"); p != nil {
			return Ask{Request: resources.Request{Interaction: resources.Operate, Operation: "lastn", Type: "Observation", Safe: true},
				Params: fixed(append([]string{"patient=" + p.ID()}, pick(r, [][]string{nil, {"max=3"}, {"subject:Patient.active=true"}, {"date=lt2024-06-01"}})...)...)}
		}
	case 11:
		if p := w.of(r, "Patient"); p != nil {
			return Ask{Request: resources.Request{Interaction: resources.Operate, Operation: "docref", Type: "DocumentReference", Safe: true},
				Params: fixed(append([]string{"patient=" + p.ID()}, pick(r, [][]string{nil, {"start=2000-01-01", "end=2024-06-01"}})...)...)}
		}
	case 9:
		if p := w.of(r, "Patient"); p != nil {
			return run("summary", p)
		}
	case 10:
		if p := w.of(r, "Patient"); p != nil {
			asked := p.Clone()
			asked.Remove("id")
			return Ask{Request: resources.Request{Interaction: resources.Operate, Operation: "match", Type: "Patient", Safe: true},
				Body: `{"resourceType":"Parameters","parameter":[{"name":"resource","resource":` + string(asked.JSON()) + `}]}`}
		}
	case 0, 1:
		if p := w.of(r, "Patient"); p != nil {
			return run("everything", p, pick(r, [][]string{nil, {"_count=3"}, {"_since=2000-01-01T00:00:00Z"}, {"_type=Observation,Patient,Practitioner"}, {"start=2000-01-01", "end=2024-06-01"}})...)
		}
	case 2:
		if e := w.of(r, "Encounter"); e != nil {
			return run("everything", e)
		}
	case 3:
		if c := w.of(r, "Composition"); c != nil {
			return run("document", c)
		}
	case 4:
		return run("diff", n, pick(r, [][]string{nil, {"from=1", "to=2"}, {"from=1"}})...)
	case 5:
		return run("validate", n)
	case 6:
		if c := pick(r, w.terminology()); c != nil {
			switch c.ResourceType() {
			case "ValueSet":
				return run("expand", c)
			case "CodeSystem":
				return Ask{Request: resources.Request{Interaction: resources.Operate, Operation: "lookup", Type: "CodeSystem", Safe: true},
					Params: fixed("system="+c.GetText("url"), "code="+firstCode(c))}
			}
		}
	case 7:
		a := Ask{Request: resources.Request{Interaction: resources.Operate, Operation: pick(r, []string{"reindex-status", "everything", "meta"}), Safe: true}}
		if a.Operation == "meta" && r.IntN(2) == 0 {
			a.Type = n.ResourceType()
		}
		return a
	}
	return run("meta", n)
}

func (w *World) terminology() []*fhir.Node {
	list := append([]*fhir.Node{nil}, w.byType["ValueSet"]...)
	return append(list, w.byType["CodeSystem"]...)
}

func firstCode(c *fhir.Node) string {
	for concept := range c.Get("concept").Items() {
		return concept.GetText("code")
	}
	return "none"
}

// batch asks several things at once.
func (w *World) batch(r *rand.Rand) Ask {
	kind, interaction := "batch", resources.Batch
	if r.IntN(3) == 0 {
		kind, interaction = "transaction", resources.Transaction
	}
	var entries []string
	for range 1 + r.IntN(3) {
		a := w.search(r, pick(r, w.types))
		target := a.Type + "?" + encode(a.Params)
		switch r.IntN(3) {
		case 0:
			n := w.one(r)
			target = keyOf(n)
		case 1:
			n := w.one(r)
			target = keyOf(n) + "/_history/1"
		}
		entries = append(entries, `{"request":{"method":"GET","url":`+jsonText(target)+`}}`)
	}
	return Ask{Request: resources.Request{Interaction: interaction},
		Body: `{"resourceType":"Bundle","type":"` + kind + `","entry":[` + strings.Join(entries, ",") + `]}`}
}

func jsonText(s string) string { n := fhir.Str(s); return string(n.JSON()) }

func quoted(s string) string { return `"` + strings.NewReplacer(`\`, ``, `"`, ``).Replace(s) + `"` }

// word is a word of the text of a resource.
func word(r *rand.Rand, n *fhir.Node) string {
	var words []string
	n.Walk(func(n *fhir.Node) bool {
		if n.Kind == fhir.String && n.Name != "reference" {
			for _, w := range strings.FieldsFunc(n.Text, func(c rune) bool { return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') }) {
				if len(w) > 3 {
					words = append(words, w)
				}
			}
		}
		return true
	})
	if len(words) == 0 {
		return "nothing"
	}
	return pick(r, words)
}
