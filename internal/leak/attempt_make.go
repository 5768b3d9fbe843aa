package leak

import (
	"context"
	"strings"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources"
)

// The makers of attempts: each makes a write that must come to nothing, or to the same as if what it touches did not
// exist; nil where the caller has nothing hidden from it, or nothing that it may write.

// changed writes a resource that is hidden.
func (w *writer) changed(ctx context.Context) (*attempt, error) {
	interaction := pick(w.r, []resources.Interaction{resources.Update, resources.Update, resources.Delete})
	n, err := w.hidden(ctx, w.types[interaction])
	if n == nil || err != nil {
		return nil, err
	}
	return w.foreign(n, interaction), nil
}

// repeated makes a resource if a hidden one is not there.
func (w *writer) repeated(ctx context.Context) (*attempt, error) {
	n, err := w.hidden(ctx, w.types[resources.Create])
	if n == nil || err != nil {
		return nil, err
	}
	body := without(n)
	return w.both("conditional create", n, false, func(id string) Ask {
		return Ask{Request: resources.Request{Interaction: resources.Create, Type: n.ResourceType(), IfNoneExist: "_id=" + id}, Body: body}
	}), nil
}

// hidden is a resource of one of some types that the caller cannot read; nil where none is met.
func (w *writer) hidden(ctx context.Context, types []string) (*fhir.Node, error) {
	for range 12 {
		if len(types) == 0 {
			break
		}
		n := w.world.of(w.r, pick(w.r, types))
		if readable, err := w.readable(ctx, keyOf(n)); err != nil {
			return nil, err
		} else if !readable {
			return n, nil
		}
	}
	return nil, nil
}

// both are a write of a resource, by its id, and the same of none.
func (w *writer) both(kind string, n *fhir.Node, refused bool, ask func(id string) Ask) *attempt {
	return &attempt{kind: kind, ask: ask(n.ID()), other: ask(never), hidden: keyOf(n), absent: n.ResourceType() + "/" + never, refused: refused}
}

// foreign is one of the writes of a resource.
func (w *writer) foreign(n *fhir.Node, interaction resources.Interaction) *attempt {
	r, typ := w.r, n.ResourceType()
	match := pick(r, []string{"", "", "1", "*"})
	criteria := func(id string) []Param { return fixed("_id=" + id) }
	if r.IntN(2) == 0 {
		if more := w.world.condition(r, n); more.Name != "_id" {
			criteria = func(id string) []Param { return append(fixed("_id="+id), more) }
		}
	}
	if interaction == resources.Delete {
		if r.IntN(2) == 0 {
			return w.both("conditional delete", n, false, func(id string) Ask {
				return Ask{Request: resources.Request{Interaction: resources.Delete, Type: typ}, Params: criteria(id)}
			})
		}
		return w.both("delete", n, true, func(id string) Ask {
			return Ask{Request: resources.Request{Interaction: resources.Delete, Type: typ, ID: id, IfMatch: match}}
		})
	}
	text := string(n.JSON())
	if own := w.who.record(); own != "" && r.IntN(2) == 0 { // out of the record that it is in, into one's own
		text = toPatient(n, own)
	}
	body := func(id string) string { return withID(text, id) }
	patch := []byte(`[{"op":"add","path":"/language","value":"en"}]`)
	switch r.IntN(6) {
	case 0, 1:
		return w.both("update", n, true, func(id string) Ask {
			return Ask{Request: resources.Request{Interaction: resources.Update, Type: typ, ID: id, IfMatch: match}, Body: body(id)}
		})
	case 2:
		return w.both("patch", n, true, func(id string) Ask {
			return Ask{Request: resources.Request{Interaction: resources.Patch, Type: typ, ID: id, IfMatch: match, JSONPatch: patch}}
		})
	case 3:
		return w.both("conditional patch", n, false, func(id string) Ask {
			return Ask{Request: resources.Request{Interaction: resources.Patch, Type: typ, JSONPatch: patch}, Params: criteria(id)}
		})
	case 4:
		return w.both("$meta-add", n, true, func(id string) Ask {
			return Ask{Request: resources.Request{Interaction: resources.Operate, Operation: "meta-add", Type: typ, ID: id},
				Body: `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"system":"urn:t","code":"x"}]}}]}`}
		})
	}
	plain := without(n)
	return w.both("conditional update", n, false, func(id string) Ask {
		return Ask{Request: resources.Request{Interaction: resources.Update, Type: typ}, Params: criteria(id), Body: plain}
	})
}

// placed puts something into the record of a patient whom the caller does not reach: it makes it there, or moves what the
// caller can read there, by a reference or by one that is a search.
func (w *writer) placed(ctx context.Context) (*attempt, error) {
	if len(w.strangers) == 0 {
		return nil, nil
	}
	patient := pick(w.r, w.strangers)
	switch w.r.IntN(4) {
	case 0:
		return w.moved(ctx, patient)
	case 1:
		return w.made(ctx, patient, "conditional reference", false)
	}
	return w.made(ctx, patient, "create in a record", false)
}

