package server

import (
	"mime"
	"net/url"
	"strconv"
	"strings"

	"kiln/fhir"
)

// format is a form in which resources leave the server.
type format struct {
	name string
	// contentType is the header's value; a slice, so that setting it allocates nothing. Nobody may append to it.
	contentType []string
	// people marks the form for a browser's window: indented, under a type that the browser shows and does not save.
	people bool
	// xml marks FHIR XML; all others are JSON.
	xml bool
	// graphql marks that of $graphql, whose errors have a form of their own.
	graphql bool
}

var (
	jsonFormat    = format{name: "json", contentType: []string{"application/fhir+json; charset=utf-8"}}
	xmlFormat     = format{name: "xml", contentType: []string{"application/fhir+xml; charset=utf-8"}, xml: true}
	browserFormat = format{name: "json", contentType: []string{"application/json; charset=utf-8"}, people: true}
)

// formats gives the form for each media type and each short name that _format may have, in order of preference.
var formats = []struct {
	mediaType string
	format    format
}{
	{"application/fhir+json", jsonFormat},
	{"application/json", jsonFormat},
	{"text/json", jsonFormat},
	{"application/json+fhir", jsonFormat}, // DSTU2 clients
	{"application/fhir+xml", xmlFormat},
	{"application/xml", xmlFormat},
	{"text/xml", xmlFormat},
	{"application/xml+fhir", xmlFormat}, // DSTU2 clients
	{"text/html", browserFormat},
}

var shortFormats = map[string]format{"json": jsonFormat, "xml": xmlFormat, "html": browserFormat}

func formatOf(mediaType string) (format, bool) {
	for _, f := range formats {
		if strings.EqualFold(f.mediaType, mediaType) {
			return f.format, true
		}
	}
	return format{}, false
}

// negotiate finds out how the client wants its answer: _format before Accept (FHIR R4 http.html#mime-type), _pretty,
// Prefer. Errors: NotAcceptable.
func (x *exchange) negotiate() error {
	x.query = x.r.URL.RawQuery
	var wanted string
	if x.query != "" {
		x.query, wanted, x.pretty = splitQuery(x.query)
	}
	if h := x.r.Header["Prefer"]; len(h) > 0 {
		x.prefer = parsePrefer(h)
	}
	f, ok := jsonFormat, true
	if x.formatWanted = wanted != ""; x.formatWanted {
		f, ok = formatParameter(wanted)
	} else if h := x.r.Header["Accept"]; len(h) > 0 {
		f, ok = negotiateAccept(h)
		if !ok && x.ofBinary() { // respondBinary looks at Accept again, once it knows what the Binary holds
			f, ok = jsonFormat, true
		}
	}
	if !ok {
		return errNotAcceptable()
	}
	x.format, x.pretty = f, x.pretty || f.people
	return nil
}

func errNotAcceptable() *fhir.Error {
	return fhir.NewError(fhir.NotAcceptable, fhir.CodeNotSupported,
		"Answers come as application/fhir+json or application/fhir+xml in UTF-8, FHIR version 4.0; what you accept is not offered")
}

// splitQuery takes _format and _pretty, which concern the form of the answer alone, out of a raw query. What is left
// keeps its bytes and its order.
func splitQuery(raw string) (rest, wanted string, pretty bool) {
	if !strings.Contains(raw, "_format") && !strings.Contains(raw, "_pretty") && !strings.Contains(raw, "%") {
		return raw, "", false
	}
	var kept strings.Builder
	for pair := range strings.SplitSeq(raw, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if strings.IndexByte(key, '%') >= 0 {
			if decoded, err := url.QueryUnescape(key); err == nil {
				key = decoded
			}
		}
		switch key {
		case "_format":
			if wanted == "" {
				wanted = value
			}
		case "_pretty":
			pretty = value == "" || value == "true" || value == "1"
		default:
			if pair == "" {
				continue
			}
			if kept.Len() > 0 {
				kept.WriteByte('&')
			}
			kept.WriteString(pair)
		}
	}
	return kept.String(), wanted, pretty
}

// formatParameter reads the value of _format as it stands in the raw query. Clients often forget to escape the plus
// sign of application/fhir+json, so a space counts as one.
func formatParameter(raw string) (format, bool) {
	value, err := url.QueryUnescape(raw)
	if err != nil {
		return format{}, false
	}
	mediaType, params, _ := strings.Cut(value, ";")
	mediaType = strings.ReplaceAll(strings.TrimSpace(mediaType), " ", "+")
	if f, ok := shortFormats[strings.ToLower(mediaType)]; ok {
		return f, true
	}
	f, ok := formatOf(mediaType)
	return f, ok && rangeParameters(params).ok
}

