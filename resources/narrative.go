package resources

import (
	"html"
	"regexp"
	"strings"
)

// narrativeLink is an attribute of narrative that holds a link. The XHTML of FHIR has quoted attributes only.
var narrativeLink = regexp.MustCompile(`[\s"'](?:href|src)\s*=\s*(?:"[^"]*"|'[^']*')`)

// rewriteNarrative changes the links of a narrative that go to entries of the transaction; called finds those.
func rewriteNarrative(div string, called func(string) (*txEntry, string)) string {
	return narrativeLink.ReplaceAllStringFunc(div, func(attribute string) string {
		begin := strings.IndexByte(attribute, '=') + 1
		begin += strings.IndexAny(attribute[begin:], `"'`) + 1
		target, fragment := called(html.UnescapeString(attribute[begin : len(attribute)-1]))
		if target == nil {
			return attribute
		}
		link := target.key.Type + "/" + target.key.ID + html.EscapeString(fragment)
		return attribute[:begin] + link + attribute[len(attribute)-1:]
	})
}
