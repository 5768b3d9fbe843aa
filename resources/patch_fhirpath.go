package resources

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"kiln/fhir"
	"kiln/fhir/path"
)

// Bounds on the paths of a FHIRPath Patch, beside MaxPatchOperations.
const (
	maxPatchPath  = 1000    // characters
	maxPatchSteps = 100_000 // steps of one path's evaluation
)

// ApplyFHIRPathPatch returns what params, a FHIRPath Patch, makes of n. All operations succeed or none: n stays as it
// is. A delete that finds nothing is no error; elements that a delete leaves empty go as well.
//
// Errors: Invalid for what is no FHIRPath Patch, Unprocessable for one that does not fit the resource. Each names the
// operation: "Parameters.parameter[2]".
// Spec: FHIR R4 fhirpatch.html.
func ApplyFHIRPathPatch(n, params *fhir.Node, schema *fhir.Schema) (*fhir.Node, error) {
	if params.ResourceType() != "Parameters" {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "A FHIRPath Patch is a Parameters resource").At("resourceType").Coded("patch-invalid")
	}
	work := n.Clone()
	i := 0
	for parameter := range params.Get("parameter").Items() {
		if i == MaxPatchOperations {
			return nil, fhir.NewError(fhir.TooLarge, fhir.CodeTooLong, fmt.Sprintf("A patch may have %d operations", i)).
				At("Parameters.parameter").Coded("patch-too-large")
		}
		op, err := readPatchOperation(parameter)
		if err == nil {
			p := patcher{root: &work, schema: schema}
			err = p.apply(op)
		}
		if err != nil {
			return nil, patchOperationError(err, i)
		}
		i++
	}
	if err := checkPatched(n, &work); err != nil {
		return nil, err
	}
	return &work, nil
}

// patchFault is why an operation cannot be applied, for a person.
type patchFault struct {
	kind fhir.Kind
	text string
}

func (f *patchFault) Error() string { return f.text }

func malformed(format string, args ...any) error {
	return &patchFault{fhir.Invalid, fmt.Sprintf(format, args...)}
}

func unfit(format string, args ...any) error {
	return &patchFault{fhir.Unprocessable, fmt.Sprintf(format, args...)}
}

func patchOperationError(err error, index int) error {
	at := fmt.Sprintf("Parameters.parameter[%d]", index)
	kind, detail := fhir.KindOf(err), "patch-failed"
	if fault, ok := err.(*patchFault); ok {
		kind = fault.kind
	}
	code := fhir.CodeProcessing
	switch kind {
	case fhir.Invalid:
		code, detail = fhir.CodeInvalid, "patch-invalid"
	case fhir.TooCostly:
		code = fhir.CodeTooCostly
	}
	return fhir.NewError(kind, code, fmt.Sprintf("Operation %d of the patch: %s", index, err)).At(at).Because(err).Coded(detail)
}

// patchOperation is one operation as sent.
type patchOperation struct {
	kind, path, name   string
	value              *fhir.Node // the part called value; nil for none
	index, source, dst int        // -1 where not given
}

func readPatchOperation(parameter *fhir.Node) (op patchOperation, err error) {
	op.index, op.source, op.dst = -1, -1, -1
	if !parameter.Get("name").IsString("operation") {
		return op, malformed(`each parameter must be called "operation"`)
	}
	seen := map[string]bool{}
	for part := range parameter.Get("part").Items() {
		name := part.GetText("name")
		if seen[name] {
			return op, malformed("the part %q stands twice", shorten(name))
		}
		seen[name] = true
		switch name {
		case "type":
			op.kind, err = patchText(part, name)
		case "path":
			op.path, err = patchText(part, name)
		case "name":
			op.name, err = patchText(part, name)
		case "value":
			op.value = part
		case "index":
			op.index, err = patchNumber(part, name)
		case "source":
			op.source, err = patchNumber(part, name)
		case "destination":
			op.dst, err = patchNumber(part, name)
		default:
			return op, malformed("there is no part %q in a FHIRPath Patch", shorten(name))
		}
		if err != nil {
			return op, err
		}
	}
	needs := map[string][]string{
		"add": {"path", "name", "value"}, "insert": {"path", "index", "value"}, "delete": {"path"},
		"replace": {"path", "value"}, "move": {"path", "source", "destination"},
	}[op.kind]
	if needs == nil {
		return op, malformed("the part type must be add, insert, delete, replace or move")
	}
	for _, name := range needs {
		if !seen[name] {
			return op, malformed("%s needs the part %q", op.kind, name)
		}
	}
	if len(op.path) > maxPatchPath {
		return op, malformed("a path may have %d characters", maxPatchPath)
	}
	return op, nil
}

func patchText(part *fhir.Node, name string) (string, error) {
	for _, member := range []string{"valueCode", "valueString"} {
		if v := part.Get(member); v != nil && v.Kind == fhir.String && v.Text != "" {
			return v.Text, nil
		}
	}
	return "", malformed("the part %q must be a string", name)
}