// negotiateAccept picks the form by RFC 9110 section 12.5.1: the range that names a media type most closely decides on
// it, then the highest quality wins, then our own order.
func negotiateAccept(headers []string) (format, bool) {
	if len(headers) == 1 {
		switch headers[0] {
		case "application/fhir+json", "application/json", "*/*", "":
			return jsonFormat, true
		}
	}
	var quality [12]float64 // by position in formats
	var closeness [12]int8  // how closely the range that gave it names the type; 0 = none did
	eachRange(headers, func(mediaRange string, p acceptParams) {
		if !p.ok {
			return
		}
		for i := range formats {
			if c := rangeCloseness(mediaRange, formats[i].mediaType); c > closeness[i] {
				closeness[i], quality[i] = c, p.q
			}
		}
	})
	best := -1
	for i := range formats {
		// A wildcard asks for the usual form and not for the browser's.
		if formats[i].format.people && closeness[i] < 3 {
			continue
		}
		if quality[i] > 0 && (best < 0 || quality[i] > quality[best]) {
			best = i
		}
	}
	if best < 0 {
		return format{}, false
	}
	return formats[best].format, true
}

// eachRange gives each media range of Accept with its parameters.
func eachRange(headers []string, give func(mediaRange string, p acceptParams)) {
	for _, header := range headers {
		for len(header) > 0 {
			var item string
			item, header = cutUnquoted(header, ',')
			mediaRange, params := cutUnquoted(item, ';')
			if mediaRange = strings.TrimSpace(mediaRange); mediaRange != "" {
				give(mediaRange, rangeParameters(params))
			}
		}
	}
}

// rangeCloseness is 3 for the type itself, 2 for type/*, 1 for */*, 0 for no match.
func rangeCloseness(mediaRange, mediaType string) int8 {
	switch {
	case strings.EqualFold(mediaRange, mediaType):
		return 3
	case mediaRange == "*/*", mediaRange == "*": // the second is what Java's HttpURLConnection used to send
		return 1
	case strings.HasSuffix(mediaRange, "/*") && len(mediaRange) <= len(mediaType) &&
		strings.EqualFold(mediaRange[:len(mediaRange)-1], mediaType[:len(mediaRange)-1]):
		return 2
	}
	return 0
}

type acceptParams struct {
	q  float64
	ok bool // false when the range asks for a charset or FHIR version that is not offered
}

// rangeParameters reads the parameters of a media range. What it does not know, it ignores.
func rangeParameters(params string) acceptParams {
	p := acceptParams{q: 1, ok: true}
	for len(params) > 0 {
		var item string
		item, params = cutUnquoted(params, ';')
		name, value, _ := strings.Cut(item, "=")
		value = strings.Trim(strings.TrimSpace(value), `"`)
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "q":
			q, err := strconv.ParseFloat(value, 64)
			if err != nil || !(q >= 0 && q <= 1) {
				q = 0
			}
			p.q = q
		case "charset":
			p.ok = p.ok && isUTF8(value)
		case "fhirversion":
			p.ok = p.ok && isR4(value)
		}
	}
	return p
}

// cutUnquoted splits s at the first separator that stands outside a quoted string.
func cutUnquoted(s string, separator byte) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == separator && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func isUTF8(charset string) bool {
	return strings.EqualFold(charset, "utf-8") || strings.EqualFold(charset, "utf8")
}

func isR4(version string) bool { return version == "4.0" || version == "4.0.1" }

// bodyType is what a request's Content-Type says the body is.
type bodyType uint8

const (
	bodyUnknown bodyType = iota
	bodyFHIR
	bodyXML // FHIR too; contentType takes it wherever it takes bodyFHIR
	bodyJSONPatch
	bodyForm
)

// parseContentType reads a Content-Type. why says, for a message, what is wrong with one that is bodyUnknown.
func parseContentType(header string) (t bodyType, why string) {
	switch header {
	case "application/fhir+json", "application/json", "application/fhir+json; charset=utf-8",
		"application/fhir+json;charset=utf-8", "application/json; charset=utf-8":
		return bodyFHIR, ""
	case "":
		return bodyUnknown, "The request has no Content-Type"
	}
	mediaType, params, err := mime.ParseMediaType(header)
	if err != nil {
		return bodyUnknown, "The Content-Type cannot be read"
	}
	if charset, ok := params["charset"]; ok && !isUTF8(charset) {
		return bodyUnknown, "The charset of the body is not UTF-8"
	}
	if version, ok := params["fhirversion"]; ok && !isR4(version) {
		return bodyUnknown, "The FHIR version of the body is not 4.0"
	}
	switch mediaType {
	case "application/fhir+json", "application/json", "text/json", "application/json+fhir":
		return bodyFHIR, ""
	case "application/fhir+xml", "application/xml", "text/xml", "application/xml+fhir":
		return bodyXML, ""
	case "application/json-patch+json":
		return bodyJSONPatch, ""
	case "application/x-www-form-urlencoded":
		return bodyForm, ""
	}
	return bodyUnknown, "The Content-Type " + quoteInput(mediaType) + " is not taken here"
}
