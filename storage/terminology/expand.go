package terminology

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/storage/fold"
)

// MaxExpansion is how many codes one expansion holds; larger ones are read page by page.
const MaxExpansion = 10_000

// ExpandOptions are what an expansion can be asked for.
type ExpandOptions struct {
	Filter string
	// Offset and Count choose a page; Count < 0 is no paging.
	Offset, Count  int
	ActiveOnly     bool
	SelectableOnly bool
	Designations   bool
	Nested         bool // the parents of each member
	Language       string
	ExcludeSystems map[string]bool
	Limit          int  // 0: MaxExpansion
	Terms          bool // for search: whole code systems need not be listed
}

// Expansion is a page of the codes of a value set.
type Expansion struct {
	Total   int64
	Members []Member
	Used    []*System // the code systems that took part
	Partial []*System // those of them that are here in part only
	Missing []string  // those of them that are not here: their codes are as the value set lists them
	Broken  []string  // value sets whose stored expansion, which is all there is of them, is not whole
}

// Member is a code of a value set.
type Member struct {
	System, Version    string
	Code, Display      string
	Abstract, Inactive bool
	Designations       []Designation
	// Listed is what the value set itself says of the code, or nil.
	Listed *fhir.Node
	// Number and Parents are places in the code system, for nesting; zero where it is not here.
	key     int64
	number  int32
	parents []int32
}

// Place is where the member stands in its code system; ok is false for a code that the value set alone knows.
func (m *Member) Place() (system, number int64, ok bool) {
	return m.key, int64(m.number), m.key != 0
}

// Above are the places of the concepts right above it.
func (m *Member) Above() [][2]int64 {
	list := make([][2]int64, len(m.parents))
	for i, p := range m.parents {
		list[i] = [2]int64{m.key, int64(p)}
	}
	return list
}

// Expand lists the codes of a value set.
//
// Errors: NotFound for a code system that is not here and needed; TooCostly for one with more than MaxExpansion codes
// when no page is asked for.
func (r *Resolver) Expand(ctx context.Context, s *Set, o ExpandOptions) (*Expansion, error) {
	c := r.compiler()
	c.listing = true
	if o.ExcludeSystems != nil {
		c.skip = o.ExcludeSystems
	}
	if err := c.prepare(ctx, s); err != nil {
		return nil, err
	}
	limit := o.Limit
	if limit == 0 {
		limit = MaxExpansion
	}
	var arms []arm
	rest, err := c.rest(ctx, s)
	if err != nil {
		return nil, err
	}
	also := c.narrow(&o)
	rank := c.rank(&o)
	for i, p := range s.includes {
		own, err := c.part(ctx, p, false)
		if err != nil {
			return nil, err
		}
		if own == "false" {
			continue
		}
		position := ""
		if p.enumerated && p.system != nil && len(p.listed) > 1 {
			codes := make([]string, len(p.listed))
			for k, l := range p.listed {
				codes[k] = l.code
			}
			position = "coalesce(array_position(" + c.arg(codes, "text[]") + ", c.code), 0)"
		}
		arms = append(arms, arm{where: "(" + own + ")" + rest + also, rank: rank, place: int64(i) << placeBits, position: position})
	}
	if len(arms) == 0 {
		c.args = nil // PostgreSQL refuses parameters that nobody uses
	}
	literals := slices.DeleteFunc(c.literals(s), func(l literal) bool {
		return o.Filter != "" && !matchesText(o.Filter, l.code, l.display) || (o.ActiveOnly || s.activeOnly) && l.inactive || o.SelectableOnly && l.abstract
	})
	x := &Expansion{Partial: c.partial, Broken: c.broken}
	if err := c.run(ctx, x, arms, literals, &o, limit); err != nil {
		return nil, err
	}
	c.mentions(s, x)
	if o.Count < 0 && x.Total > int64(limit) {
		return nil, tooCostly("The value set has %d codes, more than the %d that one answer holds: use offset and count, or a filter.", x.Total, limit)
	}
	return x, nil
}

// arm is what one include adds: a condition on a row c of concept, and the order of what meets it.
type arm struct {
	where, rank string
	place       int64
	position    string // "" for the order of the code system
}

func (a *arm) sql() string {
	position := a.position
	if position == "" {
		position = "0"
	}
	return fmt.Sprintf("SELECT c.system, c.number, %s AS rank, %d + %s AS place FROM concept c WHERE %s", a.rank, a.place, position, a.where)
}

