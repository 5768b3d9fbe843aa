package terminology

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

// Bounds on what one value set may ask for.
const (
	// MaxImports is how deep value sets may include each other, MaxSets how many may take part.
	MaxImports = 20
	MaxSets    = 200
	// MaxListed is how many codes the value sets of one question may list by themselves.
	MaxListed = 100_000
	// MaxFilters is how many filters they may have.
	MaxFilters = 200
)

// Set is a value set whose parts are all found.
type Set struct {
	URL, Version string
	// Node is the ValueSet; nil for an implicit one.
	Node *fhir.Node
	// activeOnly is compose.inactive = false.
	activeOnly         bool
	includes, excludes []*part
	// partial says that an expansion, which is all there is of the set, is not whole.
	partial bool
}

// part is an include or exclude.
type part struct {
	// url and version are those of its code system; system is nil where there is none of that name, or where the part
	// has value sets only (url is "" then).
	url, version string
	system       *System
	listed       []listed // nil: all codes that pass the filters
	enumerated   bool     // there is a list, perhaps an empty one
	filters      []filter
	sets         []*Set
}

// listed is a code that a value set lists by itself.
type listed struct {
	code, display string
	n             *fhir.Node // the include.concept or expansion.contains
	abstract      bool
	inactive      bool
}

type filter struct{ property, op, value string }

const (
	sqlSet = `
SELECT v.key, v.source, v.version, v.stored, coalesce(v.definition, r.content) FROM value_set v LEFT JOIN resource r ON r.rk = v.key
WHERE v.url = $1 AND ($2 = '' OR v.version = $2) AND coalesce(v.definition, r.content) IS NOT NULL`
	sqlSetByID = `SELECT definition FROM value_set WHERE id = $1 AND source <> 'R'`
)

// Set finds a value set by its canonical URL, with or without |version, among the stored and official ones and the
// implicit ones of code systems, and resolves its parts.
//
// Errors: NotFound for a value set or code system that is not here, by its name; TooCostly beyond the bounds; Invalid
// for value sets that include each other in a circle.
func (r *Resolver) Set(ctx context.Context, canonical string) (*Set, error) {
	b := builder{r: r}
	return b.named(ctx, canonical)
}

// SetOf resolves the parts of a ValueSet that is at hand.
func (r *Resolver) SetOf(ctx context.Context, n *fhir.Node) (*Set, error) {
	b := builder{r: r, contained: n.Get("contained")}
	if url := n.GetText("url"); url != "" {
		b.within = append(b.within, url)
	}
	return b.of(ctx, n)
}

// OfficialSet returns the ValueSet of FHIR R4 with an id, or nil.
func (r *Resolver) OfficialSet(ctx context.Context, id string) (n *fhir.Node, err error) {
	err = r.query(ctx, sqlSetByID, []any{id}, func(rows pgx.Rows) error {
		var data []byte
		if err := rows.Scan(&data); err != nil {
			return err
		}
		var err error
		n, err = fhir.ParseJSON(data)
		return err
	})
	return n, err
}

// builder resolves one value set and what it includes.
type builder struct {
	r                     *Resolver
	within                []string // the value sets that the one at hand is a part of
	contained             *fhir.Node
	sets, listed, filters int
}

func (b *builder) named(ctx context.Context, canonical string) (*Set, error) {
	if slices.Contains(b.within, canonical) {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeProcessing, fmt.Sprintf("The value set %q includes itself: %s.",
			canonical, strings.Join(append(b.within, canonical), " → "))).Coded("value-set-circle")
	}
	if len(b.within) > MaxImports {
		return nil, tooCostly("Value sets include each other more than %d levels deep.", MaxImports)
	}
	if s, ok := b.r.sets[canonical]; ok {
		return s, nil
	}
	if b.sets++; b.sets > MaxSets {
		return nil, tooCostly("The value set is made of more than %d value sets.", MaxSets)
	}
	b.within = append(b.within, canonical)
	defer func() { b.within = b.within[:len(b.within)-1] }()
	n, err := b.find(ctx, canonical)
	if err != nil {
		return nil, err
	}
	var s *Set
	if n != nil {
		s, err = b.of(ctx, n)
	} else {
		s, err = b.implicit(ctx, canonical)
	}
	if err != nil {
		return nil, err
	}
	b.r.sets[canonical] = s
	return s, nil
}

func tooCostly(format string, args ...any) *fhir.Error {
	return fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, fmt.Sprintf(format, args...))
}

