package storage

import (
	"strings"

	"kiln/conformance"
	"kiln/fhir"
)

// mainDates are the parameters that may fill search_index.date_low and date_high, best first: the date by which
// people list resources of a type. The first that a type has, with one value at most, is its main date. A change here
// needs a reindex.
var mainDates = [...]string{
	"date", "authoredon", "authored", "recorded-date", "created", "recorded", "sent", "start", "issued", "period",
	"birthdate", "started", "whenhandedover", "effective-time", "event-date", "collected", "requested-period",
}

// mainDateOf returns the code of the type's main date parameter, or "".
func mainDateOf(registry *conformance.Registry, typ string) string {
	for _, code := range mainDates {
		if def := registry.SearchParameter(typ, code); def != nil && def.Type == conformance.SearchDate && isSingle(registry.Schema(), def) {
			return code
		}
	}
	return ""
}

// steps walks the plain path expressions of a parameter through the schema and calls visit for each element with the
// types that count. It returns false where an expression is more than a path.
func steps(schema *fhir.Schema, def *conformance.SearchParameter, visit func(e *fhir.Element, types []string, last bool)) bool {
	for branch := range strings.SplitSeq(def.Expression, "|") {
		branch = strings.TrimSpace(branch)
		// A filter on what a reference points at does not change which elements are passed.
		if i := strings.Index(branch, ".where(resolve() is "); i >= 0 && strings.HasSuffix(branch, ")") {
			branch = branch[:i]
		}
		only := ""
		if i := strings.Index(branch, ".ofType("); i >= 0 && strings.HasSuffix(branch, ")") {
			branch, only = branch[:i], branch[i+len(".ofType("):len(branch)-1]
		}
		names := strings.Split(branch, ".")
		t := schema.Type(names[0])
		for i, name := range names[1:] {
			if t == nil {
				return false
			}
			e := elementOf(t, name)
			if e == nil {
				return false
			}
			last := i == len(names)-2
			types := []string{only}
			if only == "" || !last {
				types = types[:0]
				for _, ref := range e.Types {
					types = append(types, ref.Code)
				}
			}
			visit(e, types, last)
			if !last {
				if len(e.Types) != 1 {
					return false
				}
				t = e.Types[0].Type
			}
		}
	}
	return true
}

func elementOf(t *fhir.Type, name string) *fhir.Element {
	for _, e := range t.Elements {
		if e.Name == name {
			return e
		}
	}
	return nil
}

// isSingle says whether a parameter can have one value at most.
func isSingle(schema *fhir.Schema, def *conformance.SearchParameter) bool {
	single := true
	plain := steps(schema, def, func(e *fhir.Element, _ []string, _ bool) {
		if e.Max != 1 {
			single = false
		}
	})
	return plain && single && !strings.Contains(def.Expression, "|")
}

// rareTerms says whether the values of a token parameter hardly ever repeat: identifiers, telephone numbers, URIs.
func rareTerms(schema *fhir.Schema, def *conformance.SearchParameter) bool {
	rare := false
	steps(schema, def, func(_ *fhir.Element, types []string, last bool) {
		if last {
			for _, t := range types {
				switch t {
				case "Identifier", "ContactPoint", "uri", "url", "canonical", "oid", "uuid", "id", "string":
					rare = true
				}
			}
		}
	})
	return rare
}

// isPatientColumn says whether a parameter fills search_index.patient.
func isPatientColumn(schema *fhir.Schema, def *conformance.SearchParameter) bool {
	return def.Code == "patient" && def.Type == conformance.SearchReference && isSingle(schema, def)
}

// implicitCodes is the value set that a parameter's code element is bound to; nil where there is none.
func implicitCodes(registry *conformance.Registry, def *conformance.SearchParameter) *conformance.CodeSet {
	if def.Type != conformance.SearchToken {
		return nil
	}
	var set *conformance.CodeSet
	steps(registry.Schema(), def, func(e *fhir.Element, types []string, last bool) {
		if last && e.Binding != nil && e.Binding.Strength == "required" && len(types) == 1 && types[0] == "code" {
			set = registry.BindingCodes(e.Binding.ValueSet)
		}
	})
	return set
}

// jsonPath is where the texts of a token or reference parameter stand in the document, for sorting by it.
func jsonPath(schema *fhir.Schema, def *conformance.SearchParameter) string {
	var paths []string
	step := "$"
	steps(schema, def, func(e *fhir.Element, types []string, last bool) {
		if !last {
			step += "." + e.Name
			return
		}
		for _, t := range types {
			name := step + "." + e.Name
			if e.Choice {
				name += strings.ToUpper(t[:1]) + t[1:]
			}
			switch t {
			case "CodeableConcept":
				name += ".coding.code"
			case "Coding":
				name += ".code"
			case "Identifier", "ContactPoint":
				name += ".value"
			case "Reference":
				name += ".reference"
			}
			paths = append(paths, name)
		}
		step = "$"
	})
	if len(paths) == 0 {
		return "$.id" // an expression that is no path: an order all the same, and a stable one
	}
	return paths[0]
}
