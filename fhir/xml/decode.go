package xml

import (
	"fmt"
	"strings"

	"kiln/fhir"
)

// maxIssues is how many faults of one document are told.
const maxIssues = 20

// Decode reads one resource. The tree is the one that its JSON would give: repeating elements as arrays, values typed
// by the schema with their digits as they stood, "_name" siblings for the ids and extensions of primitives.
//
// Elements must stand in the order of the definitions, and none may be unknown. Comments are passed over;
// xsi:schemaLocation, which some writers put on a resource, too.
//
// Errors: Invalid, with the line and the element of each fault; TooLarge beyond MaxBytes.
func Decode(data []byte, schema *fhir.Schema) (*fhir.Node, error) {
	if len(data) > MaxBytes {
		return nil, fhir.NewError(fhir.TooLarge, fhir.CodeTooLong, fmt.Sprintf("The XML is longer than %d bytes", MaxBytes))
	}
	d := decoder{scanner: scanner{src: strings.TrimPrefix(string(data), "\ufeff")}, schema: schema}
	var root fhir.Node
	if d.characters() {
		d.prolog()
		switch d.next() {
		case tokenOpen:
			d.trail = append(d.trail, step{short(d.local), -1})
			root = d.resource(0)
			if t := d.next(); t != tokenEnd {
				d.fail(d.start, "there is more after the end of the resource")
			}
		case tokenEnd:
			d.fail(d.pos, "the body is empty")
		default:
			d.fail(d.start, "a resource's element must stand here")
		}
	}
	if err := d.explain(); err != nil {
		return nil, err
	}
	return &root, nil
}

type decoder struct {
	scanner
	schema *fhir.Schema
	trail  trail
	issues []fhir.Issue
	full   bool // as many issues as are told: the scanner was stopped
	count  int  // of elements read
	// Finished nodes of the objects still open, of their repeating element and of its "_name" sibling.
	members, values, siblings []fhir.Node
	slab                      []fhir.Node
}

// issue records a fault after which reading can go on. What is read from then on is thrown away.
func (d *decoder) issue(code string, at int, format string, args ...any) {
	if d.full || d.reason != "" {
		return
	}
	d.record(code, at, fmt.Sprintf(format, args...))
	if len(d.issues) == maxIssues {
		d.full = true
		d.fail(at, "too many faults")
	}
}

func (d *decoder) record(code string, at int, text string) {
	before := d.src[:at]
	issue := fhir.Issue{Severity: fhir.SeverityError, Code: code, Text: fmt.Sprintf(
		"The body is not the XML that FHIR asks for: %s (line %d, column %d)", text,
		1+strings.Count(before, "\n"), at-strings.LastIndexByte(before, '\n'))}
	if len(d.trail) > 0 {
		issue.Expression = []string{d.trail.String()}
	}
	d.issues = append(d.issues, issue)
}

func (d *decoder) explain() error {
	if d.reason != "" && !d.full {
		d.record(d.code, d.faultAt, d.reason)
	}
	if len(d.issues) == 0 {
		return nil
	}
	return &fhir.Error{Kind: fhir.Invalid, Issues: d.issues}
}

// resource reads the resource whose start tag was read last.
func (d *decoder) resource(depth int) fhir.Node {
	t := d.schema.Type(d.local)
	switch {
	case d.space != fhirNamespace:
		d.issue(fhir.CodeStructure, d.start, "<%s> is not of the namespace %s", short(d.name), fhirNamespace)
		t = nil
	case t == nil || t.Kind != fhir.Resource || t.Abstract:
		d.issue(fhir.CodeStructure, d.start, "%s is not a resource type of FHIR R4", short(d.local))
		t = nil
	}
	if t == nil {
		d.skip()
		return fhir.Node{}
	}
	n, _, _ := d.object(t, depth)
	return n
}

