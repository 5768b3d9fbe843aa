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
// (FHIR R4 search.html#string). ß becomes ss, and letters whose stroke or second letter Unicode does not take for an accent become what
// people type who do not have them (CLDR Latin-ASCII): ł l, ø o, đ and ð d, æ ae.
func String(s string) string {
	ascii, blanks := true, true // blanks: white space is as it is to be
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			ascii = false
		case c <= ' ' && (c != ' ' || i == 0 || s[i-1] == ' ' || i == len(s)-1):
			blanks = false
		}
	}
	switch {
	case ascii && blanks:
		return strings.ToLower(s)
	case ascii:
		return strings.Join(strings.Fields(strings.ToLower(s)), " ")
	}
	t := transform.Chain(norm.NFD, runes.Remove(runes.In(unicode.Mn)), cases.Fold(), norm.NFC)
	if folded, _, err := transform.String(t, s); err == nil {
		s = folded
	}
	return strings.Join(strings.Fields(plain(s)), " ")
}

// plain replaces letters that have no decomposition in Unicode.
func plain(s string) string {
	var b strings.Builder
	kept := 0 // up to where s is in b
	for i, r := range s {
		letters := ""
		switch r {
		case 'ł':
			letters = "l"
		case 'ø':
			letters = "o"
		case 'đ', 'ð':
			letters = "d"
		case 'ħ':
			letters = "h"
		case 'ı':
			letters = "i"
		case 'ŧ':
			letters = "t"
		case 'æ':
			letters = "ae"
		case 'œ':
			letters = "oe"
		case 'þ':
			letters = "th"
		default:
			continue
		}
		b.WriteString(s[kept:i])
		b.WriteString(letters)
		kept = i + utf8.RuneLen(r)
	}
	b.WriteString(s[kept:])
	return b.String()
}

// MaxWord is how many characters of a word are compared.
const MaxWord = 64

// Words yields the words of a text as full-text search compares them: runs of letters and digits, folded.
func Words(s string, yield func(string) bool) {
	s = String(s)
	for i := 0; i < len(s); {
		start, end := i, len(s)
		for i < len(s) {
			c, size := rune(s[i]), 1
			if c >= utf8.RuneSelf {
				c, size = utf8.DecodeRuneInString(s[i:])
			}
			if i += size; !inWord(c) {
				end = i - size
				break
			}
		}
		if end > start && !yield(Cut(s[start:end], MaxWord)) {
			return
		}
	}
}

func inWord(c rune) bool {
	if c < utf8.RuneSelf {
		return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z'
	}
	return unicode.IsLetter(c) || unicode.IsDigit(c)
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
