package storage

import (
	"html"
	"slices"
	"strconv"
	"strings"
	"sync"

	"kiln/fhir"
	"kiln/storage/fold"
)

// Bounds on what full-text search keeps of one resource. What goes beyond is not found.
const (
	maxWords     = 16_000 // PostgreSQL numbers no more positions
	maxTextBytes = 512 << 10
)

// textVector makes the tsvector of a resource: its narrative with weight A, and every other string that people read. It adds the
// terms of the words to others, for what finds resources; the tsvector has the places, for phrases.
func (ix *Indexer) textVector(n *fhir.Node, others []int64) (text string, terms []int64) {
	v := vectors.Get().(*vector)
	v.schema = ix.registry.Schema()
	v.walk(n, v.schema.Type(n.ResourceType()))
	number := ix.registry.TypeNumber(n.ResourceType())
	for i := range v.lexemes {
		l := &v.lexemes[i]
		if l.narrated {
			others = append(others, ix.hash.word(number, termNarrated, l.word))
		}
		if l.elsewhere {
			others = append(others, ix.hash.word(number, termWord, l.word))
		}
	}
	text = v.text()
	if v.reset(); cap(v.lexemes) <= maxPooledWords {
		vectors.Put(v)
	}
	return text, others
}

// word is the term of a word of resources of a type. Most searches are for one type, and a word that is common in another is none there.
func (h Hasher) word(typ int16, form byte, word string) int64 {
	return h.Term(uint32(typ), form, word, "")
}

// vectors are those at rest: most of what one takes is room for words, which the next resource needs again.
var vectors = sync.Pool{New: func() any { return newVector() }}

// maxPooledWords is how many words a vector at rest may have room for.
const maxPooledWords = 1000

type vector struct {
	schema *fhir.Schema
	// lexemes are the words, by the order they came in; words says where each is. places are those of all of them.
	words   map[string]int32
	lexemes []lexeme
	places  []place
	at      int
	bytes   int
	out     []byte
}

// lexeme is one word, with the first and the last of its places. narrated says that it is in the narrative, elsewhere that it is in
// another text: one term for each, so that a word that is in both has two, and others have one.
type lexeme struct {
	word                string
	first, last         int32
	n                   int
	narrated, elsewhere bool
}

// place is where a word stands, as tsvector counts: next is that of the following one of the same word, 0 for none.
type place struct {
	at   int
	next int32
	// narrative says that it has weight A.
	narrative bool
}

func newVector() *vector { return &vector{words: map[string]int32{}, places: make([]place, 1, 64)} }

// reset makes a vector ready for the next resource.
func (v *vector) reset() {
	clear(v.words)
	clear(v.lexemes) // they hold on to the texts of the resource
	*v = vector{words: v.words, lexemes: v.lexemes[:0], places: v.places[:1], out: v.out[:0]}
}

// text is the vector as PostgreSQL writes one.
func (v *vector) text() string {
	if len(v.lexemes) == 0 {
		return ""
	}
	slices.SortFunc(v.lexemes, func(a, b lexeme) int { return strings.Compare(a.word, b.word) })
	b := v.out
	for i := range v.lexemes {
		l := &v.lexemes[i]
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(append(append(b, '\''), l.word...), '\'')
		separator := byte(':')
		for p := l.first; p != 0; p = v.places[p].next {
			b = strconv.AppendInt(append(b, separator), int64(v.places[p].at), 10)
			if v.places[p].narrative {
				b = append(b, 'A')
			}
			separator = ','
		}
	}
	v.out = b
	return string(b)
}

// maxPlaces is how many places of one word are kept.
const maxPlaces = 50

func (v *vector) add(s string, narrative bool) {
	fold.Words(s, func(w string) bool {
		v.at++
		v.bytes += len(w)
		if v.at > maxWords || v.bytes > maxTextBytes {
			return false
		}
		i, known := v.words[w]
		if !known {
			i = int32(len(v.lexemes))
			v.words[w] = i
			v.lexemes = append(v.lexemes, lexeme{word: w})
		}
		l := &v.lexemes[i]
		l.narrated, l.elsewhere = l.narrated || narrative, l.elsewhere || !narrative
		switch last := &v.places[l.last]; {
		case l.n == 0:
			l.first, l.last = int32(len(v.places)), int32(len(v.places))
		case l.n < maxPlaces:
			last.next = int32(len(v.places))
			l.last = last.next
		default:
			if narrative && !last.narrative {
				*last = place{at: v.at, narrative: true}
			}
			return true
		}
		l.n++
		v.places = append(v.places, place{at: v.at, narrative: narrative})
		return true
	})
	v.at += 3 // no phrase goes from one text to the next
}

// unread are the strings that say nothing to a reader, or say it only to who knows it already.
var unread = map[string]bool{"id": true, "version": true, "unit": true, "reference": true}

func (v *vector) walk(n *fhir.Node, t *fhir.Type) {
	if t == nil || t.Name == "Identifier" || t.Name == "ContactPoint" || t.Name == "Meta" || t.Name == "Signature" {
		return
	}
	for i := range n.Kids {
		m := &n.Kids[i]
		p, known := t.Properties[m.Name]
		if !known {
			continue
		}
		for one := range m.Items() {
			switch {
			case one.Kind == fhir.Object && p.Type == nil: // contained
				v.walk(one, v.schema.Type(one.ResourceType()))
			case one.Kind == fhir.Object && p.Type.Name == "Narrative":
				v.add(narrativeText(one.GetText("div")), true)
			case one.Kind == fhir.Object:
				v.walk(one, p.Type)
			case one.Kind == fhir.String && p.Type != nil && !unread[m.Name] && (p.Type.Name == "string" || p.Type.Name == "markdown"):
				v.add(one.Text, false)
			}
		}
	}
}

// narrativeText is what XHTML shows: its text without tags, comments and entities.
func narrativeText(div string) string {
	var b strings.Builder
	for div != "" {
		text, rest, tag := strings.Cut(div, "<")
		b.WriteString(text)
		if !tag {
			break
		}
		end := ">"
		if strings.HasPrefix(rest, "!--") {
			end = "-->"
		}
		_, div, _ = strings.Cut(rest, end)
		b.WriteByte(' ')
	}
	return html.UnescapeString(b.String())
}
