package storage

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// jsonText is a value that is JSON already.
type jsonText []byte

// rowsJSON is rows of some tables as an object with a list for each table, as jsonb_populate_recordset reads them.
func rowsJSON(tables []*tableRows) (string, error) {
	b := []byte{'{'}
	for _, t := range tables {
		if len(t.rows) == 0 {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(strconv.AppendQuote(b, t.table), ":["...)
		for i, row := range t.rows {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, '{')
			for j, v := range row {
				if j > 0 {
					b = append(b, ',')
				}
				b = append(strconv.AppendQuote(b, t.columns[j]), ':')
				var err error
				if b, err = appendJSON(b, v); err != nil {
					return "", fmt.Errorf("storage: write %s.%s as JSON: %w", t.table, t.columns[j], err)
				}
			}
			b = append(b, '}')
		}
		b = append(b, ']')
	}
	return string(append(b, '}')), nil
}

// appendJSON writes a value of a column. What is no number, list or text in JSON is written as PostgreSQL reads it.
func appendJSON(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case jsonText:
		return append(b, v...), nil
	case pgtype.Timestamptz:
		return strconv.AppendQuote(b, timeText(v)), nil
	case time.Time:
		return strconv.AppendQuote(b, timeText(timestamp(v))), nil
	case pgtype.Numeric:
		text, err := v.Value()
		if err != nil {
			return nil, err
		}
		return appendJSON(b, text)
	case *float64:
		if v != nil {
			return appendJSON(b, *v)
		}
	case float64:
		switch {
		case math.IsNaN(v):
			return append(b, `"NaN"`...), nil
		case math.IsInf(v, 1):
			return append(b, `"Infinity"`...), nil
		case math.IsInf(v, -1):
			return append(b, `"-Infinity"`...), nil
		}
	}
	text, err := json.Marshal(v)
	return append(b, text...), err
}

// timeText is a time as PostgreSQL reads it: there is no year 0, and the microsecond is the least.
func timeText(t pgtype.Timestamptz) string {
	switch t.InfinityModifier {
	case pgtype.Infinity:
		return "infinity"
	case pgtype.NegativeInfinity:
		return "-infinity"
	}
	at, era := t.Time.UTC().Add(-time.Duration(t.Time.Nanosecond()%1000)), ""
	year := at.Year()
	if year <= 0 {
		year, era = 1-year, " BC"
	}
	return fmt.Sprintf("%04d-%s%s", year, at.Format("01-02 15:04:05.999999+00"), era)
}
