package storage

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"kiln/fhir"
)

// rowsJSON is rows of some tables as an object with a list for each table, as jsonb_populate_recordset reads them.
func rowsJSON(tables []*tableRows) string {
	b := []byte{'{'}
	for _, t := range tables {
		if t.count == 0 {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(strconv.AppendQuote(b, t.table), ":["...)
		b = append(append(b, t.data...), ']')
	}
	return string(append(b, '}'))
}

// appendObject writes a row behind others.
func appendObject(b []byte, columns []string, values []any) []byte {
	if len(b) > 0 {
		b = append(b, ',')
	}
	b = append(b, '{')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSON(append(strconv.AppendQuote(b, columns[i]), ':'), v)
	}
	return append(b, '}')
}

// appendJSON writes a value of a column. What is no number, list or text in JSON is written as PostgreSQL reads it. As
// appendBinary, it keeps no value.
func appendJSON(b []byte, v any) []byte {
	switch v := v.(type) {
	case jsonText:
		return append(b, v...)
	case numericText:
		if v != "" {
			return strconv.AppendQuote(b, string(v))
		}
	case wordsText:
		return appendText(b, string(v))
	case pgtype.Timestamptz:
		if v.Valid {
			return strconv.AppendQuote(b, timeText(v))
		}
	case time.Time:
		return strconv.AppendQuote(b, timeText(timestamp(v)))
	case bool:
		return strconv.AppendBool(b, v)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case *int64:
		if v != nil {
			return strconv.AppendInt(b, *v, 10)
		}
	case int32:
		return strconv.AppendInt(b, int64(v), 10)
	case int16:
		return strconv.AppendInt(b, int64(v), 10)
	case float64:
		return appendFloat(b, v)
	case *float64:
		if v != nil {
			return appendFloat(b, *v)
		}
	case string:
		return appendText(b, v)
	case *string:
		if v != nil {
			return appendText(b, *v)
		}
	case []int64:
		if v == nil {
			break
		}
		b = append(b, '[')
		for i, n := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, n, 10)
		}
		return append(b, ']')
	default:
		panic("storage: no column of the index has values of this type")
	}
	return append(b, "null"...)
}

func appendFloat(b []byte, v float64) []byte {
	switch {
	case math.IsNaN(v):
		return append(b, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(b, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(b, `"-Infinity"`...)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}

func appendText(b []byte, s string) []byte {
	n := fhir.Str(s)
	return n.AppendJSON(b)
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
