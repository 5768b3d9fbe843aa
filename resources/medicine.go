package resources

import (
	"context"
	"slices"
	"strings"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
	"kiln/storage/terminology"
)

// medicine is what a record says about a medicine or a substance: codes and names.
type medicine struct {
	codings []terminology.Coding
	names   []string
}

func newMedicine(concepts ...*fhir.Node) *medicine {
	m := &medicine{}
	for _, c := range concepts {
		m.add(c)
	}
	return m
}

func (m *medicine) add(concept *fhir.Node) {
	if text := fold(concept.GetText("text")); text != "" {
		m.names = append(m.names, text)
	}
	for c := range concept.Get("coding").Items() {
		if q := codingOf(c); q.System != "" && q.Code != "" {
			m.codings = append(m.codings, q)
		}
		if text := fold(c.GetText("display")); text != "" {
			m.names = append(m.names, text)
		}
	}
}

func (m *medicine) name() string {
	if len(m.names) > 0 {
		return m.names[0]
	}
	if len(m.codings) > 0 {
		return m.codings[0].Code
	}
	return "a medicine"
}

// fold makes texts that people read as the same the same.
func fold(text string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r > 0x7f)
	}), " ")
}

// medicineOf reads what a MedicationRequest is for: from itself, or from the Medication that it refers to, as the caller
// sees it. It is nil where nothing can be read.
func (s *Service) medicineOf(ctx context.Context, tx *storage.Tx, n *fhir.Node) (*medicine, error) {
	if c := n.Get("medicationCodeableConcept"); c != nil {
		return newMedicine(c), nil
	}
	ref := n.Get("medicationReference")
	var found *fhir.Node
	if id, contained := strings.CutPrefix(ref.GetText("reference"), "#"); contained {
		for c := range n.Get("contained").Items() {
			if c.ID() == id {
				found = c
			}
		}
	} else if name := s.local(ref); typeOf(name) == "Medication" {
		versions, err := tx.Read(acting(ctx, auth.Read), keyOf(name))
		if err != nil {
			return nil, err
		}
		if v := versions[keyOf(name)]; v != nil && !v.Deleted {
			if found, err = fhir.ParseJSON(v.Content); err != nil {
				return nil, unreadable(err)
			}
		}
	}
	if found == nil {
		if text := fold(ref.GetText("display")); text != "" {
			return &medicine{names: []string{text}}, nil
		}
		return nil, nil
	}
	m := newMedicine(found.Get("code"))
	for c := range references(found, []string{"ingredient", "itemCodeableConcept"}) {
		m.add(c)
	}
	return m, nil
}

// kindred finds out how medicines are related, by the terminology that is loaded here.
type kindred struct {
	terms *terminology.Resolver
	// above are the codes that a code falls under or contains, itself included; ingredients those that it contains.
	above, ingredients map[terminology.Coding][]string
	// flat are the systems without a hierarchy here; named says that something could be compared by name alone.
	flat  []string
	named bool
}

// kindred reads terminology as the server: what codes mean is nobody's secret.
func (s *Service) kindred(ctx context.Context, tx *storage.Tx) (*kindred, error) {
	terms, err := s.store.Terminology(everything(ctx), tx, terminology.Options{})
	if err != nil {
		return nil, err
	}
	return &kindred{terms: terms, above: map[terminology.Coding][]string{}, ingredients: map[terminology.Coding][]string{}}, nil
}

func (k *kindred) unchecked() (list []string) {
	for _, system := range k.flat {
		list = append(list, "the hierarchy of "+quote(system)+" is not loaded here, so its codes were compared for being the same only")
	}
	if k.named {
		list = append(list, "some of it has no code, and was compared by name only")
	}
	return list
}

