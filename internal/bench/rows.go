package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// template is what Kiln has stored for one resource, row by row, as PostgreSQL sends it: the ceiling stores the same
// again under other keys, and has nothing to work out.
type template struct {
	content []byte
	// all rows, those of the resource, and those of the index.
	all, bare, index rowSet
}

// rowSet are rows of one resource, and the statement that writes them all.
type rowSet struct {
	tables []templateRows
	insert string
}

func newRowSet(tables []templateRows) rowSet { return rowSet{tables, insertStatement(tables)} }

type templateRows struct {
	table   string
	columns []string
	types   []string
	rows    [][][]byte
	key, id int // which columns are rk and id; -1 for none
	content int
}

// rowTables hold the resource itself, indexTables what searches need of it. The texts of search_sort_text are there once, whoever has them, so that another
// resource like one that is stored adds none.
var (
	rowTables   = []string{"resource", "resource_change"}
	indexTables = []string{"search_index", "search_string", "search_date", "search_number", "search_composite", "search_text", "search_code", "search_identifier"}
)

const sqlColumns = `
SELECT array_agg(attname::text ORDER BY attnum), array_agg(format_type(atttypid, atttypmod) ORDER BY attnum) FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('seq', 'xid')`

func readTemplate(ctx context.Context, pool *pgxpool.Pool, rk int64) (*template, error) {
	var tables []templateRows
	for _, table := range append(append([]string{}, rowTables...), indexTables...) {
		r := templateRows{table: table, key: -1, id: -1, content: -1}
		if err := pool.QueryRow(ctx, sqlColumns, table).Scan(&r.columns, &r.types); err != nil {
			return nil, err
		}
		for i, column := range r.columns {
			switch column {
			case "rk":
				r.key = i
			case "id":
				r.id = i
			case "content":
				r.content = i
			}
		}
		sql := fmt.Sprintf("SELECT %s FROM %s WHERE rk = $1", strings.Join(r.columns, ", "), table)
		rows, err := pool.Query(ctx, sql, pgx.QueryResultFormats{pgx.BinaryFormatCode}, rk)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			row := make([][]byte, len(r.columns))
			for i, value := range rows.RawValues() {
				if value != nil {
					row[i] = append([]byte{}, value...)
				}
			}
			r.rows = append(r.rows, row)
		}
		if err := rows.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", table, err)
		}
		if len(r.rows) > 0 {
			tables = append(tables, r)
		}
	}
	if len(tables) <= len(rowTables) {
		return nil, fmt.Errorf("no live resource has the key %d", rk)
	}
	r := tables[0]
	n := len(rowTables)
	return &template{content: r.rows[0][r.content][1:], all: newRowSet(tables), bare: newRowSet(tables[:n]), index: newRowSet(tables[n:])}, nil
}

// values are the columns of a row under another key; content replaces the document where it is not nil.
func (r *templateRows) values(dst [][]byte, row [][]byte, rk int64, content []byte) [][]byte {
	for i, value := range row {
		switch {
		case i == r.key:
			value = binary.BigEndian.AppendUint64(nil, uint64(rk))
		case i == r.id:
			value = fmt.Appendf(nil, "c%016x", uint64(rk))
		case i == r.content && content != nil:
			value = append([]byte{1}, content...) // the version of jsonb's binary form
		}
		dst = append(dst, value)
	}
	return dst
}

func insertStatement(tables []templateRows) string {
	var parts []string
	n := 0
	for _, r := range tables {
		var rows []string
		for range r.rows {
			marks := make([]string, len(r.columns))
			for i := range marks {
				n++
				marks[i] = fmt.Sprintf("$%d::%s", n, r.types[i])
			}
			rows = append(rows, "("+strings.Join(marks, ", ")+")")
		}
		parts = append(parts, fmt.Sprintf("INSERT INTO %s (%s) VALUES %s", r.table, strings.Join(r.columns, ", "), strings.Join(rows, ", ")))
	}
	sql := "WITH "
	for i, part := range parts[:len(parts)-1] {
		if i > 0 {
			sql += ",\n"
		}
		sql += fmt.Sprintf("w%d AS (%s)", i, part)
	}
	return sql + "\n" + parts[len(parts)-1]
}

// values are those of insert, under another key.
func (s *rowSet) values(rk int64, content []byte) (values [][]byte) {
	for i := range s.tables {
		for _, row := range s.tables[i].rows {
			values = s.tables[i].values(values, row, rk, content)
		}
	}
	return values
}

var allBinary = []int16{pgx.BinaryFormatCode}

// copy writes the rows of many resources by COPY. The connection is within a transaction.
func (s *rowSet) copy(ctx context.Context, conn *pgconn.PgConn, keys []int64) error {
	for i := range s.tables {
		r := &s.tables[i]
		data := append([]byte("PGCOPY\n\377\r\n\000"), 0, 0, 0, 0, 0, 0, 0, 0)
		var values [][]byte
		for _, rk := range keys {
			for _, row := range r.rows {
				values = r.values(values[:0], row, rk, nil)
				data = binary.BigEndian.AppendUint16(data, uint16(len(values)))
				for _, value := range values {
					if value == nil {
						data = binary.BigEndian.AppendUint32(data, ^uint32(0))
						continue
					}
					data = append(binary.BigEndian.AppendUint32(data, uint32(len(value))), value...)
				}
			}
		}
		data = append(data, 0xff, 0xff)
		sql := fmt.Sprintf("COPY %s (%s) FROM STDIN BINARY", r.table, strings.Join(r.columns, ", "))
		if _, err := conn.CopyFrom(ctx, bytes.NewReader(data), sql); err != nil {
			return fmt.Errorf("%s: %w", r.table, err)
		}
	}
	return nil
}
