package resources

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"kiln/conformance"
	"kiln/fhir"
)

// argument is one argument of a call: a value, a resource, or parts.
type argument struct {
	name string
	// value is a data type; its Name is value[x] as it came, or value and the declared type where it came in the URL.
	value    *fhir.Node
	resource *fhir.Node
	parts    arguments
	// at is where it stands, for messages: "Parameters.parameter[2]" or "http.name".
	at string
}

// arguments are those of a call, in their order. They fit the operation's definition: names, numbers and types.
type arguments []argument

// first is the first argument with a name, or nil.
func (a arguments) first(name string) *argument {
	for i := range a {
		if a[i].name == name {
			return &a[i]
		}
	}
	return nil
}

// all are the arguments with a name.
func (a arguments) all(name string) arguments {
	return slices.DeleteFunc(slices.Clone(a), func(x argument) bool { return x.name != name })
}

// text is the text of the first primitive argument with a name, or "".
func (a arguments) text(name string) string {
	if x := a.first(name); x != nil && x.value != nil {
		return x.value.Text
	}
	return ""
}

// number is the argument as a number, of one that is declared to be an integer.
func (x *argument) number() int {
	n, _ := strconv.Atoi(x.value.Text)
	return n
}

// texts are those of all primitive arguments with a name.
func (a arguments) texts(name string) []string {
	var list []string
	for _, x := range a {
		if x.name == name && x.value != nil {
			list = append(list, x.value.Text)
		}
	}
	return list
}

// is says whether the boolean argument with a name is true.
func (a arguments) is(name string) bool { return a.text(name) == "true" }

// resource is the resource of the first argument with a name, or nil.
func (a arguments) resource(name string) *fhir.Node {
	if x := a.first(name); x != nil {
		return x.resource
	}
	return nil
}

// readArguments takes the arguments from the URL and from the body: Parameters, or a resource by itself where the
// operation takes just one (FHIR R4 operations.html#request).
//
// Errors: Invalid, with everything found.
func (s *Service) readArguments(o *conformance.Operation, r *Request) (arguments, error) {
	p := argumentReader{schema: s.registry.Schema(), operation: o, faults: &fhir.Error{Kind: fhir.Invalid, Issues: s.malformed(r.Body)}}
	if len(p.faults.Issues) > 0 {
		return nil, p.faults
	}
	args := p.query(r.Query, r.Lenient)
	switch {
	case r.Body == nil:
	case r.Body.ResourceType() == "Parameters" && !p.takesParameters():
		args = append(args, p.list(r.Body.Get("parameter"), o.In, "Parameters.parameter")...)
	default:
		if only := p.onlyResource(); only == nil {
			p.fault(fhir.CodeInvalid, "resourceType", "$"+o.Code+" takes its arguments in a Parameters resource")
		} else if p.fits(only, r.Body, r.Body.ResourceType()) {
			args = append(args, argument{name: only.Name, resource: r.Body, at: r.Body.ResourceType()})
		}
	}
	p.count(args, o.In, "Parameters")
	if len(p.faults.Issues) > 0 {
		return nil, p.faults
	}
	return args, nil
}

// malformed is what keeps a Parameters resource from being one. What is in the resources that it carries is no matter of its
// own: $validate is asked about faulty ones.
func (s *Service) malformed(n *fhir.Node) (faults []fhir.Issue) {
	if n == nil || n.ResourceType() != "Parameters" || s.options.Validate == nil || s.options.Lenient {
		return nil
	}
	for _, i := range s.options.Validate(n) {
		carried := slices.ContainsFunc(i.Expression, func(at string) bool { return strings.Contains(at, "].resource") })
		if i.Severity == fhir.SeverityError && len(i.Expression) > 0 && !carried && len(faults) < maxFaults {
			faults = append(faults, i)
		}
	}
	return faults
}

// argumentReader collects what is wrong with the arguments of one call.
type argumentReader struct {
	schema    *fhir.Schema
	operation *conformance.Operation
	faults    *fhir.Error
}

func (p *argumentReader) fault(code, at, text string) {
	if len(p.faults.Issues) < maxFaults {
		p.faults.Issues = append(p.faults.Issues, fhir.Issue{Severity: fhir.SeverityError, Code: code, Text: text, Expression: []string{at}})
	}
}