// covers says how a substance is the medicine or in it, or "".
func (k *kindred) covers(ctx context.Context, substance, m *medicine) (string, error) {
	k.named = k.named || len(substance.codings) == 0 || len(m.codings) == 0
	for _, d := range m.codings {
		list, err := k.up(ctx, d)
		if err != nil {
			return "", err
		}
		for _, a := range substance.codings {
			switch {
			case a.System != d.System:
			case a.Code == d.Code:
				return "the same code", nil
			case slices.Contains(list, a.Code):
				return "by its code the medicine is of that kind, or contains it", nil
			}
		}
	}
	for _, name := range substance.names {
		for _, other := range m.names {
			if len(name) >= minName && (name == other || strings.Contains(" "+other+" ", " "+name+" ")) {
				return "by its name", nil
			}
		}
	}
	return "", nil
}

// minName is how long a name has to be to be looked for in others.
const minName = 3

// same says how two medicines are the same therapy, or "".
func (k *kindred) same(ctx context.Context, a, b *medicine) (string, error) {
	k.named = k.named || len(a.codings) == 0 || len(b.codings) == 0
	for _, x := range a.codings {
		ofX, err := k.up(ctx, x)
		if err != nil {
			return "", err
		}
		for _, y := range b.codings {
			if x.System != y.System {
				continue
			}
			ofY, err := k.up(ctx, y)
			if err != nil {
				return "", err
			}
			switch {
			case x.Code == y.Code:
				return "the same code", nil
			case slices.Contains(ofX, y.Code), slices.Contains(ofY, x.Code):
				return "one is a kind of the other, by their codes", nil
			case slices.ContainsFunc(k.ingredients[plainCoding(x)], func(c string) bool { return slices.Contains(k.ingredients[plainCoding(y)], c) }):
				return "the same ingredient", nil
			}
		}
	}
	for _, name := range a.names {
		if len(name) >= minName && slices.Contains(b.names, name) {
			return "the same name", nil
		}
	}
	return "", nil
}

func plainCoding(c terminology.Coding) terminology.Coding {
	return terminology.Coding{System: c.System, Code: c.Code}
}

const (
	maxAbove = 2000 // codes above one
	maxSteps = 60   // concepts looked at on the way to the ingredients of one
)

// containing are the relations of RxNorm that lead from a product to what is in it, and ingredient those that end there.
var (
	containing = []string{"has_ingredient", "has_ingredients", "has_precise_ingredient", "has_part", "consists_of", "contains", "tradename_of", "isa", "form_of", "has_form"}
	ingredient = []string{"has_ingredient", "has_ingredients", "has_precise_ingredient", "has_part"}
)

// up are the codes that a code falls under or contains.
func (k *kindred) up(ctx context.Context, c terminology.Coding) ([]string, error) {
	c = plainCoding(c)
	if list, known := k.above[c]; known {
		return list, nil
	}
	system, err := k.terms.System(ctx, c.System, "")
	if err != nil {
		return nil, err
	}
	if system == nil {
		if k.above[c] = nil; !slices.Contains(k.flat, c.System) {
			k.flat = append(k.flat, c.System)
		}
		return nil, nil
	}
	list, err := k.terms.Above(ctx, system, c.Code, maxAbove)
	if err != nil {
		return nil, err
	}
	if c.System == terminology.RxNorm {
		if list, err = k.contents(ctx, system, c, list); err != nil {
			return nil, err
		}
	}
	k.above[c] = list
	return list, nil
}

// contents adds what a concept of RxNorm contains, by its relations.
func (k *kindred) contents(ctx context.Context, system *terminology.System, c terminology.Coding, list []string) ([]string, error) {
	queue := []string{c.Code}
	for i := 0; i < len(queue) && i < maxSteps; i++ {
		found, err := k.terms.Lookup(ctx, system, queue[i], "")
		if err != nil {
			return nil, err
		}
		if found == nil {
			continue
		}
		for _, p := range found.Properties {
			code, is := strings.CutPrefix(p.Value, "CUI:")
			if !is || !slices.Contains(containing, p.Code) {
				continue
			}
			if slices.Contains(ingredient, p.Code) && !slices.Contains(k.ingredients[c], code) {
				k.ingredients[c] = append(k.ingredients[c], code)
			}
			if !slices.Contains(queue, code) {
				queue = append(queue, code)
			}
		}
	}
	for _, code := range queue {
		if !slices.Contains(list, code) {
			list = append(list, code)
		}
	}
	return list, nil
}
