package oauth

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"kiln/auth"
)

// choice is one line of the consent page: a scope about resources, which the user can take away or narrow.
type choice struct {
	// Key names its checkbox.
	Key string
	// Label says what it is about, Actions what the app may do with it.
	Label, Actions string
	// Note tells what a granular scope narrows it to.
	Note string
	// Kinds are the categories that it can be narrowed to; Types, for a wildcard, the types.
	Kinds []kind
	Types []choice

	scope auth.Scope
}

// kind is a category that an app's access to a type can be narrowed to.
type kind struct {
	Key, Label string
	value      string // system|code
}

// kindsOf are the categories that US Core asks servers to grant by, and patients to choose from.
// Spec: US Core 7.0.0, scopes.html.
var kindsOf = map[string][]kind{
	"Condition": {
		{"problem-list-item", "Problem list", "http://terminology.hl7.org/CodeSystem/condition-category|problem-list-item"},
		{"encounter-diagnosis", "Diagnoses of visits", "http://terminology.hl7.org/CodeSystem/condition-category|encounter-diagnosis"},
		{"health-concern", "Health concerns", "http://hl7.org/fhir/us/core/CodeSystem/condition-category|health-concern"},
	},
	"Observation": {
		{"laboratory", "Laboratory results", "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"},
		{"vital-signs", "Vital signs", "http://terminology.hl7.org/CodeSystem/observation-category|vital-signs"},
		{"social-history", "Social history", "http://terminology.hl7.org/CodeSystem/observation-category|social-history"},
		{"survey", "Surveys and assessments", "http://terminology.hl7.org/CodeSystem/observation-category|survey"},
		{"sdoh", "Social circumstances", "http://hl7.org/fhir/us/core/CodeSystem/us-core-category|sdoh"},
		{"imaging", "Imaging", "http://terminology.hl7.org/CodeSystem/observation-category|imaging"},
		{"procedure", "From procedures", "http://terminology.hl7.org/CodeSystem/observation-category|procedure"},
		{"exam", "From examinations", "http://terminology.hl7.org/CodeSystem/observation-category|exam"},
		{"therapy", "From therapies", "http://terminology.hl7.org/CodeSystem/observation-category|therapy"},
		{"activity", "Activity", "http://terminology.hl7.org/CodeSystem/observation-category|activity"},
	},
}

// recordTypes are the types of a patient's record: those of the patient compartment.
func (s *Server) recordTypes() []string {
	registry := s.options.Registry()
	compartment := registry.Compartment("Patient")
	var types []string
	for _, typ := range registry.Schema().Resources {
		if typ == "Patient" || len(compartment.Params(typ)) > 0 {
			types = append(types, typ)
		}
	}
	return types
}

// choices lists the scopes about resources of a flow, one line each.
func (s *Server) choices(f *flow) []choice {
	var list []choice
	for i, scope := range f.asked {
		if scope.Level == auth.LevelNone {
			continue
		}
		c := choiceOf(scope, strconv.Itoa(i))
		if scope.Type == "*" && len(scope.Params) == 0 {
			for _, typ := range s.recordTypes() {
				one := scope
				one.Type, one.Text = typ, string(scope.Level)+"/"+typ+strings.TrimPrefix(scope.Text, string(scope.Level)+"/*")
				c.Types = append(c.Types, choiceOf(one, c.Key+"."+typ))
			}
		}
		list = append(list, c)
	}
	return list
}

func choiceOf(scope auth.Scope, key string) choice {
	c := choice{Key: key, Label: typeLabel(scope.Type), Actions: actionLabel(scope.Actions), scope: scope}
	if scope.Level == auth.LevelUser {
		c.Label += " that you can see"
	}
	for _, p := range scope.Params {
		c.Note = strings.TrimPrefix(c.Note+"; only "+p.Name+" "+p.Value, "; ")
	}
	if len(scope.Params) == 0 {
		c.Kinds = kindsOf[scope.Type]
	}
	return c
}

// typeLabel writes a type as words: MedicationRequest becomes "Medication request".
func typeLabel(typ string) string {
	if typ == "*" {
		return "Everything in the record"
	}
	var b strings.Builder
	for i, letter := range typ {
		if i > 0 && unicode.IsUpper(letter) {
			b.WriteByte(' ')
			letter = unicode.ToLower(letter)
		}
		b.WriteRune(letter)
	}
	return b.String()
}

func actionLabel(a auth.Actions) string {
	var words []string
	if a&(auth.Read|auth.Search) != 0 {
		words = append(words, "see")
	}
	for _, one := range []struct {
		action auth.Actions
		word   string
	}{{auth.Create, "add"}, {auth.Update, "change"}, {auth.Delete, "delete"}} {
		if a.Has(one.action) {
			words = append(words, one.word)
		}
	}
	return strings.Join(words, ", ")
}

// chosen is what the user granted by sending the form of the consent page: never more than was on it.
func (s *Server) chosen(f *flow, form url.Values) auth.Scopes {
	ticked := func(name, value string) bool { return slices.Contains(form[name], value) }
	var granted auth.Scopes
	add := func(scope auth.Scope) {
		if !granted.Has(scope.Text) {
			granted = append(granted, scope)
		}
	}
	picked := false
	take := func(c choice) {
		some := false
		picked = true
		for _, kind := range c.Kinds {
			if ticked("kind-"+c.Key, kind.Key) {
				text := string(c.scope.Level) + "/" + c.scope.Type + "." + c.scope.Actions.String() + "?category=" + kind.value
				if scope, err := auth.ParseScope(text); err == nil {
					add(scope)
					some = true
				}
			}
		}
		if !some {
			add(c.scope)
		}
	}
	resources := 0
	for _, c := range s.choices(f) {
		resources++
		if ticked("scope", c.Key) {
			take(c)
			continue
		}
		for _, one := range c.Types {
			if ticked("scope", one.Key) {
				take(one)
			}
		}
	}
	if resources > 0 && !picked {
		return nil
	}
	for _, scope := range f.asked {
		if scope.Level != auth.LevelNone {
			continue
		}
		if (scope.Text == scopeOffline || scope.Text == scopeOnline) && !ticked("scope", scope.Text) {
			continue
		}
		add(scope)
	}
	return granted
}