// onlyResource is the one in-parameter that is a resource, or nil where there is none or several.
func (p *argumentReader) onlyResource() *conformance.OperationParameter {
	var only *conformance.OperationParameter
	for i := range p.operation.In {
		if q := &p.operation.In[i]; p.isResource(q.Type) && len(q.Parts) == 0 {
			if only != nil {
				return nil
			}
			only = q
		}
	}
	return only
}

// takesParameters says whether a Parameters resource is the argument itself.
func (p *argumentReader) takesParameters() bool {
	only := p.onlyResource()
	return only != nil && only.Type == "Parameters"
}

// isResource says whether a declared type is a resource type; no type is any resource.
func (p *argumentReader) isResource(name string) bool {
	if name == "" || name == "Resource" {
		return true
	}
	t := p.schema.Type(name)
	return t != nil && t.Kind == fhir.Resource
}

// query reads the arguments of a URL: primitive values, and references and Codings as a search writes them.
func (p *argumentReader) query(query string, lenient bool) arguments {
	var args arguments
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		key, raw, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(key)
		value, err2 := url.QueryUnescape(raw)
		if err != nil || err2 != nil {
			p.fault(fhir.CodeInvalid, "http", quote(pair)+" has a percent sign that is no escape")
			continue
		}
		declared := p.operation.Parameter(name)
		switch {
		case declared == nil && lenient:
		case declared == nil:
			p.unknown(name, p.operation.In, "http."+name)
		case declared.Type == "Reference" && len(declared.Parts) == 0: // as in a search
			v := reference(value).As("valueReference")
			args = append(args, argument{name: name, value: &v, at: "http." + name})
		case declared.Type == "Coding" && len(declared.Parts) == 0:
			system, code, with := strings.Cut(value, "|")
			if !with {
				system, code = "", value
			}
			if code == "" {
				p.fault(fhir.CodeValue, "http."+name, "The argument "+name+" is a code, or system|code")
				continue
			}
			v := fhir.Obj().As("valueCoding")
			if system != "" {
				v.Set("system", fhir.Str(system))
			}
			v.Set("code", fhir.Str(code))
			args = append(args, argument{name: name, value: &v, at: "http." + name})
		case len(declared.Parts) > 0 || declared.Type == "" || !p.isPrimitive(declared.Type):
			p.fault(fhir.CodeInvalid, "http."+name, "The argument "+name+" cannot stand in the URL; send it in the body, in a Parameters resource")
		default:
			v := fhir.Str(value).As("value" + strings.ToUpper(declared.Type[:1]) + declared.Type[1:])
			switch declared.Type {
			case "boolean":
				v.Kind = fhir.Bool
			case "integer", "positiveInt", "unsignedInt", "decimal":
				v.Kind = fhir.Number
			}
			if p.primitive(declared.Type, &v, "http."+name) {
				args = append(args, argument{name: name, value: &v, at: "http." + name})
			}
		}
	}
	return args
}

func (p *argumentReader) isPrimitive(name string) bool {
	t := p.schema.Type(name)
	return t != nil && t.Kind == fhir.Primitive
}

func (p *argumentReader) unknown(name string, declared []conformance.OperationParameter, at string) {
	names := make([]string, len(declared))
	for i, d := range declared {
		names[i] = d.Name
	}
	text := "$" + p.operation.Code + " has no parameter " + quote(name)
	if len(names) > 0 {
		text += "; it has " + strings.Join(names, ", ")
	}
	p.fault(fhir.CodeNotSupported, at, text)
}

// list reads parameters or parts.
func (p *argumentReader) list(n *fhir.Node, declared []conformance.OperationParameter, at string) arguments {
	var args arguments
	i := -1
	for item := range n.Items() {
		i++
		here := at + "[" + strconv.Itoa(i) + "]"
		name := item.GetText("name")
		var d *conformance.OperationParameter
		for j := range declared {
			if declared[j].Name == name {
				d = &declared[j]
			}
		}
		if d == nil {
			p.unknown(name, declared, here)
			continue
		}
		arg := argument{name: name, at: here, resource: item.Get("resource")}
		for j := range item.Kids {
			if strings.HasPrefix(item.Kids[j].Name, "value") {
				arg.value = &item.Kids[j]
			}
		}
		parts := item.Get("part")
		switch {
		case len(d.Parts) > 0:
			if parts == nil {
				p.fault(fhir.CodeRequired, here, "The argument "+name+" consists of parts")
				continue
			}
			arg.parts = p.list(parts, d.Parts, here+".part")
			p.count(arg.parts, d.Parts, here)
		case arg.resource != nil:
			if !p.fits(d, arg.resource, here+".resource") {
				continue
			}
		case arg.value != nil:
			if !p.valueFits(d, arg.value, here) {
				continue
			}
		default:
			p.fault(fhir.CodeRequired, here, "The argument "+name+" has no value")
			continue
		}
		args = append(args, arg)
	}
	return args
}

