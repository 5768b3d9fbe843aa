package validate

import (
	"strconv"
	"strings"

	"kiln/fhir"
)

// maxAttributes is how many attributes one XHTML element may have.
const maxAttributes = 64

// attributes reads the attributes of a tag and its end; empty tells <br/> from <br>.
func (s *xhtml) attributes(element string) (empty, ok bool) {
	var room [8]string
	seen := room[:0]
	for {
		before := s.at
		s.space()
		switch rest := s.rest(); {
		case strings.HasPrefix(rest, ">"):
			s.at++
			return false, s.namespaced(element, seen)
		case strings.HasPrefix(rest, "/>"):
			s.at += 2
			return true, s.namespaced(element, seen)
		}
		name := s.name()
		if name == "" || s.at == before || before == s.at-len(name) {
			return false, s.malformed("the tag <%s> cannot be read", short(element))
		}
		value, good := s.attributeValue(element, name)
		if !good {
			return false, false
		}
		for _, other := range seen {
			if other == name {
				return false, s.malformed("<%s> has the attribute %s twice", short(element), short(name))
			}
		}
		if seen = append(seen, name); len(seen) > maxAttributes {
			return false, s.malformed("<%s> has more than %d attributes", short(element), maxAttributes)
		}
		s.attribute(element, name, value)
	}
}

// namespaced checks that the outermost div names the namespace.
func (s *xhtml) namespaced(element string, seen []string) bool {
	if len(s.open) > 0 {
		return true
	}
	for _, name := range seen {
		if name == "xmlns" {
			return true
		}
	}
	s.report(fhir.CodeInvariant, "txt-1", "The narrative's div must have xmlns=%q", xhtmlNamespace)
	return true
}

func (s *xhtml) attributeValue(element, name string) (string, bool) {
	s.space()
	if !strings.HasPrefix(s.rest(), "=") {
		return "", s.malformed("the attribute %s of <%s> has no value", short(name), short(element))
	}
	s.at++
	s.space()
	rest := s.rest()
	if rest == "" || rest[0] != '"' && rest[0] != '\'' {
		return "", s.malformed("the value of %s in <%s> is not quoted", short(name), short(element))
	}
	end := strings.IndexByte(rest[1:], rest[0])
	if end < 0 {
		return "", s.malformed("the value of %s in <%s> has no end", short(name), short(element))
	}
	value := rest[1 : end+1]
	s.at += end + 2
	if strings.IndexByte(value, '<') >= 0 {
		return "", s.malformed("< may not stand in the value of %s", short(name))
	}
	return value, s.references(value)
}

// attribute checks that an attribute may stand here and that its value does nothing.
func (s *xhtml) attribute(element, name, value string) {
	lower := strings.ToLower(name)
	switch {
	case strings.HasPrefix(lower, "on"):
		s.report(fhir.CodeSecurity, "txt-1", "The narrative must not have the event attribute %s", short(name))
	case name == "xmlns":
		if value != xhtmlNamespace {
			s.report(fhir.CodeInvariant, "txt-1", "xmlns must be %q", xhtmlNamespace)
		}
	case !globalAttributes[name] && !elementAttributes[element+" "+name]:
		if allowedElements[element] {
			s.report(fhir.CodeInvariant, "txt-1", "The narrative must not have the attribute %s on <%s>", short(name), short(element))
		}
	case linkAttributes[name]:
		if !harmlessLink(value, element == "img" && name == "src") {
			s.report(fhir.CodeSecurity, "txt-1", "The narrative must not have this link in %s: %s", name, quote(value))
		}
	case name == "style":
		if !harmlessStyle(value) {
			s.report(fhir.CodeSecurity, "txt-1", "The narrative must not have active or external content in style: %s", quote(value))
		}
	}
}

// harmlessLink says whether following a link runs nothing. Schemes are let through by name, not shut out by name.
func harmlessLink(value string, image bool) bool {
	link := strings.Map(func(c rune) rune {
		if c <= ' ' || c == 0x7F {
			return -1 // browsers skip these inside a scheme
		}
		return c
	}, strings.ToLower(unescape(value)))
	scheme, rest, found := strings.Cut(link, ":")
	if !found || strings.ContainsAny(scheme, "/?#") {
		return true // relative
	}
	if scheme == "data" {
		return image && (strings.HasPrefix(rest, "image/png") || strings.HasPrefix(rest, "image/jpeg") ||
			strings.HasPrefix(rest, "image/gif") || strings.HasPrefix(rest, "image/webp"))
	}
	return harmlessSchemes[scheme]
}

// harmlessStyle says whether a style only says how things look. Escapes and comments could hide what it says.
func harmlessStyle(value string) bool {
	style := strings.ToLower(unescape(value))
	if strings.ContainsAny(style, "\\<") || strings.Contains(style, "/*") {
		return false
	}
	for _, word := range [...]string{"expression(", "javascript:", "vbscript:", "behavior:", "-moz-binding", "@import"} {
		if strings.Contains(style, word) {
			return false
		}
	}
	for {
		_, after, found := strings.Cut(style, "url(")
		if !found {
			return true
		}
		link, rest, _ := strings.Cut(after, ")")
		if !harmlessLink(strings.Trim(strings.TrimSpace(link), `"'`), true) {
			return false
		}
		style = rest
	}
}

// unescape replaces the character references of an attribute's value.
func unescape(value string) string {
	if strings.IndexByte(value, '&') < 0 {
		return value
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(value, "&")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		name, rest, _ := strings.Cut(after, ";")
		c, _ := entity(name)
		b.WriteRune(c)
		value = rest
	}
}

// entity gives the character of &name; as XML knows it.
func entity(name string) (rune, bool) {
	switch name {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	digits, base := strings.TrimPrefix(name, "#"), 10
	if len(digits) == len(name) {
		return 0, false
	}
	if hex, ok := strings.CutPrefix(digits, "x"); ok {
		digits, base = hex, 16
	}
	c, err := strconv.ParseUint(digits, base, 32)
	legal := c == '\t' || c == '\n' || c == '\r' || c >= ' ' && c < 0xD800 || c >= 0xE000 && c <= 0x10FFFF && c|1 != 0xFFFF
	return rune(c), err == nil && legal
}