func patchNumber(part *fhir.Node, name string) (int, error) {
	for _, member := range []string{"valueInteger", "valueUnsignedInt", "valuePositiveInt"} {
		if v := part.Get(member); v != nil && v.Kind == fhir.Number {
			if n, err := strconv.Atoi(v.Text); err == nil && n >= 0 {
				return n, nil
			}
		}
	}
	return 0, malformed("the part %q must be an integer from 0 up", name)
}

// patcher applies one operation to the tree in place.
type patcher struct {
	root   *fhir.Node
	schema *fhir.Schema
}

func (p *patcher) apply(op patchOperation) error {
	switch op.kind {
	case "add":
		return p.add(op)
	case "insert":
		return p.insert(op)
	case "delete":
		return p.delete(op)
	case "replace":
		return p.replace(op)
	}
	return p.move(op)
}

func (p *patcher) find(expression string) ([]path.Element, error) {
	compiled, err := path.Compile(expression, p.schema)
	if err != nil {
		return nil, err
	}
	found, err := compiled.Eval(&path.Env{MaxSteps: maxPatchSteps}, path.Root(p.root, p.schema))
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		if e.Value == nil && e.Sibling == nil {
			return nil, unfit("the path %s gives a computed value and no element of the resource", shorten(expression))
		}
	}
	return found, nil
}

// findOne finds the one element that the path must lead to.
func (p *patcher) findOne(expression string) (path.Element, error) {
	found, err := p.find(expression)
	if err != nil {
		return path.Element{}, err
	}
	if len(found) != 1 {
		return path.Element{}, unfit("the path %s must lead to one element, and it leads to %d", shorten(expression), len(found))
	}
	return found[0], nil
}

func (p *patcher) add(op patchOperation) error {
	target, err := p.findOne(op.path)
	if err != nil {
		return err
	}
	owner, typ, err := p.open(target)
	if err != nil {
		return err
	}
	return p.put(owner, typ, op.name, op.value)
}

// open gives the object that the element's own elements stand in. Those of a primitive stand in its sibling, which is
// made here when it is missing.
func (p *patcher) open(e path.Element) (*fhir.Node, *fhir.Type, error) {
	if e.Value != nil && e.Value.Kind == fhir.Object {
		if e.Type == nil {
			return nil, nil, unfit("the type of the element is not known")
		}
		return e.Value, e.Type, nil
	}
	s, err := p.spot(e)
	if err != nil {
		return nil, nil, err
	}
	list := s.read()
	if list.siblings[s.index].Kind != fhir.Object {
		list.siblings[s.index] = fhir.Obj()
		s.write(list)
	}
	sibling := s.owner.Get("_" + s.name)
	if list.many {
		sibling = &sibling.Kids[s.index]
	}
	return sibling, p.schema.Type("Element"), nil
}

// put adds a value to owner, an object of type typ, as its element called name.
func (p *patcher) put(owner *fhir.Node, typ *fhir.Type, name string, part *fhir.Node) error {
	property, to, err := p.property(typ, name, part)
	if err != nil {
		return err
	}
	value, sibling, err := p.value(part, to.Type)
	if err != nil {
		return err
	}
	s := spot{owner: owner, name: property}
	list := s.read()
	if list.many = to.Element.Max != 1; !list.many {
		if len(list.values) > 0 {
			return unfit("%s is there already and does not repeat; replace it", property)
		}
		if to.Element.Choice {
			for i := range owner.Kids {
				if other, ok := typ.Properties[strings.TrimPrefix(owner.Kids[i].Name, "_")]; ok && other.Element == to.Element {
					return unfit("%s is there already as %s; replace it", to.Element.Name, owner.Kids[i].Name)
				}
			}
		}
	}
	list.insert(len(list.values), value, sibling)
	s.write(list)
	return nil
}

// property finds the JSON property for an element's name. For a choice element it takes the type of the value that
// comes; the name may be "value", "value[x]" or "valueQuantity".
func (p *patcher) property(typ *fhir.Type, name string, part *fhir.Node) (string, fhir.Property, error) {
	name = strings.TrimSuffix(name, "[x]")
	if to, ok := typ.Properties[name]; ok {
		return name, to, nil
	}
	for _, e := range typ.Elements {
		if e.Choice && e.Name == name {
			if suffix := valueSuffix(part); suffix != "" {
				if to, ok := typ.Properties[name+suffix]; ok {
					return name + suffix, to, nil
				}
				return "", fhir.Property{}, unfit("%s cannot be of the type %s", name, suffix)
			}
			return "", fhir.Property{}, unfit("%s can be of several types; send it as value[x]", name)
		}
	}
	return "", fhir.Property{}, unfit("%s has no element %q", typ.Name, shorten(name))
}

// valueSuffix gives the type part of a parameter's value[x] member: "Quantity" for valueQuantity; "" for none.
func valueSuffix(part *fhir.Node) string {
	for i := range part.Kids {
		if suffix, ok := strings.CutPrefix(strings.TrimPrefix(part.Kids[i].Name, "_"), "value"); ok && suffix != "" {
			return suffix
		}
	}
	return ""
}

