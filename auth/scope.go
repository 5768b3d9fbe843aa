package auth

import (
	"errors"
	"fmt"
	"strings"

	"kiln/conformance"
	"kiln/fhir/search"
)

// Level is whose data a scope is about.
type Level string

// The levels. LevelNone is that of scopes that are about no resources, such as openid and launch/patient.
const (
	LevelNone    Level = ""
	LevelPatient Level = "patient"
	LevelUser    Level = "user"
	LevelSystem  Level = "system"
)

// Actions is a set of the five things that a scope can allow.
type Actions uint8

// The actions, in the order of their letters: c r u d s.
const (
	Create Actions = 1 << iota
	Read           // read, vread and the history of an instance
	Update
	Delete
	Search // search, and the history of a type or of the system

	AllActions = Create | Read | Update | Delete | Search
)

const actionLetters = "cruds"

// Has says whether all of want are in a.
func (a Actions) Has(want Actions) bool { return a&want == want && want != 0 }

// String is the letters of the actions, such as "rs".
func (a Actions) String() string {
	var b strings.Builder
	for i, letter := range actionLetters {
		if a&(1<<i) != 0 {
			b.WriteRune(letter)
		}
	}
	return b.String()
}

// ParseActions reads letters in their order, each once at most. Errors: for anything else, and for none.
func ParseActions(letters string) (Actions, error) {
	var a Actions
	next := 0
	for _, letter := range letters {
		i := strings.IndexRune(actionLetters[next:], letter)
		if i < 0 {
			return 0, fmt.Errorf("%q is not made of the letters c, r, u, d and s in this order", letters)
		}
		a |= 1 << (next + i)
		next += i + 1
	}
	if a == 0 {
		return 0, errors.New("it allows nothing")
	}
	return a, nil
}

// Scope is one scope of SMART on FHIR, version 1 or 2.
// Spec: SMART App Launch 2.2, scopes-and-launch-context.html.
type Scope struct {
	// Text is the scope exactly as it was asked for.
	Text string
	// Level is LevelNone for a scope that is about no resources; then the fields below are empty.
	Level Level
	// Type is a resource type, or "*".
	Type    string
	Actions Actions
	// Params narrow the scope to the resources that match all of them.
	Params []Param
}

// Param is one condition of a granular scope: a search parameter without a modifier, and its value, with a comma
// between alternatives.
type Param struct{ Name, Value string }

// The bounds of scopes.
const (
	maxScopeLength = 1000
	maxScopeParams = 8
	// MaxScopes is how many scopes one request or token may carry.
	MaxScopes = 500
)

// ParseScope reads one scope. One that is about no resources passes as it is, provided that its characters are those
// of RFC 6749. Whether the type and the parameters exist, Check says.
//
// Errors: for what looks like a scope about resources and is none. It grants nothing then.
func ParseScope(text string) (Scope, error) {
	s := Scope{Text: text}
	fail := func(why string) (Scope, error) {
		return Scope{}, fmt.Errorf("the scope %.100q cannot be used: %s", text, why)
	}
	if text == "" || len(text) > maxScopeLength {
		return fail(fmt.Sprintf("a scope has 1 to %d characters", maxScopeLength))
	}
	for i := range len(text) {
		if c := text[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return fail("it has a character that no scope may have")
		}
	}
	level, rest, found := strings.Cut(text, "/")
	if !found || level != string(LevelPatient) && level != string(LevelUser) && level != string(LevelSystem) {
		return s, nil
	}
	rest, query, granular := strings.Cut(rest, "?")
	typ, letters, found := strings.Cut(rest, ".")
	if !found {
		return fail("want level/Type.letters, such as patient/Observation.rs")
	}
	if typ != "*" && !typeName(typ) {
		return fail("it has no resource type")
	}
	s.Level, s.Type = Level(level), typ
	switch letters {
	case "read":
		s.Actions = Read | Search
	case "write":
		s.Actions = Create | Update | Delete
	case "*":
		s.Actions = AllActions
	default:
		var err error
		if s.Actions, err = ParseActions(letters); err != nil {
			return fail(err.Error())
		}
		if granular {
			if s.Params, err = parseParams(query); err != nil {
				return fail(err.Error())
			}
		}
		return s, nil
	}
	if granular {
		return fail("scopes of version 1 take no parameters")
	}
	return s, nil
}

