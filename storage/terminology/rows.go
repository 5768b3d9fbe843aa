package terminology

import (
	"context"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
)

// table collects rows for one table.
type table struct {
	name    string
	columns []string
	casts   []string // the type of each column, for INSERT
	rows    [][]any
}

func (t *table) add(values ...any) { t.rows = append(t.rows, values) }

// conceptTables are the three tables that a concept fills.
type conceptTables struct{ concept, property, designation table }

func newConceptTables() *conceptTables {
	return &conceptTables{
		concept: table{name: "concept",
			columns: []string{"system", "number", "code", "display", "definition", "inactive", "abstract", "parents", "ancestors", "words"},
			casts:   []string{"bigint", "integer", "text", "text", "text", "boolean", "boolean", "integer[]", "integer[]", "tsvector"}},
		property: table{name: "concept_property",
			columns: []string{"system", "number", "position", "code", "type", "value", "coding"},
			casts:   []string{"bigint", "integer", "integer", "text", "text", "text", "jsonb"}},
		designation: table{name: "concept_designation",
			columns: []string{"system", "number", "position", "language", "use", "value"},
			casts:   []string{"bigint", "integer", "integer", "text", "jsonb", "text"}},
	}
}

func (t *conceptTables) all() []*table { return []*table{&t.concept, &t.property, &t.designation} }

// add adds the rows of one concept whose place in the hierarchy is known.
func (t *conceptTables) add(system int64, h *hierarchy, c *Concept) {
	place := h.numbers[c.Code]
	number := h.number(place)
	t.concept.add(system, number, c.Code, nullable(c.Display), nullable(c.Definition), c.Inactive, c.Abstract,
		h.numbered(h.parents[place]), h.numbered(h.above[place]), c.words())
	t.sides(system, number, c)
}

// sides adds the rows of a concept's properties and designations.
func (t *conceptTables) sides(system int64, number int32, c *Concept) {
	for i, p := range c.Properties {
		t.property.add(system, number, int32(i), p.Code, p.Type, p.Value, jsonOf(p.Coding))
	}
	for i, d := range c.Designations {
		t.designation.add(system, number, int32(i), nullable(d.Language), jsonOf(d.Use), d.Value)
	}
}

func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func jsonOf(n *fhir.Node) []byte {
	if n == nil {
		return nil
	}
	v := *n
	v.Name = ""
	return v.JSON()
}

// copyTo sends the rows by COPY and forgets them.
func (t *table) copyTo(ctx context.Context, tx pgx.Tx) error {
	if len(t.rows) == 0 {
		return nil
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{t.name}, t.columns, pgx.CopyFromRows(t.rows))
	t.rows = t.rows[:0]
	return err
}

// insertRows is how many rows one INSERT of queue carries.
const insertRows = 2000

// queue hands the rows to exec as INSERTs. Arrays of arrays travel as text: unnest would flatten them.
func (t *table) queue(exec func(sql string, args ...any)) {
	if len(t.rows) == 0 {
		return
	}
	var sql strings.Builder
	sql.WriteString("INSERT INTO " + t.name + " (" + strings.Join(t.columns, ", ") + ") SELECT ")
	for i, cast := range t.casts {
		if i > 0 {
			sql.WriteString(", ")
		}
		sql.WriteString("u.c" + strconv.Itoa(i) + "::" + cast)
	}
	sql.WriteString(" FROM unnest(")
	for i := range t.casts {
		if i > 0 {
			sql.WriteString(", ")
		}
		sql.WriteString("$" + strconv.Itoa(i+1) + "::" + transport(t.casts[i]) + "[]")
	}
	sql.WriteString(") AS u(")
	for i := range t.casts {
		if i > 0 {
			sql.WriteString(", ")
		}
		sql.WriteString("c" + strconv.Itoa(i))
	}
	sql.WriteString(")")
	for begin := 0; begin < len(t.rows); begin += insertRows {
		part := t.rows[begin:min(begin+insertRows, len(t.rows))]
		args := make([]any, len(t.casts))
		for i, cast := range t.casts {
			args[i] = column(part, i, cast)
		}
		exec(sql.String(), args...)
	}
}

func transport(cast string) string {
	switch cast {
	case "integer[]", "tsvector", "jsonb":
		return "text"
	}
	return cast
}

// column turns one column of rows into an array that pgx can send.
func column(rows [][]any, i int, cast string) any {
	switch cast {
	case "bigint":
		return gather[int64](rows, i)
	case "integer":
		return gather[int32](rows, i)
	case "boolean":
		return gather[bool](rows, i)
	}
	list := make([]*string, len(rows))
	for k, row := range rows {
		switch v := row[i].(type) {
		case string:
			list[k] = &v
		case *string:
			list[k] = v
		case []byte:
			if v != nil {
				s := string(v)
				list[k] = &s
			}
		case []int32:
			s := arrayText(v)
			list[k] = &s
		}
	}
	return list
}

func gather[T any](rows [][]any, i int) []T {
	list := make([]T, len(rows))
	for k, row := range rows {
		list[k] = row[i].(T)
	}
	return list
}

func arrayText(list []int32) string {
	b := []byte{'{'}
	for i, n := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(n), 10)
	}
	return string(append(b, '}'))
}
