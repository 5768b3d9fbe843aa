package storage

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/search"
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
		if def := registry.SearchParameter(typ, code); def != nil && def.Type == search.Date && isSingle(registry.Schema(), def) {
			return code
		}
	}
	return ""
}

// isMainCode says whether a parameter has its values in search_code too, in the order of the main date: what people
// list resources of many types by.
func isMainCode(schema *fhir.Schema, def *conformance.SearchParameter) bool {
	if def.Code != "code" || def.Type != search.Token {
		return false
	}
	concepts := true
	plain := steps(schema, def, func(_ *fhir.Element, types []string, last bool) {
		concepts = concepts && (!last || len(types) == 1 && types[0] == "CodeableConcept")
	})
	return plain && concepts || !strings.Contains(def.Expression, "|") && strings.HasSuffix(def.Expression, " as CodeableConcept)")
}

// frequentTargets are the types of what much refers to, and by whose work and place people list resources of a time.
var frequentTargets = [...]string{"Practitioner", "PractitionerRole", "Organization", "Location", "HealthcareService", "Device", "Schedule"}

func isFrequentTarget(typ string) bool { return slices.Contains(frequentTargets[:], typ) }

// listing is the parameter by whose references to frequent targets search_code has the resources when def is asked for, in
// the order of the main date: def, or the one that looks at the same element and asks for no type of target. nil: none.
func listing(registry *conformance.Registry, def *conformance.SearchParameter, mainDate string) *conformance.SearchParameter {
	if def.Type != search.Reference || mainDate == "" || def.Targets != nil && !slices.ContainsFunc(def.Targets, isFrequentTarget) {
		return nil
	}
	element, _, part := strings.Cut(def.Expression, ".where(resolve() is ")
	for _, other := range registry.SearchParameters(def.Base) {
		if part && other.Type == search.Reference && other.Expression == element {
			return other
		}
	}
	return def
}

// Days says whether the values of a date parameter are days, without a time.
func Days(schema *fhir.Schema, def *conformance.SearchParameter) bool {
	days := def.Type == search.Date
	plain := steps(schema, def, func(_ *fhir.Element, types []string, last bool) {
		days = days && (!last || len(types) == 1 && types[0] == "date")
	})
	return days && plain && def.Expression != ""
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
	return def.Code == "patient" && def.Type == search.Reference && isSingle(schema, def)
}

// implicitCodes is the value set that a parameter's code element is bound to; nil where there is none.
func implicitCodes(registry *conformance.Registry, def *conformance.SearchParameter) *conformance.CodeSet {
	if def.Type != search.Token {
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

// jsonPaths are where the texts of a token or reference parameter stand in the document, for sorting by it: a path of
// SQL/JSON for each branch of the expression and each type that counts.
func jsonPaths(schema *fhir.Schema, def *conformance.SearchParameter) (paths []string) {
	if def.Expression == deceased {
		return []string{"exists($.deceasedDateTime) || $.deceasedBoolean == true"}
	}
	for branch := range strings.SplitSeq(def.Expression, "|") {
		paths = append(paths, branchPaths(schema, strings.TrimSpace(branch))...)
	}
	return paths
}

// deceased is the only official token expression that computes its value.
const deceased = "Patient.deceased.exists() and Patient.deceased != false"

var (
	whereEqual = regexp.MustCompile(`^\.where\((\w+) ?= ?'([^'"\\|[:cntrl:]]+)'\)`)
	// whereOther has a value that no official expression has, such as the system of an identifier.
	whereOther    = regexp.MustCompile(`\.where\(\w+ ?= ?'[\w-]*[^\w'-]`)
	whereResolves = regexp.MustCompile(`^\.where\(resolve\(\) is (\w+)\)`)
	// whereResolvesTo is whereResolves wherever it stands.
	whereResolvesTo = regexp.MustCompile(`\.where\(resolve\(\) is (\w+)\)`)
	onlyType        = regexp.MustCompile(`^\.ofType\((\w+)\)`)
	oneStep         = regexp.MustCompile(`^\.(\w+)(\[\d+\])?`)
)

func branchPaths(schema *fhir.Schema, branch string) (paths []string) {
	name, _, _ := strings.Cut(branch, ".")
	rest, path, only, filter := branch[len(name):], "$", "", ""
	t := schema.Type(name)
	var last *fhir.Element
	for rest != "" {
		m := whereEqual.FindStringSubmatch(rest)
		if m != nil {
			filter = fmt.Sprintf(` ? (@.%s == "%s")`, m[1], m[2])
		} else if m = whereResolves.FindStringSubmatch(rest); m != nil {
			filter = fmt.Sprintf(` ? (@.reference like_regex "(^|/)%s/")`, m[1])
		} else if m = onlyType.FindStringSubmatch(rest); m != nil {
			only = m[1]
		} else if m = oneStep.FindStringSubmatch(rest); m != nil && t != nil {
			if last != nil {
				path, filter = path+choice(last, only)+filter, ""
			}
			if last = elementOf(t, m[1]); last == nil {
				return nil
			}
			path, only, t = path+"."+m[1], "", nil
			if m[2] != "" {
				path += m[2]
			}
			if len(last.Types) == 1 {
				t = last.Types[0].Type
			}
		} else {
			return nil
		}
		if only != "" {
			t = schema.Type(only)
		}
		rest = rest[len(m[0]):]
	}
	if last == nil {
		return nil
	}
	for _, ref := range last.Types {
		if _, coded := codeIn[ref.Code]; (only == "" || only == ref.Code) && (coded || ref.Type == nil || ref.Type.Kind == fhir.Primitive) { // others have no text
			// [*]: at its end a path of the lax kind does not open an array (codes that repeat, such as subjectType).
			paths = append(paths, path+choice(last, ref.Code)+filter+codeIn[ref.Code]+"[*]")
		}
	}
	return paths
}

// choice is what the name of a choice element has at its end.
func choice(e *fhir.Element, typ string) string {
	if !e.Choice || typ == "" {
		return ""
	}
	return strings.ToUpper(typ[:1]) + typ[1:]
}

// codeIn is where a datatype has the text that it sorts by.
var codeIn = map[string]string{"CodeableConcept": ".coding.code", "Coding": ".code", "Identifier": ".value", "ContactPoint": ".value",
	"Reference": ".reference"}
