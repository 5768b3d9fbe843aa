package search

import (
	"fmt"
	"strings"
	"unicode"
)

// isText says whether a parameter is a full-text search: its value has a grammar of its own.
func isText(param Param) bool {
	return param.Kind == String && (param.Code == "_text" || param.Code == "_content")
}

// Text is a full-text query: a phrase, or "and", "or" or "not" of others.
type Text struct {
	Operator string // "" for a phrase, which may be a single word
	Kids     []Text
	Phrase   string
}

const (
	maxTextWords = 50
	maxTextDepth = 10
)

// text checks the value of _text or _content; ParseText reads it again for whoever answers it.
func text(v Value) (Value, string) {
	_, reason := ParseText(v.Raw)
	return v, reason
}

// ParseText reads a full-text query (R4 search.html#content): words, "phrases in quotation marks", AND, OR, NOT in any
// case, - for NOT, and parentheses. Words side by side must all be there, and AND binds before OR. reason says what is
// wrong with it, "" for nothing.
func ParseText(s string) (t Text, reason string) {
	r := &textReader{tokens: textTokens(s)}
	if words := len(r.tokens); words > maxTextWords {
		return t, fmt.Sprintf("the text has more than %d words.", maxTextWords)
	}
	t = r.any(0)
	switch {
	case r.reason != "":
		return t, r.reason
	case len(r.tokens) > 0:
		return t, "a closing parenthesis has no opening one."
	case !t.Positive():
		return t, "it must say at least one word to look for, beside those that must be absent."
	}
	return t, ""
}

// Positive says whether some word must be there for the text to match.
func (t Text) Positive() bool {
	switch t.Operator {
	case "not":
		return false
	case "and":
		for _, k := range t.Kids {
			if k.Positive() {
				return true
			}
		}
		return false
	case "or":
		for _, k := range t.Kids {
			if !k.Positive() {
				return false
			}
		}
	}
	return true
}

// textToken is a word or phrase, or a mark: one of ( ) - and or not.
type textToken struct {
	mark   string
	phrase string
}

func textTokens(s string) (list []textToken) {
	for {
		s = strings.TrimLeftFunc(s, unicode.IsSpace)
		if s == "" {
			return list
		}
		switch s[0] {
		case '(', ')', '-':
			list = append(list, textToken{mark: s[:1]})
			s = s[1:]
			continue
		case '"':
			phrase, rest, _ := strings.Cut(s[1:], `"`)
			list = append(list, textToken{phrase: phrase})
			s = rest
			continue
		}
		end := strings.IndexFunc(s, func(c rune) bool { return unicode.IsSpace(c) || strings.ContainsRune(`()"`, c) })
		if end < 0 {
			end = len(s)
		}
		switch word := s[:end]; strings.ToLower(word) {
		case "and", "or", "not":
			list = append(list, textToken{mark: strings.ToLower(word)})
		default:
			list = append(list, textToken{phrase: word})
		}
		s = s[end:]
	}
}

type textReader struct {
	tokens []textToken
	reason string
}

func (r *textReader) next() string {
	if len(r.tokens) == 0 {
		return "end"
	}
	return r.tokens[0].mark
}

// any reads alternatives with OR between them.
func (r *textReader) any(depth int) Text {
	list := []Text{r.all(depth)}
	for r.next() == "or" {
		r.tokens = r.tokens[1:]
		list = append(list, r.all(depth))
	}
	if len(list) == 1 {
		return list[0]
	}
	return Text{Operator: "or", Kids: list}
}

// all reads what stands side by side or with AND between it.
func (r *textReader) all(depth int) Text {
	list := []Text{r.one(depth)}
	for r.reason == "" {
		switch r.next() {
		case "end", ")", "or":
			if len(list) == 1 {
				return list[0]
			}
			return Text{Operator: "and", Kids: list}
		case "and":
			r.tokens = r.tokens[1:]
		}
		list = append(list, r.one(depth))
	}
	return Text{}
}

func (r *textReader) one(depth int) Text {
	mark := r.next()
	if mark == "end" || mark == ")" || mark == "and" || mark == "or" || depth > maxTextDepth {
		if r.reason == "" {
			r.reason = "a word is missing, or the parentheses nest too deeply."
		}
		return Text{}
	}
	token := r.tokens[0]
	r.tokens = r.tokens[1:]
	switch mark {
	case "not", "-":
		return Text{Operator: "not", Kids: []Text{r.one(depth + 1)}}
	case "(":
		t := r.any(depth + 1)
		if r.next() != ")" {
			if r.reason == "" {
				r.reason = "a parenthesis is not closed."
			}
			return Text{}
		}
		r.tokens = r.tokens[1:]
		return t
	}
	return Text{Phrase: token.phrase}
}