// object reads the element of type t whose start tag was read last. The value is the value attribute of a primitive,
// whose other parts are the object.
func (d *decoder) object(t *fhir.Type, depth int) (n fhir.Node, value string, valued bool) {
	n.Kind = fhir.Object
	base := len(d.members)
	if t.Kind == fhir.Resource {
		d.members = append(d.members, fhir.Str(t.Name).As("resourceType"))
	}
	for i := range d.attrs {
		a := &d.attrs[i]
		p, known := t.Properties[a.local]
		switch {
		case a.space == "" && a.local == "value" && t.Kind == fhir.Primitive:
			value, valued = unescape(a.raw), true
		case a.space == "" && known && p.Element.XMLAttribute:
			d.members = append(d.members, fhir.Str(unescape(a.raw)).As(a.local))
		case a.space == instanceNamespace && a.local == "schemaLocation" && t.Kind == fhir.Resource:
		default:
			d.issue(fhir.CodeStructure, a.at, "the attribute %s is not known in %s", short(a.local), t.Name)
		}
	}
	run := repetition{decoder: d, values: len(d.values), siblings: len(d.siblings)}
	order := -1
	for {
		switch d.next() {
		case tokenEnd:
			return n, "", false
		case tokenText:
			d.issue(fhir.CodeStructure, d.start, "text may not stand between elements; values stand in value attributes")
			continue
		case tokenClose:
			run.flush()
			if len(d.members) > base {
				if depth >= fhir.MaxDepth {
					d.tooDeep()
				}
				n.Kids = d.lay(d.members[base:])
			}
			d.members = d.members[:base]
			return n, value, valued
		}
		p, known := t.Properties[d.local]
		space := fhirNamespace
		if known && isXHTML(p.Type) {
			space = xhtmlNamespace
		}
		switch e := p.Element; {
		case known && !e.XMLAttribute && e.Max != 0 && d.space != space:
			d.issue(fhir.CodeStructure, d.start, "<%s> is not of the namespace %s", short(d.name), space)
		case !known, e.XMLAttribute, e.Max == 0:
			d.issue(fhir.CodeStructure, d.start, "the element <%s> is not known in %s", short(d.local), t.Name)
		case e.Order < order:
			d.issue(fhir.CodeStructure, d.start, "<%s> must stand before <%s>, in the order of the definition of %s", d.local, run.name, t.Name)
		case e.Order == order && d.local != run.name:
			d.issue(fhir.CodeStructure, d.start, "<%s> and <%s> are one element, of which only one type may be given", run.name, d.local)
		case e.Order == order && !repeats(e):
			d.issue(fhir.CodeStructure, d.start, "<%s> stands twice", d.local)
		default:
			if e.Order > order {
				run.flush()
				run.name, run.repeats, order = d.local, repeats(e), e.Order
			}
			run.read(p, depth)
			continue
		}
		if !d.skip() {
			return n, "", false
		}
	}
}

func (d *decoder) tooDeep() {
	d.refuse(fhir.CodeTooLong, d.start, "elements nest deeper than the %d levels of JSON that are taken", fhir.MaxDepth)
}

// repetition is a run of elements of one name, which make one member, and for primitives a "_name" sibling.
type repetition struct {
	*decoder
	name             string
	repeats          bool
	values, siblings int // where its nodes begin on the decoder's stacks
	// some says whether any value is there and any sibling.
	some [2]bool
}