// fits says whether a resource is one that the parameter takes.
func (p *argumentReader) fits(d *conformance.OperationParameter, resource *fhir.Node, at string) bool {
	typ := resource.ResourceType()
	t := p.schema.Type(typ)
	switch {
	case t == nil || t.Kind != fhir.Resource || t.Abstract:
		p.fault(fhir.CodeStructure, at, quote(typ)+" is not a resource type of FHIR R4")
	case !p.isResource(d.Type) || d.Type != "" && d.Type != "Resource" && d.Type != typ:
		p.fault(fhir.CodeInvalid, at, "The argument "+d.Name+" takes "+d.Type+", not the resource "+typ)
	default:
		return true
	}
	return false
}

// valueFits says whether a value has the type that the parameter takes. Types that are written the same stand for
// each other: clients do not tell a uri from a canonical.
func (p *argumentReader) valueFits(d *conformance.OperationParameter, value *fhir.Node, at string) bool {
	got := strings.TrimPrefix(value.Name, "value")
	if t := p.schema.Type(strings.ToLower(got[:min(1, len(got))]) + got[min(1, len(got)):]); t != nil && t.Kind == fhir.Primitive {
		got = t.Name
	}
	switch {
	case d.Type == "" || d.Type == "*" || d.Type == "Element":
		return true
	case p.isResource(d.Type):
		p.fault(fhir.CodeInvalid, at, "The argument "+d.Name+" takes a resource of the type "+d.Type)
		return false
	case p.isPrimitive(d.Type):
		if !p.isPrimitive(got) || family(got) != family(d.Type) {
			p.fault(fhir.CodeInvalid, at, "The argument "+d.Name+" takes a "+d.Type+", not a "+got)
			return false
		}
		return p.primitive(d.Type, value, at)
	case got != d.Type:
		p.fault(fhir.CodeInvalid, at, "The argument "+d.Name+" takes a "+d.Type+", not a "+got)
		return false
	}
	return true
}

// family names the primitive types whose JSON looks alike.
func family(primitive string) string {
	switch primitive {
	case "boolean":
		return "boolean"
	case "integer", "positiveInt", "unsignedInt", "decimal":
		return "number"
	}
	return "text"
}

// primitive checks the form of a primitive value.
func (p *argumentReader) primitive(typ string, value *fhir.Node, at string) bool {
	text, ok := value.Text, true
	switch typ {
	case "boolean":
		ok = value.Kind == fhir.Bool && (text == "true" || text == "false")
	case "integer":
		_, err := strconv.ParseInt(text, 10, 32)
		ok = err == nil
	case "unsignedInt", "positiveInt":
		n, err := strconv.ParseInt(text, 10, 32)
		ok = err == nil && n >= 0 && (n > 0 || typ == "unsignedInt")
	case "decimal":
		_, err := strconv.ParseFloat(text, 64)
		ok = err == nil
	case "date":
		d, valid := fhir.ParseDateTime(text, nil)
		ok = valid && d.Precision <= fhir.PrecisionDay
	case "dateTime":
		_, ok = fhir.ParseDateTime(text, nil)
	case "instant":
		d, valid := fhir.ParseDateTime(text, nil)
		ok = valid && d.Zoned && d.Precision >= fhir.PrecisionSecond
	case "id":
		ok = fhir.ValidID(text)
	case "code", "uri", "url", "canonical", "string":
		ok = value.Kind == fhir.String && text != "" && !strings.ContainsRune(text, 0)
	}
	if !ok {
		p.fault(fhir.CodeValue, at, quote(text)+" is not a valid "+typ)
	}
	return ok
}

// count checks how often each parameter came.
func (p *argumentReader) count(args arguments, declared []conformance.OperationParameter, at string) {
	for _, d := range declared {
		n := 0
		for _, a := range args {
			if a.name == d.Name {
				n++
			}
		}
		switch {
		case n < d.Min:
			p.fault(fhir.CodeRequired, at, "$"+p.operation.Code+" needs the argument "+d.Name)
		case d.Max >= 0 && n > d.Max:
			p.fault(fhir.CodeInvalid, at, "The argument "+d.Name+" may come "+times(d.Max)+", and came "+times(n))
		}
	}
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times"
}