// meet finds patients whom the caller does not reach though it may read patients. Whom it reaches but cannot read, by a scope of the other level or a
// granular one, it knows by what else it may do in the record.
func (w *writer) meet(ctx context.Context) error {
	patients := w.world.byType["Patient"]
	if len(patients) == 0 || !w.granted(ctx, "Patient") {
		return nil
	}
	for _, i := range w.r.Perm(len(patients)) {
		p := patients[i]
		if len(w.strangers) == maxStrangers {
			break
		}
		if w.who.standsFor(keyOf(p)) {
			continue
		}
		if reached, err := w.readableBy(ctx, w.who.reaching("Patient"), keyOf(p)); err != nil {
			return err
		} else if !reached {
			w.strangers = append(w.strangers, p)
		}
	}
	return nil
}

// maxStrangers is in how many records of others each caller tries to make something.
const maxStrangers = 8

// made makes something in the record of a patient: like what is in any record, or like what the caller can read and so is
// more likely to be able to write.
func (w *writer) made(ctx context.Context, patient *fhir.Node, kind string, readable bool) (*attempt, error) {
	n, err := w.about(ctx, w.types[resources.Create], readable)
	if n == nil || err != nil {
		return nil, err
	}
	refused, err := w.unreached(ctx, n, patient)
	if err != nil {
		return nil, err
	}
	typ := n.ResourceType()
	ask := func(id string) Ask {
		if kind == "conditional reference" {
			body := strings.ReplaceAll(without(n, id), `"Patient/`+id+`"`, `"Patient?_id=`+id+`"`)
			return transaction(resources.Transaction, `{"resource":`+body+`,"request":{"method":"POST","url":"`+typ+`"}}`)
		}
		return Ask{Request: resources.Request{Interaction: resources.Create, Type: typ}, Body: without(n, id)}
	}
	return &attempt{kind: kind, ask: ask(patient.ID()), other: ask(never), hidden: keyOf(patient), absent: "Patient/" + never, refused: refused}, nil
}

// moved moves what the caller can read into the record of a patient.
func (w *writer) moved(ctx context.Context, patient *fhir.Node) (*attempt, error) {
	n, err := w.about(ctx, w.types[resources.Update], true)
	if n == nil || err != nil || strings.Contains(string(n.JSON()), `"`+keyOf(patient)+`"`) {
		return nil, err
	}
	refused, err := w.unreached(ctx, n, patient)
	if err != nil {
		return nil, err
	}
	ask := func(id string) Ask {
		return Ask{Request: resources.Request{Interaction: resources.Update, Type: n.ResourceType(), ID: n.ID()}, Body: toPatient(n, id)}
	}
	return &attempt{kind: "move into a record", ask: ask(patient.ID()), other: ask(never), hidden: keyOf(patient), absent: "Patient/" + never, refused: refused}, nil
}

// granted says whether the caller may read any resource of a type. Of the others the server may tell, since what they
// say counts for what the caller may do: whom it treats, whose time is taken.
func (w *writer) granted(ctx context.Context, typ string) bool {
	_, err := w.as(ctx, w.who, Ask{Request: resources.Request{Interaction: resources.Read, Type: typ, ID: never}})
	return err == nil || fhir.KindOf(err) != fhir.Forbidden
}

// about is a resource of some types that belongs to a patient, one that the caller can read where that is asked; nil
// where none is met.
func (w *writer) about(ctx context.Context, types []string, readable bool) (*fhir.Node, error) {
	for range 20 {
		if len(types) == 0 {
			break
		}
		n := w.world.of(w.r, pick(w.r, types))
		if n.ResourceType() == "Patient" || !strings.Contains(string(n.JSON()), `"Patient/`) {
			continue
		}
		if !readable {
			return n, nil
		}
		if shows, err := w.readable(ctx, keyOf(n)); err != nil {
			return nil, err
		} else if shows {
			return n, nil
		}
	}
	return nil, nil
}

// unreached says whether a resource would come into the record of a patient of which the caller may see nothing, so that
// it must be refused. Consents are written down before they hold, and backend services reach everybody.
func (w *writer) unreached(ctx context.Context, n, patient *fhir.Node) (bool, error) {
	if len(w.who.Roles) == 0 || n.ResourceType() == "Consent" || w.world.registry.SearchParameter(n.ResourceType(), "patient") == nil || len(w.world.references(n, "patient")) == 0 {
		return false, nil
	}
	for _, s := range w.who.Scopes {
		if s.Level == auth.LevelSystem {
			return false, nil
		}
	}
	resp, err := w.as(ctx, w.who, Ask{Request: resources.Request{Interaction: resources.SearchSystem, Compartment: "Patient", CompartmentID: patient.ID()}})
	if kind := fhir.KindOf(err); err != nil {
		if kind == fhir.Internal || kind == fhir.Transient {
			return false, err
		}
		return kind == fhir.NotFound, nil
	}
	return len(resp.Bundle.Entries) == 0, nil
}

