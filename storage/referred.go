package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/search"
)

const sqlReferred = `
SELECT ` + versionColumns + ` FROM resource r WHERE r.rk = ANY($1::bigint[]) AND r.content IS NOT NULL ORDER BY r.rk LIMIT $2`

// Referred returns up to limit resources that records of patients refer to, wherever in their texts, or by the canonical URLs that search
// parameters look at, and whether there are more: without those of some types and the versions themselves, each once. The
// versions are resources of their own, and none inside of others.
func (s *Store) Referred(ctx context.Context, tx *Tx, versions []*Version, except map[string]bool, limit int) (found []*Version, cut bool, err error) {
	run, err := s.runner(ctx, tx)
	if err != nil {
		return nil, false, translate(err)
	}
	ix := s.indexer.Load()
	rest, visits, err := s.apart(ctx, versions)
	if err != nil {
		return nil, false, translate(err)
	}
	keys := ix.referred(slices.Concat(rest, visits), except)
	canonical, types := ix.withCanonicals(rest)
	salts, numbers := ix.saltsOf(types, func(typ string) []int64 { return ix.canonicalSalts(typ, "*") })
	run.about = compartmentsOf(versions)
	found, err = s.visibleOf(ctx, limit+1+len(versions), func(most int) (list []*Version, err error) {
		if len(keys) > 0 {
			list, err = run.referred(ctx, versions, keys, most)
		}
		for _, sql := range []string{sqlIncluded, sqlIncludedByURL} { // they may hold an id or a URL, and their elements have many names
			if err == nil && len(canonical) > 0 {
				var more []*Version
				more, err = collect(ctx, run, sql, canonical, salts, nil, most, numbers)
				list = append(list, more...)
			}
		}
		return list, err
	}, func(list []*Version) ([]*Version, error) { return list, nil })
	if err != nil {
		return nil, false, translate(err)
	}
	seen := make(map[Key]bool, len(versions))
	for _, v := range versions {
		seen[Key{v.Type, v.ID}] = true
	}
	found = slices.DeleteFunc(found, func(v *Version) bool {
		k := Key{v.Type, v.ID}
		known := seen[k] || except[v.Type]
		seen[k] = true
		return known
	})
	if full := slices.IndexFunc(found, func(v *Version) bool { return v.beyond }); full >= 0 {
		return found[:min(full, limit)], true, nil
	}
	return found[:min(len(found), limit)], len(found) > limit, nil
}

// elementTargets are the keys of what sources refer to in the element that a parameter looks at, such as Observation.subject: their texts
// are at hand, while the index would be asked for each of them again. ok is false where the parameter looks at anything else.
func (ix *Indexer) elementTargets(sources []*Version, in search.Include) (keys []int64, ok bool) {
	for _, v := range sources {
		if in.Source != "*" && in.Source != v.Type {
			continue
		}
		element, only := referenceElement(ix.registry, v.Type, in.Param)
		if element == "" || in.Target != "" && only != "" && only != in.Target {
			return nil, false
		}
		text := member(v.Content, element)
		if text == nil {
			continue
		}
		n, err := fhir.ParseJSON(text) // the rest of the resource may be long
		if err != nil {
			return nil, false
		}
		for item := range n.Items() {
			ref, ok := ix.parseReference(item.GetText("reference"))
			if ok && ref.ID != "" && ref.Base == "" && ref.Type != "" && (only == "" || only == ref.Type) && (in.Target == "" || in.Target == ref.Type) {
				keys = append(keys, ix.hash.Resource(ref.Type, ref.ID))
			}
		}
	}
	return unique(keys), true
}

// referenceElement is the element of a type that has all that a parameter looks at, references each, and the one type of targets that
// count; "" where it looks at anything else, and for any type.
func referenceElement(registry *conformance.Registry, typ, code string) (element, only string) {
	def := registry.SearchParameter(typ, code)
	if def == nil || def.Type != search.Reference {
		return "", ""
	}
	path, filter, filtered := strings.Cut(def.Expression, ".where(resolve() is ")
	t, name, _ := strings.Cut(path, ".")
	if only = strings.TrimSuffix(filter, ")"); filtered && (only == filter || strings.ContainsAny(only, ") ")) {
		return "", ""
	}
	of := registry.Schema().Type(t)
	if t != typ || of == nil {
		return "", ""
	}
	e := elementOf(of, name)
	if e == nil || e.Choice || len(e.Types) != 1 || e.Types[0].Code != "Reference" {
		return "", ""
	}
	return name, only
}

