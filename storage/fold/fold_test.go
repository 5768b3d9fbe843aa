package fold_test

import (
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"kiln/storage/fold"
)

// long is String without the short ways.
func long(s string) string {
	t := transform.Chain(norm.NFD, runes.Remove(runes.In(unicode.Mn)), cases.Fold(), norm.NFC)
	folded, _, err := transform.String(t, s)
	if err != nil {
		return s
	}
	folded = strings.NewReplacer("ł", "l", "ø", "o", "đ", "d", "ð", "d", "ħ", "h", "ı", "i", "ŧ", "t", "æ", "ae", "œ", "oe", "þ", "th").Replace(folded)
	return strings.Join(strings.Fields(folded), " ")
}

// TestFold_letters: what people type who do not have a letter.
func TestFold_letters(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Łódź": "lodz", "Sørensen": "sorensen", "Ǿ": "o", "Đorđević": "dordevic", "Guðrún": "gudrun", "Þór": "thor", "Ægir": "aegir",
		"Œuvre": "oeuvre", "IŞIK ışık": "isik isik", "Groß": "gross", "Ħaż-Żebbuġ": "haz-zebbug",
	} {
		if got := fold.String(text); got != want {
			t.Errorf("%q is folded to %q, not to %q", text, got, want)
		}
	}
}

// TestFold compares texts of letters, white space and signs, ASCII and others, with the long way.
func TestFold(t *testing.T) {
	t.Parallel()
	alphabet := []rune("aZ09 _-'.\t\n\v\u0001\u0085\u00a0éÉßłŁÆıİǅ中٣�́")
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.OneOf(rapid.SampledFrom(alphabet[:11]), rapid.SampledFrom(alphabet), rapid.Rune())).Draw(t, "text")
		if got, want := fold.String(text), long(text); got != want {
			t.Errorf("%q is folded to %q, not to %q", text, got, want)
		}
		var words []string
		fold.Words(text, func(w string) bool { words = append(words, w); return true })
		want := strings.FieldsFunc(long(text), func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) })
		for i := range want {
			want[i] = fold.Cut(want[i], fold.MaxWord)
		}
		if !slices.Equal(words, want) {
			t.Errorf("%q has the words %q, not %q", text, words, want)
		}
	})
}
