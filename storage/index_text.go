package storage

import (
	"html"
	"slices"
	"strconv"
	"strings"

	"kiln/fhir"
	"kiln/storage/fold"
)

// Bounds on what full-text search keeps of one resource. What goes beyond is not found.
const (
	maxWords     = 16_000 // PostgreSQL numbers no more positions
	maxTextBytes = 512 << 10
)

// textVector makes the tsvector of a resource: its narrative with weight A, and every other string that people read.
func (ix *Indexer) textVector(n *fhir.Node) string {
	v := &vector{schema: ix.registry.Schema(), words: map[string][]string{}}
	v.walk(n, v.schema.Type(n.ResourceType()))
	return v.text()
}

// text is the vector as PostgreSQL writes one.
func (v *vector) text() string {
	list := make([]string, 0, len(v.words))
	for w, positions := range v.words {
		list = append(list, "'"+w+"':"+strings.Join(positions, ","))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

type vector struct {
	schema *fhir.Schema
	words  map[string][]string // the places of each word, as tsvector writes them
	at     int
	bytes  int
}

func (v *vector) add(s, weight string) {
	fold.Words(s, func(w string) bool {
		v.at++
		v.bytes += len(w)
		if v.at > maxWords || v.bytes > maxTextBytes {
			return false
		}
		if places := v.words[w]; len(places) < 50 {
			v.words[w] = append(places, strconv.Itoa(v.at)+weight)
		} else if weight == "A" && !strings.HasSuffix(places[len(places)-1], "A") {
			places[len(places)-1] = strconv.Itoa(v.at) + weight
		}
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
				v.add(narrativeText(one.GetText("div")), "A")
			case one.Kind == fhir.Object:
				v.walk(one, p.Type)
			case one.Kind == fhir.String && p.Type != nil && !unread[m.Name] && (p.Type.Name == "string" || p.Type.Name == "markdown"):
				v.add(one.Text, "")
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
