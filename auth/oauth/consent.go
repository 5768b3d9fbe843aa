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

// choices lists the scopes about resources of a flow, one line each.
func (s *Server) choices(f *flow) []choice {
	var list []choice
	for i, scope := range f.asked {
		if scope.Level == auth.LevelNone {
			continue
		}
		c := choiceOf(scope, strconv.Itoa(i))
		if scope.Type == "*" && len(scope.Params) == 0 {
			for _, typ := range auth.RecordTypes(s.options.Registry()) {
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
	switch {
	case scope.Level == auth.LevelUser && scope.Type == "*":
		c.Label = "Everything that you can see"
	case scope.Level == auth.LevelUser:
		c.Label += " that you can see"
	}
	for _, p := range scope.Params {
		c.Note = strings.TrimPrefix(c.Note+"; only "+narrowing(scope.Type, p), "; ")
	}
	if len(scope.Params) == 0 {
		c.Kinds = kindsOf[scope.Type]
	}
	return c
}

// narrowing says what a parameter narrows a scope to: the kind by its name, where it is one that people know.
func narrowing(typ string, p auth.Param) string {
	for _, kind := range kindsOf[typ] {
		if p.Name == "category" && p.Value == kind.value {
			return kind.Label
		}
	}
	return p.Name + " " + p.Value
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

// chosen is what the user granted by sending the form of the consent page: never more than was on it, in the order of the
// request. Nothing where none of the scopes about resources was left.
func (s *Server) chosen(f *flow, form url.Values) auth.Scopes {
	ticked := func(name, value string) bool { return slices.Contains(form[name], value) }
	lines := map[string]choice{}
	for _, c := range s.choices(f) {
		lines[c.scope.Text] = c
	}
	var granted auth.Scopes
	resources := 0
	for _, scope := range f.asked {
		var some auth.Scopes
		switch c := lines[scope.Text]; {
		case scope.Level == auth.LevelNone:
			if scope.Text != scopeOffline && scope.Text != scopeOnline || ticked("scope", scope.Text) {
				some = auth.Scopes{scope}
			}
		default:
			for _, one := range c.Types { // those that are ticked and no others, whether all of it is ticked or not
				if ticked("scope", one.Key) {
					some = append(some, one.narrowed(ticked)...)
				}
			}
			if len(some) == 0 && ticked("scope", c.Key) {
				some = c.narrowed(ticked)
			}
			resources += len(some)
		}
		for _, one := range some {
			if !granted.Has(one.Text) {
				granted = append(granted, one)
			}
		}
	}
	if len(lines) > 0 && resources == 0 {
		return nil
	}
	return granted
}

// narrowed is the scope of a line that was ticked, or one scope for each kind of it that was.
func (c *choice) narrowed(ticked func(name, value string) bool) (list auth.Scopes) {
	for _, kind := range c.Kinds {
		if !ticked("kind-"+c.Key, kind.Key) {
			continue
		}
		text := string(c.scope.Level) + "/" + c.scope.Type + "." + c.scope.Actions.String() + "?category=" + kind.value
		if scope, err := auth.ParseScope(text); err == nil {
			list = append(list, scope)
		}
	}
	if len(list) == 0 {
		list = auth.Scopes{c.scope}
	}
	return list
}