// value makes the JSON value, and the sibling of a primitive, from a part: its value[x], its resource, or its own
// parts, which spell out an element that has no type of its own, such as Patient.contact.
func (p *patcher) value(part *fhir.Node, typ *fhir.Type) (value, sibling fhir.Node, err error) {
	if suffix := valueSuffix(part); suffix != "" {
		if v := part.Get("value" + suffix); v != nil {
			value = v.Clone()
		}
		if s := part.Get("_value" + suffix); s != nil {
			sibling = s.Clone()
		}
		if isPrimitive := value.Kind != fhir.Object; typ != nil && isPrimitive != (typ.Kind == fhir.Primitive) {
			return value, sibling, unfit("a value of type %s does not fit an element of type %s", suffix, typ.Name)
		}
		return value, sibling, nil
	}
	if r := part.Get("resource"); r != nil {
		if typ != nil && typ.Kind != fhir.Resource {
			return value, sibling, unfit("a resource does not fit an element of type %s", typ.Name)
		}
		return r.Clone(), fhir.Node{}, nil
	}
	parts := part.Get("part")
	if parts == nil || parts.Kind != fhir.Array || len(parts.Kids) == 0 {
		return value, sibling, malformed("the value is missing: it needs a value[x], a resource or parts")
	}
	if typ == nil || typ.Kind == fhir.Primitive {
		return value, sibling, unfit("parts do not fit an element that has no elements")
	}
	value = fhir.Obj()
	for i := range parts.Kids {
		if err := p.put(&value, typ, parts.Kids[i].GetText("name"), &parts.Kids[i]); err != nil {
			return value, sibling, err
		}
	}
	return value, sibling, nil
}

// lastStep cuts the last name off a path, for an insert into a list that is not there yet.
var lastStep = regexp.MustCompile(`^(.+)\.([A-Za-z][A-Za-z0-9]*)$`)

func (p *patcher) insert(op patchOperation) error {
	found, err := p.find(op.path)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		step := lastStep.FindStringSubmatch(op.path)
		if step == nil || op.index != 0 {
			return unfit("the path %s leads to no list with an index %d", shorten(op.path), op.index)
		}
		return p.add(patchOperation{path: step[1], name: step[2], value: op.value})
	}
	s, list, err := p.wholeList(op.path, found)
	if err != nil {
		return err
	}
	if op.index > len(list.values) {
		return unfit("index %d is beyond the list's length of %d", op.index, len(list.values))
	}
	value, sibling, err := p.value(op.value, s.property.Type)
	if err != nil {
		return err
	}
	list.insert(op.index, value, sibling)
	s.write(list)
	return nil
}

func (p *patcher) move(op patchOperation) error {
	found, err := p.find(op.path)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return unfit("the path %s leads to no list", shorten(op.path))
	}
	s, list, err := p.wholeList(op.path, found)
	if err != nil {
		return err
	}
	if length := len(list.values); op.source >= length || op.dst >= length {
		return unfit("source %d and destination %d must both be below the list's length of %d", op.source, op.dst, length)
	}
	value, sibling := list.remove(op.source)
	list.insert(op.dst, value, sibling)
	s.write(list)
	return nil
}

// wholeList gives the list that the elements found are all the items of.
func (p *patcher) wholeList(expression string, found []path.Element) (spot, items, error) {
	s, err := p.spot(found[0])
	if err != nil {
		return s, items{}, err
	}
	list := s.read()
	if !list.many {
		return s, list, unfit("the path %s leads to an element that is no list", shorten(expression))
	}
	last, err := p.spot(found[len(found)-1])
	if err != nil {
		return s, list, err
	}
	if s.index != 0 || last.owner != s.owner || last.name != s.name || len(found) != len(list.values) {
		return s, list, unfit("the path %s must lead to one whole list", shorten(expression))
	}
	return s, list, nil
}

func (p *patcher) delete(op patchOperation) error {
	found, err := p.find(op.path)
	if err != nil || len(found) == 0 {
		return err
	}
	if len(found) > 1 {
		return unfit("the path %s must lead to one element, and it leads to %d", shorten(op.path), len(found))
	}
	s, err := p.spot(found[0])
	if err != nil {
		return err
	}
	list := s.read()
	list.remove(s.index)
	s.write(list)
	prune(p.root)
	return nil
}

func (p *patcher) replace(op patchOperation) error {
	target, err := p.findOne(op.path)
	if err != nil {
		return err
	}
	s, err := p.spot(target)
	if err != nil {
		return err
	}
	to, renamed := s.property, s.name
	if to.Element != nil && to.Element.Choice {
		if renamed, to, err = p.property(s.typ, to.Element.Name, op.value); err != nil {
			return err
		}
	}
	value, sibling, err := p.value(op.value, to.Type)
	if err != nil {
		return err
	}
	list := s.read()
	list.values[s.index], list.siblings[s.index] = value, sibling
	if renamed != s.name {
		s.write(items{})
		s.name = renamed
	}
	s.write(list)
	return nil
}