func typeName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !(c >= 'A' && c <= 'Z' || i > 0 && c >= 'a' && c <= 'z') {
			return false
		}
	}
	return s != ""
}

// parseParams reads name=value&name=value. Nothing but plain names is let through: a modifier, a chain or _has could
// turn a condition into its opposite, or into a question about other resources.
func parseParams(query string) ([]Param, error) {
	var list []Param
	for pair := range strings.SplitSeq(query, "&") {
		name, value, found := strings.Cut(pair, "=")
		if !found || value == "" || !paramName(name) {
			return nil, errors.New("after the question mark want name=value, the name without a modifier or a chain")
		}
		for alternative := range strings.SplitSeq(value, ",") {
			if alternative == "" || alternative == "|" || strings.ContainsAny(alternative, "#%$?") {
				return nil, errors.New("a value must be plain, such as system|code")
			}
		}
		list = append(list, Param{name, value})
	}
	if len(list) > maxScopeParams {
		return nil, fmt.Errorf("it has more than %d parameters", maxScopeParams)
	}
	return list, nil
}

func paramName(s string) bool {
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || i == 0 && c == '_' || i > 0 && (c == '-' || c >= '0' && c <= '9')) {
			return false
		}
	}
	return s != "" && s != "_"
}

// Check says what keeps a scope from being granted: a type or a parameter that does not exist, or a parameter whose
// values are ranges or parts of text, which a scope may not compare. Scopes about no resources pass.
func (s *Scope) Check(registry *conformance.Registry) error {
	if s.Level == LevelNone {
		return nil
	}
	if s.Type != "*" && !isResource(registry, s.Type) {
		return fmt.Errorf("the scope %.100q cannot be used: %q is not a resource type", s.Text, s.Type)
	}
	for _, p := range s.Params {
		typ := s.Type
		if typ == "*" { // only a parameter that every type has
			if typ = "Patient"; !strings.HasPrefix(p.Name, "_") {
				return fmt.Errorf("the scope %.100q cannot be used: not every type has the search parameter %q", s.Text, p.Name)
			}
		}
		def := registry.SearchParameter(typ, p.Name)
		if def == nil {
			return fmt.Errorf("the scope %.100q cannot be used: %s has no search parameter %q", s.Text, s.Type, p.Name)
		}
		switch def.Type {
		case search.Token, search.Reference, search.URI:
		default:
			return fmt.Errorf("the scope %.100q cannot be used: %q is a %s parameter, and only token, reference and uri parameters may stand in a scope",
				s.Text, p.Name, def.Type)
		}
		if p.Name == "_id" {
			return fmt.Errorf("the scope %.100q cannot be used: %q may not stand in a scope", s.Text, p.Name)
		}
	}
	return nil
}

func isResource(registry *conformance.Registry, name string) bool {
	for _, t := range registry.Schema().Resources {
		if t == name {
			return true
		}
	}
	return false
}

// Covers says whether everything that t allows, s allows too.
func (s *Scope) Covers(t *Scope) bool {
	if s.Level == LevelNone || t.Level == LevelNone {
		return s.Text == t.Text
	}
	if s.Level != t.Level || s.Type != "*" && s.Type != t.Type || !s.Actions.Has(t.Actions) {
		return false
	}
	for _, p := range s.Params { // t must be at least as narrow
		found := false
		for _, q := range t.Params {
			found = found || p == q
		}
		if !found {
			return false
		}
	}
	return true
}

// with is the scope for a part of its actions, in the words of version 2.
func (s *Scope) with(actions Actions) Scope {
	n := *s
	n.Actions = actions
	n.Text = string(s.Level) + "/" + s.Type + "." + actions.String()
	if len(s.Params) > 0 {
		_, query, _ := strings.Cut(s.Text, "?")
		n.Text += "?" + query
	}
	return n
}