// withCanonicals are the keys of those versions in which parameters may find canonical URLs, and the types of these.
func (ix *Indexer) withCanonicals(versions []*Version) (keys []int64, types map[string]bool) {
	types = map[string]bool{}
	for _, v := range versions {
		if ix.mayHaveCanonicals(v) {
			types[v.Type] = true
			keys = append(keys, ix.hash.Resource(v.Type, v.ID))
		}
	}
	return keys, types
}

// mayHaveCanonicals says whether a version has an element in which a parameter looks at canonical URLs: most types have no such parameter, and
// most resources of the others no such element.
func (ix *Indexer) mayHaveCanonicals(v *Version) bool {
	plan, err := ix.plan(v.Type)
	return err == nil && slices.ContainsFunc(plan.params, func(p *paramPlan) bool {
		return p.canonical && (p.canonicalIn == nil || slices.ContainsFunc(p.canonicalIn, func(name []byte) bool { return bytes.Contains(v.Content, name) }))
	})
}

// referred are the keys of what the texts of versions refer to by type and id, except resources of some types.
func (ix *Indexer) referred(versions []*Version, except map[string]bool) (keys []int64) {
	done := map[string]bool{}
	named := map[Key]bool{}
	for _, v := range versions {
		eachReference(v.Content, func(text []byte) {
			// Most of a record refers to what is of the record, too, and what does not, does so again and again.
			if typ, _, _ := bytes.Cut(text, []byte("/")); except[string(typ)] || done[string(text)] {
				return
			}
			known := string(text)
			done[known] = true
			ref, ok := ix.parseReference(known)
			if k := (Key{ref.Type, ref.ID}); ok && ref.Type != "" && ref.ID != "" && ref.Base == "" && !except[ref.Type] && !named[k] {
				named[k] = true
				keys = append(keys, ix.hash.Resource(ref.Type, ref.ID))
			}
		})
	}
	return keys
}

// eachReference yields the texts of all members named reference of a stored resource. It parses nothing else: a page of what refers to
// much has a thousand resources, and a quotation mark within a text has a backslash before it, so that the name with both of
// its own and a colon behind them is no part of one.
func eachReference(content []byte, yield func([]byte)) {
	const name, f = `"reference"`, 3
	for {
		// It is looked for by its f, which is rarer than all the rest of it: that takes a third of the time.
		i := bytes.IndexByte(content[min(f, len(content)):], 'f')
		if i < 0 {
			return
		}
		if content = content[i:]; !bytes.HasPrefix(content, []byte(name)) {
			content = content[1:]
			continue
		}
		content = bytes.TrimLeft(content[len(name):], " \t\r\n")
		if len(content) == 0 || content[0] != ':' {
			continue
		}
		content = bytes.TrimLeft(content[1:], " \t\r\n")
		if len(content) == 0 || content[0] != '"' {
			continue
		}
		end := endOfString(content)
		if end == len(content) {
			return
		}
		if text := content[1:end]; bytes.IndexByte(text, '\\') < 0 {
			yield(text)
		} else if s := ""; json.Unmarshal(content[:end+1], &s) == nil {
			yield([]byte(s))
		}
		content = content[end:]
	}
}

// member is the text of a member's value in a stored resource; nil where it has none.
func member(content []byte, name string) []byte {
	const space = " \t\r\n"
	b := bytes.TrimLeft(content, space)
	for len(b) > 0 && (b[0] == '{' || b[0] == ',') {
		if b = bytes.TrimLeft(b[1:], space); len(b) == 0 || b[0] != '"' {
			return nil
		}
		end := endOfString(b)
		if end == len(b) {
			return nil
		}
		is := string(b[1:end]) == name
		if b = bytes.TrimLeft(b[end+1:], space); len(b) == 0 || b[0] != ':' {
			return nil
		}
		b = bytes.TrimLeft(b[1:], space)
		if end = endOfValue(b); is {
			return b[:end]
		}
		b = bytes.TrimLeft(b[end:], space)
	}
	return nil
}

// endOfValue is where the JSON value at the beginning of b ends.
func endOfValue(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			if i += endOfString(b[i:]); i >= len(b) {
				return len(b)
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
			continue
		default:
			continue
		}
		if depth < 0 { // the object around it ends
			return i
		}
		if depth == 0 {
			return i + 1
		}
	}
	return len(b)
}

// endOfString is where the quotation mark stands that ends the JSON string at the beginning of b; the length of b where none does.
func endOfString(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(b)
}