// find reads a ValueSet by its URL; nil where there is none.
func (b *builder) find(ctx context.Context, canonical string) (*fhir.Node, error) {
	if id, ok := strings.CutPrefix(canonical, "#"); ok {
		for n := range b.contained.Items() {
			if n.ResourceType() == "ValueSet" && n.ID() == id {
				return n, nil
			}
		}
		return nil, noSet(canonical)
	}
	type row struct {
		key             int64
		source, version string
		stored          time.Time
		data            []byte
	}
	url, version, _ := strings.Cut(canonical, "|")
	var list []row
	err := b.r.query(ctx, sqlSet, []any{url, version}, func(rows pgx.Rows) error {
		var one row
		err := rows.Scan(&one.key, &one.source, &one.version, &one.stored, &one.data)
		list = append(list, one)
		return err
	})
	if err != nil {
		return nil, err
	}
	list, err = visible(ctx, b.r, list, func(one row) (int64, string) { return one.key, one.source })
	if err != nil || len(list) == 0 {
		return nil, err
	}
	found := slices.MaxFunc(list, func(x, y row) int {
		if c := strings.Index("OLR", x.source) - strings.Index("OLR", y.source); c != 0 {
			return c
		}
		if c := CompareVersions(x.version, y.version); c != 0 {
			return c
		}
		return x.stored.Compare(y.stored)
	})
	return fhir.ParseJSON(found.data)
}

// of resolves the parts of a ValueSet.
func (b *builder) of(ctx context.Context, n *fhir.Node) (*Set, error) {
	s := &Set{URL: n.GetText("url"), Version: n.GetText("version"), Node: n}
	compose := n.Get("compose")
	if compose == nil {
		return s, b.expansion(ctx, s, n.Get("expansion"))
	}
	if inactive := compose.Get("inactive"); inactive != nil {
		s.activeOnly = inactive.Text == "false"
	}
	for _, side := range []struct {
		name string
		list *[]*part
	}{{"include", &s.includes}, {"exclude", &s.excludes}} {
		for p := range compose.Get(side.name).Items() {
			one, err := b.part(ctx, p)
			if err != nil {
				return nil, err
			}
			*side.list = append(*side.list, one)
		}
	}
	return s, nil
}

func (b *builder) part(ctx context.Context, n *fhir.Node) (*part, error) {
	p := &part{url: n.GetText("system"), version: n.GetText("version"), enumerated: n.Get("concept") != nil}
	for v := range n.Get("valueSet").Items() {
		other, err := b.named(ctx, v.Text)
		if err != nil {
			return nil, err
		}
		p.sets = append(p.sets, other)
	}
	if p.url == "" {
		if len(p.sets) == 0 {
			return nil, fhir.NewError(fhir.Unprocessable, fhir.CodeInvariant, "An include or exclude has neither a system nor a value set.").Coded("vsd-1")
		}
		return p, nil
	}
	for c := range n.Get("concept").Items() {
		p.listed = append(p.listed, listed{code: c.GetText("code"), display: c.GetText("display"), n: c})
	}
	if b.listed += len(p.listed); b.listed > MaxListed {
		return nil, tooCostly("The value sets list more than %d codes.", MaxListed)
	}
	for f := range n.Get("filter").Items() {
		p.filters = append(p.filters, filter{f.GetText("property"), f.GetText("op"), f.GetText("value")})
	}
	if b.filters += len(p.filters); b.filters > MaxFilters {
		return nil, tooCostly("The value sets have more than %d filters.", MaxFilters)
	}
	return p, b.system(ctx, p)
}

// system finds the code system of a part, in the version that the part or the caller asks for.
func (b *builder) system(ctx context.Context, p *part) error {
	v := b.r.o.Versions
	if check := v.Check[p.url]; check != "" {
		if p.version != "" && p.version != check {
			return fhir.NewError(fhir.Unprocessable, fhir.CodeBusinessRule, fmt.Sprintf(
				"The value set uses the version %q of the code system %q, and check-system-version asks for %q.", p.version, p.url, check))
		}
		p.version = check
	}
	if p.version == "" {
		p.version = v.Default[p.url]
	}
	if force := v.Force[p.url]; force != "" {
		p.version = force
	}
	var err error
	p.system, err = b.r.System(ctx, p.url, p.version)
	return err
}

// expansion makes a value set of a stored expansion, where that is all there is.
func (b *builder) expansion(ctx context.Context, s *Set, n *fhir.Node) error {
	if n == nil {
		return fhir.NewError(fhir.NotFound, fhir.CodeNotFound, fmt.Sprintf("The value set %q has no content.", s.URL)).Coded(DetailNoSet)
	}
	parts := map[string]*part{}
	count := 0
	var walk func(*fhir.Node)
	walk = func(n *fhir.Node) {
		for c := range n.Get("contains").Items() {
			if code := c.GetText("code"); code != "" {
				name := canonical(c.GetText("system"), c.GetText("version"))
				p := parts[name]
				if p == nil {
					p = &part{url: c.GetText("system"), version: c.GetText("version"), enumerated: true}
					parts[name] = p
					s.includes = append(s.includes, p)
				}
				count++
				p.listed = append(p.listed, listed{code: code, display: c.GetText("display"), n: c,
					abstract: isTrue(c.Get("abstract")), inactive: isTrue(c.Get("inactive"))})
			}
			walk(c)
		}
	}
	walk(n)
	if b.listed += count; b.listed > MaxListed {
		return tooCostly("The value sets list more than %d codes.", MaxListed)
	}
	if total := n.Get("total"); total != nil && total.Text != strconv.Itoa(count) {
		s.partial = true
	}
	for _, p := range s.includes {
		if err := b.system(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func isTrue(n *fhir.Node) bool { return n != nil && n.Kind == fhir.Bool && n.Text == "true" }