// mentions notes which code systems took part.
func (c *compiler) mentions(s *Set, x *Expansion) {
	seen := map[string]bool{}
	eachPart(s, func(p *part) {
		name := canonical(p.url, p.version)
		if p.url == "" || seen[name] || c.skip[p.url] {
			return
		}
		seen[name] = true
		if p.system == nil {
			x.Missing = append(x.Missing, name)
		} else if !slices.Contains(x.Used, p.system) {
			x.Used = append(x.Used, p.system)
		}
	})
}

// narrow is what the caller asks of all members.
func (c *compiler) narrow(o *ExpandOptions) string {
	sql := ""
	if o.ActiveOnly {
		sql += " AND NOT c.inactive"
	}
	if o.SelectableOnly {
		sql += " AND NOT c.abstract"
	}
	if o.Filter == "" {
		return sql
	}
	query := textQuery(o.Filter)
	if query == "" {
		return sql + " AND false"
	}
	sql += " AND (c.words @@ " + c.arg(query, "tsquery")
	// A value set may call a code by another name than its code system does.
	var systems []int64
	var codes []string
	for k, l := range c.listed {
		if l.display != "" && matchesText(o.Filter, k.code, l.display) {
			for _, key := range c.keys[k.url] {
				systems, codes = append(systems, key), append(codes, k.code)
			}
		}
	}
	if len(codes) > 0 {
		sql += " OR (c.system, c.code) IN (SELECT * FROM unnest(" + c.arg(systems, "bigint[]") + ", " + c.arg(codes, "text[]") + "))"
	}
	return sql + ")"
}

// rank puts first what a filter meets best: the code itself, then names that begin with it, short ones before long ones.
func (c *compiler) rank(o *ExpandOptions) string {
	if o.Filter == "" {
		return "0"
	}
	f := c.arg(fold.String(o.Filter), "text")
	return "(CASE WHEN lower(c.code) = " + f + " THEN 0 WHEN lower(c.display) = " + f + " THEN 1000 WHEN starts_with(lower(c.display), " + f +
		") THEN 2000 ELSE 3000 END + least(coalesce(length(c.display), 999), 999))"
}

const designationJSON = `(SELECT json_agg(json_build_object('l', d.language, 'u', d.use, 'v', d.value) ORDER BY d.position)
  FROM concept_designation d WHERE d.system = c.system AND d.number = c.number)`

// run asks for the page and for how many members there are in all, in one statement.
func (c *compiler) run(ctx context.Context, x *Expansion, arms []arm, literals []literal, o *ExpandOptions, limit int) error {
	var sql strings.Builder
	count := o.Count
	if count < 0 || count > limit {
		count = limit
	}
	window := func() string { return " OFFSET " + c.arg(o.Offset, "bigint") + " LIMIT " + c.arg(count, "bigint") }
	if len(arms) == 1 && len(literals) == 0 && arms[0].position == "" && arms[0].rank == "0" {
		// The page is read in the order of an index; only the number of the rest is counted.
		sql.WriteString("WITH total AS (SELECT count(*) AS total FROM concept c WHERE " + arms[0].where + "),\n" +
			"page AS (SELECT c.system, c.number, 0 AS rank, 0 AS place, NULL::bigint AS ordinal FROM concept c WHERE " + arms[0].where +
			" ORDER BY c.number" + window() + ")\n")
	} else {
		c.collect(&sql, arms, literals)
		sql.WriteString("page AS (SELECT * FROM (SELECT system, number, rank, place, NULL::bigint AS ordinal FROM m UNION ALL" +
			" SELECT NULL, NULL, 3999, place, ordinal FROM l) u ORDER BY rank, place, number, system, ordinal" + window() + ")\n")
	}
	designations := "NULL::json"
	if o.Designations || o.Language != "" {
		designations = designationJSON
	}
	sql.WriteString("SELECT t.total, p.ordinal, p.system, p.number, c.code, c.display, c.abstract, c.inactive, c.parents, " + designations +
		" FROM total t LEFT JOIN page p ON true" +
		" LEFT JOIN concept c ON c.system = p.system AND c.number = p.number ORDER BY p.rank, p.place, p.number, p.system, p.ordinal")
	return c.r.queryAnew(ctx, sql.String(), c.args, func(rows pgx.Rows) error {
		var ordinal, system *int64
		var number *int32
		var code, display *string
		var abstract, inactive *bool
		var parents []int32
		var names []byte
		if err := rows.Scan(&x.Total, &ordinal, &system, &number, &code, &display, &abstract, &inactive, &parents, &names); err != nil {
			return err
		}
		switch {
		case ordinal != nil:
			l := literals[*ordinal-1]
			m := Member{System: l.url, Version: l.version, Code: l.code, Display: l.display, Listed: l.n, Abstract: l.abstract, Inactive: l.inactive}
			x.Members = append(x.Members, m)
		case code != nil:
			s := c.systems[*system]
			m := Member{System: s.URL, Version: s.Version, Code: *code, Abstract: *abstract, Inactive: *inactive, key: *system, number: *number, parents: parents}
			if display != nil {
				m.Display = *display
			}
			var err error
			if m.Designations, err = readDesignations(names); err != nil {
				return err
			}
			c.dress(&m, o.Language)
			x.Members = append(x.Members, m)
		}
		return nil
	})
}

