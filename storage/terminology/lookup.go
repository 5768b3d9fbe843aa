package terminology

import (
	"context"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

// Details are everything that is known of a concept.
type Details struct {
	Finding
	Definition string
	// Parents and Children are the concepts right above and below; Children are cut at MaxChildren.
	Parents, Children []Coding
	Properties        []Property
	// Names gives the displays of codes that properties refer to.
	Names map[string]string
}

// MaxChildren is how many children of a concept a lookup lists.
const MaxChildren = 1000

const (
	sqlDetails = `
SELECT ` + findingColumns + `, c.number, c.parents, c.definition FROM concept c
WHERE c.system = $1 AND (c.code = $2 OR lower(c.code) = $3) ORDER BY c.code <> $2 LIMIT 10`
	// The children are found before they are ordered: the planner would else walk the whole system in its order.
	sqlRelatives = `
WITH k AS MATERIALIZED (SELECT c.number, c.code, c.display FROM concept c WHERE c.system = $1 AND c.parents @> ARRAY[$3::integer])
(SELECT true, c.code, c.display FROM concept c WHERE c.system = $1 AND c.number = ANY($2) ORDER BY c.number)
UNION ALL
(SELECT false, k.code, k.display FROM k ORDER BY k.number LIMIT $4)`
	sqlProperties = `
SELECT p.code, p.type, p.value, p.coding, k.display FROM concept_property p
LEFT JOIN concept k ON p.type = 'code' AND k.system = p.system AND k.code = p.value
WHERE p.system = $1 AND p.number = $2 ORDER BY p.position`
)

// Lookup finds a concept and everything that is known of it. It is nil where the system has no such code.
func (r *Resolver) Lookup(ctx context.Context, s *System, code, language string) (*Details, error) {
	if s.grammar != nil {
		f, err := r.Find(ctx, s, code, language)
		if f == nil {
			return nil, err
		}
		return &Details{Finding: *f}, nil
	}
	var found *Details
	var number int32
	var parents []int32
	err := r.query(ctx, sqlDetails, []any{s.Key, code, asciiLower(code)}, func(rows pgx.Rows) error {
		d := &Details{Names: map[string]string{}}
		var definition *string
		var n int32
		var above []int32
		var key int64
		var display *string
		var names []byte
		if err := rows.Scan(&key, &d.Code, &display, &d.Abstract, &d.Inactive, &names, &n, &above, &definition); err != nil {
			return err
		}
		if found != nil || !s.sameCode(d.Code, code) {
			return nil
		}
		if display != nil {
			d.Display = *display
		}
		if definition != nil {
			d.Definition = *definition
		}
		found, number, parents = d, n, above
		var err error
		d.Designations, err = readDesignations(names)
		return err
	})
	if found == nil || err != nil {
		return nil, err
	}
	found.Found, found.System, found.Version = true, s.URL, s.Version
	found.name(language)
	err = r.query(ctx, sqlRelatives, []any{s.Key, parents, number, MaxChildren}, func(rows pgx.Rows) error {
		var above bool
		var display *string
		c := Coding{System: s.URL}
		if err := rows.Scan(&above, &c.Code, &display); err != nil {
			return err
		}
		if display != nil {
			c.Display = *display
		}
		if above {
			found.Parents = append(found.Parents, c)
		} else {
			found.Children = append(found.Children, c)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, r.query(ctx, sqlProperties, []any{s.Key, number}, func(rows pgx.Rows) error {
		var p Property
		var coding []byte
		var display *string
		if err := rows.Scan(&p.Code, &p.Type, &p.Value, &coding, &display); err != nil {
			return err
		}
		if coding != nil {
			var err error
			if p.Coding, err = fhir.ParseJSON(coding); err != nil {
				return err
			}
		}
		if display != nil {
			found.Names[p.Value] = *display
		}
		found.Properties = append(found.Properties, p)
		return nil
	})
}

// Subsumption is how two codes relate, in the codes of http://hl7.org/fhir/concept-subsumption-outcome.
type Subsumption string

// The outcomes.
const (
	Equivalent  Subsumption = "equivalent"
	Subsumes    Subsumption = "subsumes"
	SubsumedBy  Subsumption = "subsumed-by"
	NotSubsumed Subsumption = "not-subsumed"
)

const sqlPlaces = `SELECT c.code, c.number, c.ancestors FROM concept c WHERE c.system = $1 AND (c.code = ANY($2) OR lower(c.code) = ANY($3))`

// Subsumption compares two codes of one system. missing is the first of them that the system has not, "" where it has both.
func (r *Resolver) Subsumption(ctx context.Context, s *System, a, b string) (outcome Subsumption, missing string, err error) {
	if s.grammar != nil {
		for _, code := range []string{a, b} {
			if !s.grammar.valid(code) {
				return "", code, nil
			}
		}
		if s.sameCode(a, b) {
			return Equivalent, "", nil
		}
		return NotSubsumed, "", nil
	}
	type place struct {
		code      string
		number    int32
		ancestors []int32
	}
	var list []place
	err = r.query(ctx, sqlPlaces, []any{s.Key, []string{a, b}, []string{asciiLower(a), asciiLower(b)}}, func(rows pgx.Rows) error {
		var p place
		err := rows.Scan(&p.code, &p.number, &p.ancestors)
		list = append(list, p)
		return err
	})
	if err != nil {
		return "", "", err
	}
	find := func(code string) *place {
		var near *place
		for i := range list {
			if list[i].code == code {
				return &list[i]
			}
			if s.sameCode(list[i].code, code) {
				near = &list[i]
			}
		}
		return near
	}
	pa, pb := find(a), find(b)
	switch {
	case pa == nil:
		return "", a, nil
	case pb == nil:
		return "", b, nil
	case pa.number == pb.number:
		return Equivalent, "", nil
	case contains(pb.ancestors, pa.number):
		return Subsumes, "", nil
	case contains(pa.ancestors, pb.number):
		return SubsumedBy, "", nil
	}
	return NotSubsumed, "", nil
}
