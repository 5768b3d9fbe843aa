package terminology

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

// Coding is a code to be looked at. System is "" where only the context says which it is.
type Coding struct{ System, Version, Code, Display string }

// Finding is what is to say of a code.
type Finding struct {
	// Found says that the code exists, Member that it is in the value set; Member implies Found, except for codes that
	// the value set lists of a code system that is not here (Unchecked).
	Found, Member, Unchecked bool
	// Abstract and Inactive describe the concept.
	Abstract, Inactive bool
	System, Version    string
	Code, Display      string
	Designations       []Designation
}

const findingColumns = `c.system, c.code, c.display, c.abstract, c.inactive, ` + designationJSON

// Validate looks a coding up in a value set.
//
// Errors: NotFound where the answer depends on a code system that is not here; Invalid for a code without a system
// that several systems of the value set have.
func (r *Resolver) Validate(ctx context.Context, s *Set, q Coding, language string) (*Finding, error) {
	c := r.compiler()
	c.only, c.code, c.lenient = q.System, q.Code, true
	if err := c.prepare(ctx, s); err != nil {
		return nil, err
	}
	member, err := c.set(ctx, s)
	if err != nil {
		return nil, err
	}
	var keys []int64
	for url, list := range c.keys {
		if q.System != "" && q.System != url {
			continue
		}
		for _, key := range list {
			if q.Version == "" || q.Version == c.systems[key].Version {
				keys = append(keys, key)
			}
		}
	}
	var known *System
	if q.System != "" && len(keys) == 0 { // not of this value set, and yet to be named where possible
		if known, err = r.System(ctx, q.System, q.Version); err != nil {
			return nil, err
		}
		if known != nil && known.grammar == nil {
			keys, c.systems[known.Key] = []int64{known.Key}, known
		}
	}
	found, err := c.candidates(ctx, keys, member, q, language)
	if err != nil {
		return nil, err
	}
	if best, err := pick(found, q); best != nil || err != nil {
		return c.checked(best, err)
	}
	for _, l := range c.literals(s) {
		if l.code == q.Code && (q.System == "" || q.System == l.url) && (q.Version == "" || l.version == "" || q.Version == l.version) {
			f := &Finding{Found: true, Member: true, Unchecked: l.system == nil || l.system.grammar == nil, System: l.url, Version: l.version,
				Code: l.code, Display: l.display, Abstract: l.abstract, Inactive: l.inactive}
			return c.checked(f, nil)
		}
	}
	if f := c.byGrammar(s, q); f != nil {
		return c.checked(f, nil)
	}
	if c.fault != nil {
		return nil, c.fault
	}
	for _, p := range c.partial {
		if q.System == p.URL {
			return nil, notFull(p)
		}
	}
	if len(c.broken) > 0 {
		return nil, fhir.NewError(fhir.NotFound, fhir.CodeNotFound, fmt.Sprintf("The value set %q holds only a part of its expansion.", c.broken[0])).Coded(DetailNotFull)
	}
	if len(found) > 0 {
		return &found[0], nil
	}
	f := &Finding{System: q.System, Version: q.Version, Code: q.Code}
	if known != nil && known.grammar != nil {
		f.Found = known.grammar.valid(q.Code)
	}
	return f, nil
}

