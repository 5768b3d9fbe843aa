package validate

import (
	"strings"

	"kiln/fhir"
)

// Bounds on one narrative. They are published in docs/limits.md.
const (
	// MaxNarrativeDepth is how many XHTML elements may nest.
	MaxNarrativeDepth = 100
	// maxNarrativeIssues is how many faults of one narrative are told.
	maxNarrativeIssues = 10
)

const xhtmlNamespace = "http://www.w3.org/1999/xhtml"

// narrative checks a Narrative.div (FHIR R4 narrative.html, txt-1 and txt-2): well-formed XHTML of one div, with only
// the elements and attributes that the standard allows, without entities, scripts or links that run, and with content.
//
// It reads the text once, without a parser that would follow a DTD or mend what is broken: what passes here means the
// same to an XML parser and to a browser.
func (r *run) narrative(text string) bool {
	s := xhtml{run: r, text: text}
	s.space()
	if !strings.HasPrefix(s.rest(), "<div") {
		r.fail(fhir.CodeInvariant, "txt-1", "The narrative must be one XHTML div: it must begin with <div")
		return false
	}
	for s.step() {
	}
	if !s.dead && !s.content {
		s.report(fhir.CodeInvariant, "txt-2", "The narrative must have some text or an image")
	}
	return s.issues == 0
}

// xhtml is a strict scanner of one narrative.
type xhtml struct {
	run     *run
	text    string
	at      int
	open    []string
	content bool // some text or an image was there
	dead    bool // not well-formed: the rest cannot be read
	issues  int
}

func (s *xhtml) rest() string { return s.text[s.at:] }

func (s *xhtml) space() {
	for s.at < len(s.text) && isSpace(s.text[s.at]) {
		s.at++
	}
}

func (s *xhtml) report(code, detail, format string, args ...any) {
	if s.issues++; s.issues <= maxNarrativeIssues {
		s.run.fail(code, detail, format, args...)
	}
}

// malformed ends the reading.
func (s *xhtml) malformed(format string, args ...any) bool {
	s.dead = true
	s.report(fhir.CodeStructure, "xhtml", "The narrative is not well-formed XHTML: "+format, args...)
	return false
}

// step reads one tag, comment or run of text and says whether to go on.
func (s *xhtml) step() bool {
	if s.at >= len(s.text) {
		if len(s.open) > 0 {
			return s.malformed("<%s> is not closed", s.open[len(s.open)-1])
		}
		return false
	}
	if len(s.open) == 0 && s.at > 0 {
		if s.space(); s.at == len(s.text) {
			return false
		}
		if s.text[s.at] != '<' || !strings.HasPrefix(s.rest(), "<div") || strings.TrimSpace(s.text[:s.at]) != "" {
			return s.malformed("there is more after the div")
		}
	}
	rest := s.rest()
	switch {
	case rest[0] != '<':
		return s.characters()
	case strings.HasPrefix(rest, "<!--"):
		return s.comment()
	case strings.HasPrefix(rest, "<!"), strings.HasPrefix(rest, "<?"):
		s.dead = true
		s.report(fhir.CodeSecurity, "xhtml-markup",
			"The narrative must not have a DOCTYPE, CDATA sections or processing instructions")
		return false
	case strings.HasPrefix(rest, "</"):
		return s.end()
	}
	return s.start()
}

// characters reads text up to the next tag.
func (s *xhtml) characters() bool {
	end := strings.IndexByte(s.rest(), '<')
	if end < 0 {
		end = len(s.rest())
	}
	text := s.rest()[:end]
	s.at += end
	if strings.Contains(text, "]]>") {
		return s.malformed("]]> may not stand in text")
	}
	if !s.content && strings.TrimSpace(text) != "" {
		s.content = true
	}
	return s.references(text)
}

// references checks the & in a text. XHTML inside FHIR has no DTD, so only XML's own five names and numbers mean
// something; that also leaves nothing to expand.
func (s *xhtml) references(text string) bool {
	for {
		i := strings.IndexByte(text, '&')
		if i < 0 {
			return true
		}
		text = text[i+1:]
		name, _, found := strings.Cut(text[:min(len(text), 12)], ";")
		if !found {
			return s.malformed("& must be written as &amp;")
		}
		if _, ok := entity(name); !ok {
			return s.malformed("the entity &%s; is not known to XML: write the character itself", name)
		}
	}
}

// comment reads <!-- … -->. It refuses what a browser takes for the end of a comment and XML does not.
func (s *xhtml) comment() bool {
	body := s.rest()[len("<!--"):]
	end := strings.Index(body, "--")
	if end < 0 || !strings.HasPrefix(body[end:], "-->") || strings.HasPrefix(body, ">") || strings.HasPrefix(body, "->") {
		return s.malformed("a comment must end with --> and have no other -- inside")
	}
	s.at += len("<!--") + end + len("-->")
	return true
}

func (s *xhtml) end() bool {
	s.at += 2
	name := s.name()
	s.space()
	switch {
	case len(s.open) == 0 || s.open[len(s.open)-1] != name:
		open := "nothing"
		if len(s.open) > 0 {
			open = "<" + s.open[len(s.open)-1] + ">"
		}
		return s.malformed("</%s> closes %s", short(name), open)
	case !strings.HasPrefix(s.rest(), ">"):
		return s.malformed("</%s is not ended by >", short(name))
	}
	s.at++
	s.open = s.open[:len(s.open)-1]
	return true
}

// name reads an XML name; only ASCII ones can be right here.
func (s *xhtml) name() string {
	from := s.at
	for s.at < len(s.text) {
		c := s.text[s.at] | 0x20
		if !(c >= 'a' && c <= 'z' || strings.IndexByte("0123456789-_.:", s.text[s.at]) >= 0) {
			break
		}
		s.at++
	}
	return s.text[from:s.at]
}

func (s *xhtml) start() bool {
	s.at++
	name := s.name()
	if name == "" {
		return s.malformed("< must be written as &lt;")
	}
	if len(s.open) == 0 && name != "div" {
		return s.malformed("it must be one div")
	}
	if !allowedElements[name] {
		code := fhir.CodeInvariant
		if activeElements[strings.ToLower(name)] {
			code = fhir.CodeSecurity
		}
		s.report(code, "txt-1", "The narrative must not have the element <%s>", short(name))
	}
	s.content = s.content || name == "img"
	empty, ok := s.attributes(name)
	if !ok || empty {
		return ok
	}
	if len(s.open) >= MaxNarrativeDepth {
		s.dead = true
		s.report(fhir.CodeTooLong, "xhtml-depth", "The narrative's elements nest deeper than %d levels", MaxNarrativeDepth)
		return false
	}
	s.open = append(s.open, name)
	return true
}

func short(name string) string { return name[:min(len(name), 40)] }
