package resources

import (
	"strconv"
	"strings"

	"kiln/fhir"
)

// links are the references of a transaction that may change on the way in: those to what other entries are called, and
// conditional ones. They are found once, in one walk; rewriting begins each time with what the client sent, so that a
// second try can come to other ids. Spec: FHIR R4 http.html#trules, bundle.html#references.
//
// R4 has these replaced: references, elements of the types uri, url, oid and uuid, and the href and src of narrative;
// "elements of type canonical are not replaced".
type links struct {
	service *Service
	// named are the entries by what others call them, byCriteria by the criteria of their conditional write.
	named, byCriteria map[string]*txEntry
	slots             []slot
	conditionals      []*conditional
	known             map[string]*conditional // by normal criteria
}

// slot is one place that is rewritten.
type slot struct {
	node     *fhir.Node
	original string
	// target and cond say where it points: one is nil, or both for narrative.
	target *txEntry
	cond   *conditional
	// fragment is what goes behind the new reference.
	fragment string
	// version asks for a reference to the version that the transaction makes.
	version bool
}

// scan finds the links in a resource of an entry.
func (l *links) scan(e *txEntry, root *fhir.Node) {
	w := linkWalk{links: l, entry: e, root: root}
	w.resource(root)
}

type linkWalk struct {
	*links
	entry *txEntry
	root  *fhir.Node
}

func (w *linkWalk) resource(n *fhir.Node) {
	if t := w.service.registry.Schema().Type(n.ResourceType()); t != nil {
		w.object(n, t)
	}
}

func (w *linkWalk) object(n *fhir.Node, t *fhir.Type) {
	if n.Kind != fhir.Object {
		return
	}
	for i := range n.Kids {
		kid := &n.Kids[i]
		p, known := t.Properties[kid.Name]
		switch {
		case !known && strings.HasPrefix(kid.Name, "_"): // the extensions of a primitive
			for item := range kid.Items() {
				w.object(item, w.service.registry.Schema().Type("Element"))
			}
		case !known:
		case p.Type == nil:
			for item := range kid.Items() {
				w.resource(item)
			}
		case p.Type.Kind == fhir.Primitive:
			w.primitive(kid, p.Type.Name)
		case p.Type.Name == "Reference":
			for item := range kid.Items() {
				if ref := item.Get("reference"); ref != nil && ref.Kind == fhir.String {
					w.reference(ref)
				}
				w.object(item, p.Type)
			}
		default:
			for item := range kid.Items() {
				w.object(item, p.Type)
			}
		}
	}
}

func (w *linkWalk) primitive(n *fhir.Node, typ string) {
	switch typ {
	case "uri", "url", "oid", "uuid":
		for item := range n.Items() {
			if item.Kind == fhir.String {
				if target, fragment := w.called(item.Text); target != nil {
					w.add(slot{node: item, target: target, fragment: fragment})
				}
			}
		}
	case "xhtml":
		if n.Kind == fhir.String && len(w.named) > 0 && (strings.Contains(n.Text, "href") || strings.Contains(n.Text, "src")) {
			w.add(slot{node: n})
		}
	}
}

func (w *linkWalk) add(s slot) {
	s.original = s.node.Text
	w.slots = append(w.slots, s)
}

// called gives the entry that goes by a name, perhaps with a fragment behind it.
func (l *links) called(name string) (target *txEntry, fragment string) {
	if e := l.named[name]; e != nil {
		return e, ""
	}
	if i := strings.IndexByte(name, '#'); i > 0 {
		return l.named[name[:i]], name[i:]
	}
	return nil, ""
}

// reference takes note of a Reference.reference.
func (w *linkWalk) reference(n *fhir.Node) {
	text := n.Text
	if target, fragment := w.called(text); target != nil {
		w.add(slot{node: n, target: target, fragment: fragment})
		return
	}
	if text == "" || text[0] == '#' {
		return
	}
	// A name with a version: it must be the version that the entry's resource says it has.
	if name, version, found := strings.Cut(text, "/_history/"); found {
		if target := w.named[w.full(name)]; target != nil {
			if target.req.Body.At("meta", "versionId").IsString(version) {
				w.add(slot{node: n, target: target, version: true})
			}
			return
		}
	}
	if strings.HasPrefix(text, "urn:") {
		return
	}
	if target, fragment := w.called(w.full(text)); target != nil {
		w.add(slot{node: n, target: target, fragment: fragment})
		return
	}
	text = strings.TrimPrefix(text, w.service.options.Base+"/")
	if typ, query, found := strings.Cut(text, "?"); found && w.service.isType(typ) {
		w.add(slot{node: n, cond: w.conditional(typ, query, n)})
	}
}

// full is a relative reference as an absolute one: below the base of the entry it stands in, else below ours.
func (w *linkWalk) full(text string) string {
	switch {
	case strings.Contains(text, ":"):
		return text
	case w.entry.base != "":
		return w.entry.base + "/" + text
	}
	return w.service.options.Base + "/" + text
}

// rewrite puts into each slot what it points at by now. References to versions come last: which version an update
// makes depends on whether it changes anything.
func (t *transaction) rewrite(slots []slot) error {
	var versioned []slot
	for _, s := range slots {
		switch {
		case s.version:
			versioned = append(versioned, s)
		case s.target != nil:
			s.node.Text = s.target.key.Type + "/" + s.target.key.ID + s.fragment
		case s.cond != nil:
			s.node.Text = s.cond.key.Type + "/" + s.cond.key.ID
		default:
			s.node.Text = rewriteNarrative(s.original, t.called)
		}
	}
	numbers := make([]string, len(versioned))
	for i, s := range versioned {
		number, err := s.target.nextVersion()
		if err != nil {
			return err
		}
		numbers[i] = strconv.Itoa(number)
	}
	for i, s := range versioned {
		s.node.Text = s.target.key.Type + "/" + s.target.key.ID + "/_history/" + numbers[i]
	}
	return nil
}

// nextVersion is the version that the entry's resource has after the transaction.
func (e *txEntry) nextVersion() (int, error) {
	old := e.old[e.key]
	switch {
	case old == nil:
		return 1, nil
	case e.exists():
		return old.Number, nil
	case e.req.Interaction == Update && !old.Deleted:
		e.req.Body.Set("id", fhir.Str(e.key.ID))
		if same, err := (&change{old: old, after: e.req.Body}).changesNothing(); err != nil || same {
			return old.Number, err
		}
	}
	return old.Number + 1, nil
}
