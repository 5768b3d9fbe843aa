// Package fold brings text into the form in which searches compare it.
package fold

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"
)

// String folds a string as string searches compare it: no case, no accents, white space runs as one blank
// (FHIR R4 search.html#string). ß becomes ss.
func String(s string) string {
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

// MaxWord is how many characters of a word are compared.
const MaxWord = 64

// Words yields the words of a text as full-text search compares them: runs of letters and digits, folded.
func Words(s string, yield func(string) bool) {
	for w := range strings.FieldsFuncSeq(String(s), func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) }) {
		if !yield(Cut(w, MaxWord)) {
			return
		}
	}
}

// Cut returns the first n characters of a string.
func Cut(s string, n int) string {
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
