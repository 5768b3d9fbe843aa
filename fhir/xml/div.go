package xml

import (
	"html"
	"strconv"
	"strings"

	"kiln/fhir"
)

// div reads on after the start tag of a narrative's div and gives it as JSON holds it: the text as it stands, to the
// last white space and comment, with the namespace declared on the div itself and without prefixes.
func (s *scanner) div() (text string, ok bool) {
	start, depth := s.start, len(s.open)
	plain, declares := true, false
	for _, prefix := range s.declared {
		declares = declares || prefix == ""
	}
	for t := tokenOpen; len(s.open) >= depth; t = s.next() {
		switch {
		case t == tokenEnd:
			return "", false
		case t != tokenOpen:
			continue
		case s.space != xhtmlNamespace:
			s.fail(s.start, "<%s> is not of the namespace %s, and a narrative may hold nothing else", short(s.name), xhtmlNamespace)
			return "", false
		case len(s.open)-depth >= MaxNarrativeDepth:
			s.refuse(fhir.CodeTooLong, s.start, "the elements of a narrative nest deeper than %d levels", MaxNarrativeDepth)
			return "", false
		}
		plain = plain && s.prefix == ""
		for i := range s.attrs {
			if s.attrs[i].prefix != "" && s.attrs[i].space != xmlNamespace {
				s.fail(s.attrs[i].at, "an attribute of another namespace may not stand in a narrative")
				return "", false
			}
		}
	}
	text = s.src[start:s.pos]
	switch {
	case !plain:
		again := scanner{src: text}
		for _, b := range s.bindings {
			again.bindings = append(again.bindings, binding{b.prefix, b.uri, 0})
		}
		return again.withoutPrefixes(), true
	case !declares:
		return declareXHTML(text), true
	}
	return text, true
}

const openDiv = "<div"

// declareXHTML puts the namespace into a text that begins with openDiv.
func declareXHTML(text string) string {
	return openDiv + ` xmlns="` + xhtmlNamespace + `"` + text[len(openDiv):]
}

// withoutPrefixes rewrites a div that was read once already: every element of it is XHTML.
func (s *scanner) withoutPrefixes() string {
	var b strings.Builder
	b.Grow(len(s.src))
	done, empty := 0, false
	for {
		switch t := s.next(); t {
		case tokenEnd:
			return b.String()
		case tokenOpen:
			b.WriteString(s.src[done:s.start])
			b.WriteString("<" + s.local)
			if len(s.open) == 1 {
				b.WriteString(` xmlns="` + xhtmlNamespace + `"`)
			}
			for i := range s.attrs {
				a := &s.attrs[i]
				b.WriteByte(' ')
				if a.prefix != "" {
					b.WriteString("xml:") // the one prefix that needs no declaration
				}
				b.WriteString(a.local + "=")
				b.WriteByte(a.quote)
				b.WriteString(a.raw)
				b.WriteByte(a.quote)
			}
			if empty = s.closing; empty {
				b.WriteByte('/')
			}
			b.WriteByte('>')
			done = s.pos
		case tokenClose:
			if !empty {
				b.WriteString(s.src[done:s.start] + "</")
				name := s.src[s.start+2 : s.pos]
				b.WriteString(name[strings.IndexByte(name, ':')+1:])
			}
			empty, done = false, s.pos
		}
	}
}

// embedDiv gives a narrative as it can stand inside FHIR XML, or why it cannot. Names of HTML's characters, which mean
// nothing without HTML's document type, become numbers.
func embedDiv(text string) (out, reason string) {
	text = strings.Trim(text, " \t\r\n")
	for range 2 {
		s := scanner{src: text, inDiv: true}
		if !s.characters() {
			return "", s.reason
		}
		open := s.next() == tokenOpen
		switch {
		case s.reason != "":
			return "", s.reason
		case !open || s.local != "div" || s.start != 0:
			return "", "it is not one div"
		case s.name == openDiv[1:] && s.space == "" && len(s.declared) == 0:
			text = declareXHTML(text)
			continue
		}
		if _, ok := s.div(); !ok {
			return "", s.reason
		}
		if s.pos != len(text) {
			return "", "there is more after the div"
		}
		if s.named {
			text = numberEntities(text)
		}
		return text, ""
	}
	return "", "it has no namespace"
}

// numberEntities turns &nbsp; into &#160; in a text whose references were checked.
func numberEntities(text string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "&")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		name, _, found := strings.Cut(after[:min(len(after), 40)], ";")
		plain := html.UnescapeString("&" + name + ";")
		if !found || character(name) >= 0 || strings.HasPrefix(name, "#") || strings.HasSuffix(plain, ";") {
			b.WriteByte('&')
			text = after
			continue
		}
		for _, r := range plain {
			b.WriteString("&#" + strconv.Itoa(int(r)) + ";")
		}
		text = after[len(name)+1:]
	}
}