// read reads one more element, whose start tag was read last. Depth is that of the object around it.
func (r *repetition) read(p fhir.Property, depth int) {
	if r.count++; r.count > fhir.MaxValues {
		r.refuse(fhir.CodeTooLong, r.start, "there are more than %d elements", fhir.MaxValues)
		return
	}
	s := step{p.Element.Name, -1}
	depth++
	if r.repeats {
		s.index = len(r.decoder.values) - r.values
		if depth++; depth > fhir.MaxDepth {
			r.tooDeep()
			return
		}
	}
	r.trail = append(r.trail, s)
	var value, sibling fhir.Node
	at := r.start
	switch {
	case p.Type == nil:
		value = r.wrapped(depth)
	case isXHTML(p.Type):
		text, _ := r.div()
		value = fhir.Str(text)
	case p.Type.Kind == fhir.Primitive:
		var text string
		var valued bool
		sibling, text, valued = r.object(p.Type, depth)
		if valued {
			value = r.typed(p.Type, text, at)
			if len(sibling.Kids) == 0 {
				sibling = fhir.Node{}
			}
		}
	default:
		value, _, _ = r.object(p.Type, depth)
		if depth >= fhir.MaxDepth {
			r.tooDeep()
		}
	}
	if sibling.Kind == fhir.Object && depth >= fhir.MaxDepth {
		r.tooDeep()
	}
	if r.reason != "" {
		return // the trail stays where the fault is
	}
	r.trail = r.trail[:len(r.trail)-1]
	r.some[0] = r.some[0] || value.Kind != fhir.Null
	r.some[1] = r.some[1] || sibling.Kind != fhir.Null
	r.decoder.values = append(r.decoder.values, value)
	r.decoder.siblings = append(r.decoder.siblings, sibling)
}

// flush makes members of the elements read.
func (r *repetition) flush() {
	d := r.decoder
	for i, nodes := range [...][]fhir.Node{d.values[r.values:], d.siblings[r.siblings:]} {
		if !r.some[i] {
			continue
		}
		n := nodes[0]
		if r.repeats {
			n = fhir.Node{Kind: fhir.Array, Kids: d.lay(nodes)}
		}
		name := r.name
		if i == 1 {
			name = "_" + name
		}
		d.members = append(d.members, n.As(name))
	}
	d.values, d.siblings, r.some = d.values[:r.values], d.siblings[:r.siblings], [2]bool{}
}

// wrapped reads an element that holds one resource: contained, Bundle.entry.resource, Parameters.parameter.resource.
func (d *decoder) wrapped(depth int) (n fhir.Node) {
	at, name := d.start, d.local
	if depth >= fhir.MaxDepth {
		d.tooDeep()
	}
	for i := range d.attrs {
		d.issue(fhir.CodeStructure, d.attrs[i].at, "the attribute %s is not known in <%s>", short(d.attrs[i].local), name)
	}
	count := 0
	for {
		switch d.next() {
		case tokenEnd:
			return n
		case tokenText:
			d.issue(fhir.CodeStructure, d.start, "text may not stand between elements")
		case tokenOpen:
			if count++; count == 1 {
				n = d.resource(depth)
				continue
			}
			d.issue(fhir.CodeStructure, d.start, "<%s> must hold one resource and no more", name)
			if !d.skip() {
				return n
			}
		case tokenClose:
			if count == 0 {
				d.issue(fhir.CodeStructure, at, "<%s> must hold a resource", name)
			}
			return n
		}
	}
}

// typed gives a primitive's value as JSON has it. White space around a number or boolean means nothing, as in XML
// Schema.
func (d *decoder) typed(t *fhir.Type, text string, at int) fhir.Node {
	kind := jsonKind(t)
	if kind == fhir.String {
		return fhir.Str(text)
	}
	n, err := fhir.ParseJSON([]byte(strings.Trim(text, " ")))
	if err != nil || n.Kind != kind {
		d.issue(fhir.CodeValue, at, "%q is no %s", short(text), t.Name)
		return fhir.Node{Kind: kind}
	}
	return *n
}

// lay copies nodes to where they stay, many objects' to one allocation. The result has no spare capacity, so appending
// to it never touches a neighbour.
func (d *decoder) lay(nodes []fhir.Node) []fhir.Node {
	if cap(d.slab)-len(d.slab) < len(nodes) {
		d.slab = make([]fhir.Node, 0, max(len(nodes), min(8+len(d.src)/40, 2048)))
	}
	start := len(d.slab)
	d.slab = append(d.slab, nodes...)
	return d.slab[start:len(d.slab):len(d.slab)]
}
