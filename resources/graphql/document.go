package graphql

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"

	"kiln/fhir"
)

// document is a query that has been read: the operation to run, its fragments and the values of its variables.
type document struct {
	schema    *fhir.Schema
	operation *ast.OperationDefinition
	fragments map[string]*ast.FragmentDefinition
	// variables has the values of those that have one; declared are all.
	variables map[string]*fhir.Node
	declared  map[string]bool
	// visited counts the selections that check has seen.
	visited int
	// lists are those among the arguments that have been read, and texts what written made of fields: both are asked for again and again.
	lists map[*ast.Value]*fhir.Node
	texts map[*ast.Field]string
}

// read parses a query and finds the operation to run. Errors: Invalid, TooCostly, NotSupported.
func read(q Query, schema *fhir.Schema) (*document, error) {
	if len(q.Text) > MaxQuery {
		return nil, tooMuch("A GraphQL query has %d bytes at most", MaxQuery)
	}
	parsed, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: q.Text}, MaxTokens)
	if err != nil {
		var e *gqlerror.Error
		where := ""
		if errors.As(err, &e) {
			err = errors.New(e.Message)
			if len(e.Locations) > 0 {
				where = " (line " + strconv.Itoa(e.Locations[0].Line) + ", column " + strconv.Itoa(e.Locations[0].Column) + ")"
			}
		}
		return nil, fault("query", "The query is no GraphQL: %s%s", err, where)
	}
	d := &document{schema: schema, fragments: map[string]*ast.FragmentDefinition{}, variables: map[string]*fhir.Node{}, declared: map[string]bool{},
		lists: map[*ast.Value]*fhir.Node{}, texts: map[*ast.Field]string{}}
	for _, f := range parsed.Fragments {
		if d.fragments[f.Name] != nil {
			return nil, fault(f.Name, "There are two fragments %s", f.Name)
		}
		d.fragments[f.Name] = f
	}
	for _, o := range parsed.Operations {
		if o.Name == q.Operation || q.Operation == "" && len(parsed.Operations) == 1 {
			if d.operation != nil {
				return nil, fault(o.Name, "There are two operations %s", o.Name)
			}
			d.operation = o
		}
	}
	switch {
	case d.operation == nil && len(parsed.Operations) == 0:
		return nil, fault("query", "The query has no operation")
	case d.operation == nil && q.Operation == "":
		return nil, fault("operationName", "The query has several operations; operationName says which one to run")
	case d.operation == nil:
		return nil, fault("operationName", "The query has no operation %q", q.Operation)
	case d.operation.Operation != ast.Query:
		return nil, unsupported(string(d.operation.Operation), "A %s is not offered: resources are written by the REST interactions of FHIR", d.operation.Operation)
	case len(d.operation.Directives) > 0:
		return nil, unsupported(d.operation.Name, "Directives of an operation are not offered")
	}
	return d, d.readVariables(q.Variables)
}

// readVariables gives each declared variable its value, or its default.
func (d *document) readVariables(given *fhir.Node) error {
	for _, v := range d.operation.VariableDefinitions {
		at := "variables." + v.Variable
		if d.declared[v.Variable] {
			return fault(at, "There are two variables $%s", v.Variable)
		}
		d.declared[v.Variable] = true
		if !d.isInput(v.Type) {
			return fault(at, "The variable $%s has the type %s, which is neither one of GraphQL nor a primitive type of FHIR", v.Variable, v.Type.String())
		}
		value := given.Get(v.Variable)
		if value == nil && v.DefaultValue != nil {
			n, err := d.constant(v.DefaultValue)
			if err != nil {
				return err
			}
			value = n
		}
		if value == nil || value.Kind == fhir.Null {
			if v.Type.NonNull {
				return fault(at, "The variable $%s needs a value", v.Variable)
			}
			continue
		}
		if !fits(v.Type, value) {
			return fault(at, "The value of the variable $%s is no %s", v.Variable, v.Type.String())
		}
		d.variables[v.Variable] = value
	}
	return nil
}

// isInput says whether a variable may have a type: a scalar of GraphQL or a primitive type of FHIR, or a list of such.
func (d *document) isInput(t *ast.Type) bool {
	for t.Elem != nil {
		t = t.Elem
	}
	if slices.Contains([]string{"String", "ID", "Int", "Float", "Boolean"}, t.NamedType) {
		return true
	}
	known := d.schema.Type(t.NamedType)
	return known != nil && known.Kind == fhir.Primitive
}