// checked gives an answer unless something that could not be looked at might make it another.
func (c *compiler) checked(f *Finding, err error) (*Finding, error) {
	if err == nil && c.fault != nil && c.excludeFault {
		err = c.fault
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// candidates are the concepts that a coding may mean, members first.
func (c *compiler) candidates(ctx context.Context, keys []int64, member string, q Coding, language string) ([]Finding, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	sql := "SELECT (" + member + ") AS member, " + findingColumns + " FROM concept c WHERE c.system = ANY(" + c.arg(keys, "bigint[]") +
		") AND (c.code = " + c.arg(q.Code, "text") + " OR lower(c.code) = " + c.arg(asciiLower(q.Code), "text") + ") ORDER BY 1 DESC, c.system LIMIT 50"
	var list []Finding
	err := c.r.query(ctx, sql, c.args, func(rows pgx.Rows) error {
		f := Finding{Found: true}
		key, err := scanFinding(rows, &f, &f.Member)
		if err != nil {
			return err
		}
		s := c.systems[key]
		if !s.sameCode(f.Code, q.Code) {
			return nil
		}
		f.System, f.Version = s.URL, s.Version
		if l, ok := c.listed[codeKey{f.System, f.Code}]; ok && f.Member {
			if l.display != "" {
				f.Designations = append(f.Designations, Designation{Value: f.Display})
				f.Display = l.display
			}
			for d := range l.n.Get("designation").Items() {
				f.Designations = append(f.Designations, Designation{Language: d.GetText("language"), Use: d.Get("use"), Value: d.GetText("value")})
			}
		}
		f.name(language)
		list = append(list, f)
		return nil
	})
	return list, err
}

func scanFinding(rows pgx.Rows, f *Finding, before ...any) (system int64, err error) {
	var display *string
	var names []byte
	if err := rows.Scan(append(before, &system, &f.Code, &display, &f.Abstract, &f.Inactive, &names)...); err != nil {
		return 0, err
	}
	if display != nil {
		f.Display = *display
	}
	f.Designations, err = readDesignations(names)
	return system, err
}

// name gives the concept its name in a language; the other one stays among the designations.
func (f *Finding) name(language string) {
	if n := inLanguage(f.Designations, language); n != "" {
		f.Designations = append(f.Designations, Designation{Value: f.Display})
		f.Display = n
	}
}

// Calls says whether a text is one of the names of the concept. Case and runs of white space do not count.
func (f *Finding) Calls(text string) bool {
	same := func(name string) bool {
		return strings.EqualFold(strings.Join(strings.Fields(name), " "), strings.Join(strings.Fields(text), " "))
	}
	return same(f.Display) || slices.ContainsFunc(f.Designations, func(d Designation) bool { return d.Value != "" && same(d.Value) })
}

// pick chooses the member among the candidates; nil where none is one.
func pick(found []Finding, q Coding) (*Finding, error) {
	var first *Finding
	for i := range found {
		f := &found[i]
		switch {
		case !f.Member:
		case first == nil:
			first = f
		case q.System == "" && f.System != first.System:
			return nil, fhir.NewError(fhir.Invalid, fhir.CodeMultipleMatches, fmt.Sprintf(
				"The code %q is in the value set from %q and from %q: say which system is meant.", q.Code, first.System, f.System))
		}
	}
	return first, nil
}

// byGrammar answers for code systems whose codes are built by rules, where the value set has them all.
func (c *compiler) byGrammar(s *Set, q Coding) *Finding {
	var f *Finding
	eachPart(s, func(p *part) {
		if f == nil && p.system != nil && p.system.grammar != nil && (q.System == "" || q.System == p.url) && c.has(s, p.url, q.Code) {
			f = &Finding{Found: true, Member: true, System: p.url, Code: q.Code}
		}
	})
	return f
}

// Find looks a code up in a code system, whatever value set it is in. It is nil where the system has no such code.
func (r *Resolver) Find(ctx context.Context, s *System, code, language string) (*Finding, error) {
	if s.grammar != nil {
		if !s.grammar.valid(code) {
			return nil, nil
		}
		return &Finding{Found: true, System: s.URL, Version: s.Version, Code: code, Display: code}, nil
	}
	if s.inline != nil {
		return s.findInline(code, language), nil
	}
	c := r.compiler()
	c.systems[s.Key] = s
	list, err := c.candidates(ctx, []int64{s.Key}, "false", Coding{Code: code}, language)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if i := slices.IndexFunc(list, func(f Finding) bool { return f.Code == code }); i > 0 {
		return &list[i], nil
	}
	return &list[0], nil
}

// Incomplete is the error for a question about a code system that is here in part only.
func Incomplete(s *System) *fhir.Error { return notFull(s) }

// SystemOf makes a code system of a CodeSystem that is at hand.
//
// Errors: as Prepare.
func SystemOf(n *fhir.Node) (*System, error) {
	read, err := readCodeSystem(n, SourceResource, 0)
	if err != nil {
		return nil, err
	}
	content := n.GetText("content")
	if content == "" {
		content = ContentComplete
	}
	return &System{URL: n.GetText("url"), Version: n.GetText("version"), Content: content, CaseSensitive: read.caseSensitive(),
		Concepts: len(read.concepts), Source: SourceResource, inline: read}, nil
}

// findInline is Find in a code system that is at hand.
func (s *System) findInline(code, language string) *Finding {
	for _, c := range s.inline.concepts {
		if s.sameCode(c.Code, code) {
			f := &Finding{Found: true, Abstract: c.Abstract, Inactive: c.Inactive, System: s.URL, Version: s.Version,
				Code: c.Code, Display: c.Display, Designations: c.Designations}
			f.name(language)
			return f
		}
	}
	return nil
}