// collect writes the members as m, the literals without a row as l, and their number as total.
func (c *compiler) collect(sql *strings.Builder, arms []arm, literals []literal) {
	members := "SELECT NULL::bigint AS system, NULL::integer AS number, 0 AS rank, 0::bigint AS place WHERE false"
	var list []string
	for i := range arms {
		list = append(list, arms[i].sql())
	}
	if len(list) > 0 {
		members = strings.Join(list, " UNION ALL ")
	}
	if len(list) > 1 {
		members = "SELECT system, number, min(rank) AS rank, min(place) AS place FROM (" + members + ") a GROUP BY system, number"
	}
	sql.WriteString("WITH m AS MATERIALIZED (" + members + "),\n")
	places, systems, codes := make([]int64, len(literals)), make([]*int64, len(literals)), make([]string, len(literals))
	for i, l := range literals {
		places[i], codes[i] = l.place, l.code
		if l.system != nil && l.system.grammar == nil {
			systems[i] = &l.system.Key
		}
	}
	sql.WriteString("l AS MATERIALIZED (SELECT u.place, u.ordinal FROM unnest(" + c.arg(places, "bigint[]") + ", " + c.arg(systems, "bigint[]") + ", " +
		c.arg(codes, "text[]") + ") WITH ORDINALITY AS u(place, system, code, ordinal)" +
		" WHERE u.system IS NULL OR NOT EXISTS (SELECT FROM concept c WHERE c.system = u.system AND c.code = u.code)),\n" +
		"total AS (SELECT (SELECT count(*) FROM m) + (SELECT count(*) FROM l) AS total),\n")
}

// dress gives a member the name that the value set or the caller's language asks for.
func (c *compiler) dress(m *Member, language string) {
	if l, ok := c.listed[codeKey{m.System, m.Code}]; ok {
		m.Listed = l.n
		if l.display != "" {
			m.Display = l.display
		}
		for d := range l.n.Get("designation").Items() {
			m.Designations = append(m.Designations, Designation{Language: d.GetText("language"), Use: d.Get("use"), Value: d.GetText("value")})
		}
	}
	if name := inLanguage(m.Designations, language); name != "" {
		m.Display = name
	}
}

// inLanguage is the first name in a language, or in a form of it: a caller who asks for de-CH is content with de.
func inLanguage(list []Designation, language string) string {
	for language != "" {
		for _, d := range list {
			if strings.EqualFold(d.Language, language) {
				return d.Value
			}
		}
		i := strings.LastIndexByte(language, '-')
		language = language[:max(i, 0)]
	}
	return ""
}

// readDesignations reads what designationJSON writes.
func readDesignations(data []byte) ([]Designation, error) {
	if data == nil {
		return nil, nil
	}
	var raw []struct {
		L string
		U json.RawMessage
		V string
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, err
	}
	list := make([]Designation, len(raw))
	for i, d := range raw {
		list[i] = Designation{Language: d.L, Value: d.V}
		if len(d.U) > 0 && string(d.U) != "null" {
			use, err := fhir.ParseJSON(d.U)
			if err != nil {
				return nil, err
			}
			list[i].Use = use
		}
	}
	return list, nil
}
