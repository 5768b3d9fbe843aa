package path

import (
	"regexp"
	resyntax "regexp/syntax"
)

// pattern is a compiled regular expression. Go's engine takes time in proportion to size × text, never more.
type pattern struct {
	*regexp.Regexp
	size int // instructions
}

// compilePattern reads a regular expression in Go's syntax (RE2), in which FHIR's own patterns are written too. The dot
// matches line ends (FHIRPath: single line mode). full asks for a match of the whole text.
func compilePattern(source string, full bool) (*pattern, error) {
	if len(source) > MaxPattern {
		return nil, failf("a regular expression has more than %d characters", MaxPattern)
	}
	if full {
		source = `\A(?:` + source + `)\z`
	}
	source = "(?s)" + source
	parsed, err := resyntax.Parse(source, resyntax.Perl)
	if err != nil {
		return nil, failf("the regular expression is not one that the server knows")
	}
	program, err := resyntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, failf("the regular expression is not one that the server knows")
	}
	re, err := regexp.Compile(source)
	if err != nil {
		return nil, failf("the regular expression is not one that the server knows")
	}
	return &pattern{re, len(program.Inst)}, nil
}

// regex returns the compiled pattern of a call and charges for its run over s.
func (c *ctx) regex(x *call, s, source string) (*pattern, error) {
	p := x.pattern
	if p == nil {
		if err := c.step(500); err != nil {
			return nil, err
		}
		var err error
		if p, err = compilePattern(source, x.name == "matchesFull"); err != nil {
			return nil, err
		}
	}
	return p, c.step(1 + len(s)*p.size/64)
}
