package search_test

import (
	"strings"
	"testing"

	"kiln/fhir/search"
)

// plain is a catalog of one type and one parameter.
type plain struct{}

func (plain) IsResource(name string) bool { return name == "Basic" || name == "List" }
func (plain) Param(typ, code string) (search.Param, bool) {
	switch {
	case code == "_id":
		return search.Param{Code: code, Kind: search.Token}, true
	case typ == "Basic" && code == "author", typ == "List" && code == "item":
		return search.Param{Code: code, Kind: search.Reference}, true
	}
	return search.Param{}, false
}
func (plain) Codes(string) []string                  { return []string{"_id", "author"} }
func (plain) CompartmentParams(_, _ string) []string { return nil }
func (plain) ResourceTypes() []string                { return []string{"Basic", "List"} }

// TestCommons_are_what_the_parser_takes: what is declared is taken where it is declared for, and refused in criteria where it shapes
// the answer.
func TestCommons_are_what_the_parser_takes(t *testing.T) {
	t.Parallel()
	pairs := map[string]search.Pair{
		"_has": {Name: "_has:Basic:author:_id", Value: "x"}, "_filter": {Name: "_filter", Value: "_id eq x"}, "_in": {Name: "_in", Value: "List/x"},
		"_list": {Name: "_list", Value: "x"}, "_include": {Name: "_include", Value: "Basic:author"}, "_revinclude": {Name: "_revinclude", Value: "Basic:author"},
		"_sort": {Name: "_sort", Value: "_id"}, "_summary": {Name: "_summary", Value: "text"}, "_total": {Name: "_total", Value: "none"}, "_count": {Name: "_count", Value: "3"},
		"_elements": {Name: "_elements", Value: "id"}, "_contained": {Name: "_contained", Value: "both"}, "_containedType": {Name: "_containedType", Value: "container"},
		"_type": {Name: "_type", Value: "Basic"},
	}
	for _, c := range search.Commons() {
		pair, ok := pairs[c.Name]
		if !ok {
			t.Fatalf("%s: this test knows no value", c.Name)
		}
		for _, types := range [][]string{{"Basic"}, nil} {
			if q, err := search.Parse([]search.Pair{pair}, plain{}, search.Options{Types: types}); c.System && types != nil {
				if err == nil {
					t.Errorf("%s is taken for one type", c.Name)
				}
			} else if err != nil || len(q.Applied) != 1 {
				t.Errorf("%s of %v: %v", c.Name, types, err)
			}
		}
		_, err := search.Parse([]search.Pair{pair}, plain{}, search.Options{Types: []string{"Basic"}, ConditionsOnly: true})
		if (err != nil) != (c.Shapes || c.System) {
			t.Errorf("%s in criteria: %v", c.Name, err)
		}
		delete(pairs, c.Name)
	}
	for name := range pairs {
		t.Errorf("the parser takes %s, which is not declared", name)
	}
}

// TestLists_are_one_question_for_each_type: a thousand of them are no thousand conditions.
func TestLists_are_one_question_for_each_type(t *testing.T) {
	t.Parallel()
	value := "List/a" + strings.Repeat(",List/b", search.MaxValues-1)
	q, err := search.Parse([]search.Pair{{Name: "author._in", Value: value}}, plain{}, search.Options{Types: []string{"Basic"}})
	if err != nil {
		t.Fatal(err)
	}
	conditions, values := 0, 0
	var count func(search.Expr)
	count = func(e search.Expr) {
		switch e := e.(type) {
		case search.Or:
			for _, one := range e {
				count(one)
			}
		case *search.Chain:
			count(e.Where)
		case *search.Has:
			conditions++
			values += len(e.Where.(*search.Match).Values)
		}
	}
	count(q.Where[0])
	if conditions != 2 || values != 2*search.MaxValues { // of a Basic and of a List, which an author may be
		t.Errorf("%d conditions on %d values", conditions, values)
	}
}
