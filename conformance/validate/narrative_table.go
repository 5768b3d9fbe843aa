package validate

import "strings"

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

// What a narrative may hold: chapters 7 to 11 (without section 4 of chapter 9) and 15 of HTML 4.0, a, img and style
// attributes (FHIR R4 narrative.html#rules), as the HL7 validator reads it.
var (
	allowedElements = set(`a abbr acronym address area b bdo big blockquote br caption cite code col colgroup dd dfn div
		dl dt em h1 h2 h3 h4 h5 h6 hr i img kbd li map ol p pre q samp small span strong sub sup table tbody td tfoot th
		thead tr tt ul var`)
	activeElements = set(`script style iframe frame frameset object embed applet form input button select textarea link
		base meta svg math video audio template noscript`)
	globalAttributes = set(`title style class id lang xml:lang dir accesskey tabindex span width align valign char charoff
		abbr axis headers scope rowspan colspan`)
	elementAttributes = pairs(`a: charset type name href hreflang rel rev shape coords
		area: shape coords href nohref alt
		blockquote: cite
		img: src alt longdesc height width usemap ismap border
		map: name
		pre: space
		q: cite
		table: summary width border frame rules cellspacing cellpadding
		td: nowrap
		th: nowrap
		ol: start type
		li: value`)
	linkAttributes  = set("href src cite longdesc usemap")
	harmlessSchemes = set("http https mailto tel fax sms ftp urn cid")
)

// pairs turns "a: href" into the word "a href".
func pairs(table string) map[string]bool {
	m := map[string]bool{}
	element := ""
	for _, w := range strings.Fields(table) {
		if name, ok := strings.CutSuffix(w, ":"); ok {
			element = name
		} else {
			m[element+" "+w] = true
		}
	}
	return m
}