// fits says whether a value has the form of a type. One value stands for a list of one.
func fits(t *ast.Type, n *fhir.Node) bool {
	if t.Elem != nil {
		for item := range n.Items() {
			if !fits(t.Elem, item) {
				return false
			}
		}
		return true
	}
	switch t.NamedType {
	case "Int":
		_, err := strconv.ParseInt(n.Text, 10, 32)
		return n.Kind == fhir.Number && err == nil
	case "Float", "decimal":
		return n.Kind == fhir.Number
	case "integer", "unsignedInt", "positiveInt":
		return n.Kind == fhir.Number
	case "Boolean", "boolean":
		return n.Kind == fhir.Bool
	case "ID":
		return n.Kind == fhir.String || n.Kind == fhir.Number
	}
	return n.Kind == fhir.String
}

// constant is a value that names no variables, as JSON.
func (d *document) constant(v *ast.Value) (*fhir.Node, error) {
	n, err := d.value(v)
	if err == nil && n == nil {
		null := fhir.Node{Kind: fhir.Null}
		n = &null
	}
	return n, err
}

// value is an argument as JSON; nil for null and for a variable that has no value.
func (d *document) value(v *ast.Value) (*fhir.Node, error) {
	var n fhir.Node
	switch v.Kind {
	case ast.Variable:
		if !d.declared[v.Raw] {
			return nil, fault("variables."+v.Raw, "The variable $%s is not declared", v.Raw)
		}
		return d.variables[v.Raw], nil
	case ast.IntValue, ast.FloatValue:
		n = fhir.Num(v.Raw)
	case ast.BooleanValue:
		n = fhir.Boolean(v.Raw == "true")
	case ast.StringValue, ast.BlockValue, ast.EnumValue:
		n = fhir.Str(v.Raw)
	case ast.NullValue:
		return nil, nil
	case ast.ListValue:
		if known := d.lists[v]; known != nil {
			return known, nil
		}
		n = fhir.Arr()
		d.lists[v] = &n
		for _, c := range v.Children {
			item, err := d.value(c.Value)
			if err != nil {
				return nil, err
			}
			if item != nil {
				n.Kids = append(n.Kids, *item)
			}
		}
	default:
		return nil, fault("", "An object is no value of an argument here")
	}
	return &n, nil
}

// argument is the value of an argument of a field or directive; nil where it is not there.
func (d *document) argument(list ast.ArgumentList, name string) (*fhir.Node, error) {
	for _, a := range list {
		if a.Name == name {
			return d.value(a.Value)
		}
	}
	return nil, nil
}

// directive is one of a list by its name, or nil.
func directive(list ast.DirectiveList, name string) *ast.Directive {
	for _, d := range list {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// skips says whether @skip or @include leaves a selection out (GraphQL, section 3.13).
func (d *document) skips(list ast.DirectiveList) (bool, error) {
	for _, one := range list {
		if one.Name != "skip" && one.Name != "include" {
			continue
		}
		value, err := d.argument(one.Arguments, "if")
		if err != nil {
			return false, err
		}
		if value == nil || value.Kind != fhir.Bool || len(one.Arguments) != 1 {
			return false, fault("@"+one.Name, "@%s takes one argument, if, which is true or false", one.Name)
		}
		if (value.Text == "true") == (one.Name == "skip") {
			return true, nil
		}
	}
	return false, nil
}

// written is a field as text, without what it selects: two that are alike are one that is written twice.
func (d *document) written(f *ast.Field) string {
	if known, is := d.texts[f]; is {
		return known
	}
	var parts []string
	for _, a := range f.Arguments {
		parts = append(parts, a.Name+":"+a.Value.String())
	}
	slices.Sort(parts)
	for _, one := range f.Directives {
		parts = append(parts, "@"+one.Name)
		for _, a := range one.Arguments {
			parts = append(parts, a.Name+":"+a.Value.String())
		}
	}
	text := f.Alias + ":" + f.Name + " " + strings.Join(parts, " ")
	d.texts[f] = text
	return text
}