// linked writes something with a reference to what is hidden.
func (w *writer) linked(ctx context.Context) (*attempt, error) {
	interaction := pick(w.r, []resources.Interaction{resources.Create, resources.Update})
	types := w.types[interaction]
	for range 20 {
		if len(types) == 0 {
			break
		}
		n := w.world.of(w.r, pick(w.r, types))
		var keys []string
		n.Walk(func(n *fhir.Node) bool {
			if n.Name == "reference" && w.world.byKey[n.Text] != nil {
				keys = append(keys, n.Text)
			}
			return true
		})
		if len(keys) == 0 {
			continue
		}
		key := pick(w.r, keys)
		typ, _, _ := strings.Cut(key, "/")
		target, err := w.hidden(ctx, []string{typ})
		if err != nil {
			return nil, err
		}
		if target == nil || keyOf(target) == keyOf(n) || w.who.standsFor(keyOf(target)) || strings.Contains(string(n.JSON()), `"`+keyOf(target)+`"`) {
			continue
		}
		if !w.granted(ctx, typ) || strings.Contains(w.who.Scopes.String(), keyOf(target)) { // scopes that name it tell of it
			continue
		}
		return w.both("reference", target, false, func(id string) Ask {
			a := Ask{Request: resources.Request{Interaction: interaction, Type: n.ResourceType()}}
			if a.Body = strings.ReplaceAll(without(n), `"`+key+`"`, `"`+typ+"/"+id+`"`); interaction == resources.Update {
				a.ID, a.Body = n.ID(), strings.ReplaceAll(string(n.JSON()), `"`+key+`"`, `"`+typ+"/"+id+`"`)
			}
			return a
		}), nil
	}
	return nil, nil
}

// bundled is a transaction or batch in which one entry writes what is hidden, beside one that reads or writes what is not.
func (w *writer) bundled(ctx context.Context) (*attempt, error) {
	n, err := w.hidden(ctx, w.types[pick(w.r, []resources.Interaction{resources.Update, resources.Delete})])
	if n == nil || err != nil {
		return nil, err
	}
	typ := n.ResourceType()
	beside := ""
	if types := w.types[resources.Update]; len(types) > 0 {
		own := w.world.of(w.r, pick(w.r, types))
		if readable, err := w.readable(ctx, keyOf(own)); err != nil {
			return nil, err
		} else if readable {
			beside = pick(w.r, []string{
				`{"request":{"method":"GET","url":"` + keyOf(own) + `"}}`,
				`{"resource":` + string(own.JSON()) + `,"request":{"method":"PUT","url":"` + keyOf(own) + `"}}`})
			// Of two faults the first is told, and which is first goes by the ids.
			if _, err := w.as(ctx, w.who, transaction(resources.Transaction, beside)); err != nil {
				beside = ""
			} else {
				beside += ","
			}
		}
	}
	interaction, kind := resources.Transaction, "transaction with one foreign entry"
	if w.r.IntN(3) == 0 {
		interaction, kind = resources.Batch, "batch with one foreign entry"
	}
	put := w.r.IntN(2) == 0
	return w.both(kind, n, interaction == resources.Transaction && put, func(id string) Ask {
		entry := `{"request":{"method":"DELETE","url":"` + typ + "/" + id + `"}}`
		if put {
			entry = `{"resource":` + withID(string(n.JSON()), id) + `,"request":{"method":"PUT","url":"` + typ + "/" + id + `"}}`
		}
		return transaction(interaction, beside+entry)
	}), nil
}

func transaction(interaction resources.Interaction, entries string) Ask {
	return Ask{Request: resources.Request{Interaction: interaction}, Body: `{"resourceType":"Bundle","type":"` + string(interaction) + `","entry":[` + entries + `]}`}
}

// withID is the JSON of a resource with another id.
func withID(text, id string) string {
	n, err := fhir.ParseJSON([]byte(text))
	if err != nil {
		return text
	}
	n.Set("id", fhir.Str(id))
	return string(n.JSON())
}

// without is the JSON of a resource without its id and versions, and about another patient where one is given.
func without(n *fhir.Node, patient ...string) string {
	c := n.Clone()
	c.Remove("id")
	for _, id := range patient {
		return toPatient(&c, id)
	}
	return string(c.JSON())
}

// toPatient is the JSON of a resource in which all patients are one.
func toPatient(n *fhir.Node, id string) string {
	c := n.Clone()
	c.Walk(func(n *fhir.Node) bool {
		if n.Name == "reference" && strings.HasPrefix(n.Text, "Patient/") {
			n.Text = "Patient/" + id
		}
		return true
	})
	return string(c.JSON())
}
