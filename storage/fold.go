package storage

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"
)

// Fold brings a string into the form in which string searches compare: no case, no accents, white space runs as one
// blank (FHIR R4 search.html#string). ß becomes ss.
func Fold(s string) string {
	plain := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf || c <= ' ' && (c != ' ' || i == 0 || s[i-1] == ' ' || i == len(s)-1) {
			plain = false
			break
		}
	}
	if plain {
		return strings.ToLower(s)
	}
	t := transform.Chain(norm.NFD, runes.Remove(runes.In(unicode.Mn)), cases.Fold(), norm.NFC)
	if folded, _, err := transform.String(t, s); err == nil {
		s = folded
	}
	return strings.Join(strings.Fields(s), " ")
}

// MaxStringIndexed is how many characters at the beginning of a string take part in prefix and substring searches.
const MaxStringIndexed = 500

// foldIndexed is Fold cut to MaxStringIndexed characters.
func foldIndexed(s string) string { return cutRunes(Fold(s), MaxStringIndexed) }

func cutRunes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}
