package search

import (
	"fmt"
	"net/url"
	"strings"

	"kiln/fhir"
)

// ParsePairs splits a query string into its parameters, in order.
func ParsePairs(query string) ([]Pair, error) {
	if len(query) > MaxQueryLength {
		return nil, tooMuch("The query is longer than %d bytes.", MaxQueryLength)
	}
	var pairs []Pair
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		if len(pairs) == MaxParameters {
			return nil, tooMuch("The query has more than %d parameters.", MaxParameters)
		}
		name, value, _ := strings.Cut(part, "=")
		n, err := url.QueryUnescape(name)
		v, err2 := url.QueryUnescape(value)
		if err != nil || err2 != nil || strings.ContainsRune(n+v, 0) || !validUTF8(n, v) {
			return nil, fhir.NewError(fhir.Invalid, fhir.CodeInvalid,
				"The query string has a percent sign that is not followed by two hexadecimal digits, has a NUL character, or is not UTF-8.")
		}
		pairs = append(pairs, Pair{n, v})
	}
	return pairs, nil
}

func validUTF8(list ...string) bool {
	for _, s := range list {
		if strings.ToValidUTF8(s, "") != s {
			return false
		}
	}
	return true
}

// Encode writes pairs as a query string, escaping only what must be.
func Encode(pairs []Pair) string {
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(escapeQuery(p.Name))
		b.WriteByte('=')
		b.WriteString(escapeQuery(p.Value))
	}
	return b.String()
}

// escapeQuery leaves the characters that FHIR queries are full of readable.
func escapeQuery(s string) string { return readable.Replace(url.QueryEscape(s)) }

// readable is made once: to make one took a twelfth of what a search costs Kiln.
var readable = strings.NewReplacer("%3A", ":", "%2F", "/", "%2C", ",", "%24", "$", "%40", "@", "+", "%20")

func tooMuch(format string, args ...any) *fhir.Error {
	return fhir.NewError(fhir.Invalid, fhir.CodeTooCostly, fmt.Sprintf(format, args...))
}

// split cuts s at each separator that no backslash escapes, and keeps the escapes.
func split(s string, separator byte) []string {
	var parts []string
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case separator:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// EscapeValue writes a text so that as a value, or a part of one, it stands for itself (FHIR R4 search.html#escaping).
func EscapeValue(s string) string {
	return strings.NewReplacer(`\`, `\\`, ",", `\,`, "|", `\|`, "$", `\$`).Replace(s)
}

// unescape resolves \, \| \$ and \\ (FHIR R4 search.html#escaping). A backslash before anything else stands for itself.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && strings.IndexByte(`,|$\`, s[i+1]) >= 0 {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}
