package auth

import (
	"fmt"
	"strings"
)

// Scopes are the scopes of a request or of a token, in their order, each once.
type Scopes []Scope

// ParseScopes reads scopes with spaces between them. What cannot be read is left out and told of in faults: whoever
// grants may grant less than was asked for, never more.
func ParseScopes(text string) (list Scopes, faults []error) {
	seen := map[string]bool{}
	for word := range strings.FieldsSeq(text) {
		if seen[word] {
			continue
		}
		seen[word] = true
		s, err := ParseScope(word)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if len(list) == MaxScopes {
			return list, append(faults, fmt.Errorf("there are more than %d scopes", MaxScopes))
		}
		list = append(list, s)
	}
	return list, faults
}

// String is the scopes as they were asked for, with a space between them.
func (list Scopes) String() string {
	texts := make([]string, len(list))
	for i, s := range list {
		texts[i] = s.Text
	}
	return strings.Join(texts, " ")
}

// Has says whether a scope is there, word for word: "openid", "launch/patient".
func (list Scopes) Has(text string) bool {
	for _, s := range list {
		if s.Text == text {
			return true
		}
	}
	return false
}

// Covers says whether everything that t allows, the list allows too.
func (list Scopes) Covers(t *Scope) bool {
	if t.Level == LevelNone {
		return list.Has(t.Text)
	}
	return list.covered(t) == t.Actions && t.Actions != 0
}

// covered are the actions of t that the list allows.
func (list Scopes) covered(t *Scope) (actions Actions) {
	for i := range actionLetters {
		one := *t
		if one.Actions = t.Actions & (1 << i); one.Actions == 0 {
			continue
		}
		for j := range list {
			if list[j].Level != LevelNone && list[j].Covers(&one) {
				actions |= one.Actions
				break
			}
		}
	}
	return actions
}

// Grant is what of asked the list allows. A scope that is allowed whole keeps its text; one that is allowed in part is
// narrowed to the actions that are, and for asked wildcards to the types that the list names.
func (list Scopes) Grant(asked Scopes) Scopes {
	var granted Scopes
	add := func(s Scope) {
		if !granted.Has(s.Text) {
			granted = append(granted, s)
		}
	}
	for i := range asked {
		want := &asked[i]
		if list.Covers(want) {
			add(*want)
			continue
		}
		if want.Level == LevelNone {
			continue
		}
		if actions := list.covered(want); actions != 0 {
			add(want.with(actions))
		}
		for j := range list { // what the list allows and the asked one would cover, but for its actions
			have := &list[j]
			if have.Level == LevelNone {
				continue
			}
			part := *have
			if part.Actions = have.Actions & want.Actions; part.Actions == 0 || !want.Covers(&part) || granted.Covers(&part) {
				continue
			}
			if part.Actions == have.Actions {
				add(*have)
			} else {
				add(have.with(part.Actions))
			}
		}
	}
	return granted
}

// About are the scopes that allow an action on a type, at any level.
func (list Scopes) About(typ string, action Actions) (found Scopes) {
	for _, s := range list {
		if s.Level != LevelNone && (s.Type == "*" || s.Type == typ) && s.Actions.Has(action) {
			found = append(found, s)
		}
	}
	return found
}
