package storage

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"kiln/storage/fold"
)

// TestVector compares tsvectors with what they are made of: the places of each word, the first 50 of them, of which the last
// gives way to one in the narrative. One vector is used again and again.
func TestVector(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := newVector()
		for range rapid.IntRange(1, 3).Draw(t, "times") {
			places, at := map[string][]string{}, 0
			in := map[bool]map[string]bool{true: {}, false: {}} // the words of narratives, and of other texts
			for range rapid.IntRange(0, 4).Draw(t, "texts") {
				words := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "ab", "b", "1", "ß", "é", "-"}), 0, 120).Draw(t, "words")
				narrative, weight := rapid.Bool().Draw(t, "narrative"), ""
				if narrative {
					weight = "A"
				}
				v.add(strings.Join(words, " "), narrative)
				fold.Words(strings.Join(words, " "), func(w string) bool {
					at++
					in[narrative][w] = true
					if list := places[w]; len(list) < 50 {
						places[w] = append(list, fmt.Sprint(at, weight))
					} else if narrative && !strings.HasSuffix(list[49], "A") {
						list[49] = fmt.Sprint(at, weight)
					}
					return true
				})
				at += 3
			}
			var want []string
			for _, w := range slices.Sorted(maps.Keys(places)) {
				want = append(want, "'"+w+"':"+strings.Join(places[w], ","))
			}
			if got := v.text(); got != strings.Join(want, " ") {
				t.Fatalf("got  %s\nwant %s", got, strings.Join(want, " "))
			}
			for _, l := range v.lexemes {
				if l.narrated != in[true][l.word] || l.elsewhere != in[false][l.word] {
					t.Fatalf("%q is in a narrative: %v, elsewhere: %v", l.word, l.narrated, l.elsewhere)
				}
			}
			v.reset()
		}
	})
}
