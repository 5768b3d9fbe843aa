package storage

import (
	"context"
	"encoding/binary"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// tableRows are rows that go into one table, written as they are added: a resource has some twenty rows of ten values, and
// to keep those as Go values until they are sent took more time and memory than all else on their way.
type tableRows struct {
	table   string
	columns []string
	// json says that the rows are objects of JSON, with a comma in between, and not rows of COPY in its binary form.
	json  bool
	count int
	data  []byte
	// full is what stands before data: large slices are not grown, which takes them several times.
	full [][]byte
}

// copyChunk is from how many bytes on the next row goes into another slice.
const copyChunk = 32 << 10

// copySlices are slices at rest, with room for copyChunk and a row.
var copySlices = sync.Pool{New: func() any {
	b := make([]byte, 0, copyChunk+copyChunk/8)
	return &b
}}

// What values are to PostgreSQL where their Go type does not tell: the text of a JSON document, of a number with any
// digits ("" is NULL), and of a tsvector as textVector makes it.
type (
	jsonText    []byte
	numericText string
	wordsText   string
)

var copyHeader = []byte("PGCOPY\n\377\r\n\000\x00\x00\x00\x00\x00\x00\x00\x00")

// add adds a row. The Go type of a value is that of its column: int64 for bigint, int32 for integer, int16 for smallint.
func (t *tableRows) add(values ...any) {
	t.count++
	if t.json {
		t.data = appendObject(t.data, t.columns, values)
		return
	}
	switch {
	case t.data == nil:
		t.data = append((*copySlices.Get().(*[]byte))[:0], copyHeader...)
	case len(t.data) >= copyChunk:
		t.full = append(t.full, t.data)
		t.data = (*copySlices.Get().(*[]byte))[:0]
	}
	t.data = binary.BigEndian.AppendUint16(t.data, uint16(len(values)))
	for _, v := range values {
		at := len(t.data)
		t.data = append(t.data, 0xff, 0xff, 0xff, 0xff) // the size, for now that of NULL
		var null bool
		if t.data, null = appendBinary(t.data, v); !null {
			binary.BigEndian.PutUint32(t.data[at:], uint32(len(t.data)-at-4))
		}
	}
}

// copyTo sends the rows by COPY, if there are any. They are gone then.
func (t *tableRows) copyTo(ctx context.Context, conn *pgconn.PgConn) error {
	if t.count == 0 {
		return nil
	}
	sql := "COPY public." + t.table + ` ("` + strings.Join(t.columns, `", "`) + `") FROM STDIN BINARY`
	list := append(t.full, append(t.data, 0xff, 0xff))
	chunks := net.Buffers(slices.Clone(list)) // reading takes it apart
	_, err := conn.CopyFrom(ctx, &chunks, sql)
	for i := range list {
		if err == nil && cap(list[i]) <= 2*copyChunk { // after an error pgx may still be reading
			copySlices.Put(&list[i])
		}
	}
	t.count, t.data, t.full = 0, nil, nil
	return err
}

// copyAll sends the rows of tables, one after the other.
func copyAll(ctx context.Context, conn *pgx.Conn, tables ...*tableRows) error {
	for _, t := range tables {
		if err := t.copyTo(ctx, conn.PgConn()); err != nil {
			return err
		}
	}
	return nil
}

// appendBinary writes a value in PostgreSQL's binary form, without its size. Nothing is written for NULL. It keeps no
// value, so that the caller's need no place on the heap.
func appendBinary(b []byte, v any) (_ []byte, null bool) {
	switch v := v.(type) {
	case int64:
		return binary.BigEndian.AppendUint64(b, uint64(v)), false
	case *int64:
		if v == nil {
			return b, true
		}
		return binary.BigEndian.AppendUint64(b, uint64(*v)), false
	case int32:
		return binary.BigEndian.AppendUint32(b, uint32(v)), false
	case *int32:
		if v == nil {
			return b, true
		}
		return binary.BigEndian.AppendUint32(b, uint32(*v)), false
	case int16:
		return binary.BigEndian.AppendUint16(b, uint16(v)), false
	case bool:
		if v {
			return append(b, 1), false
		}
		return append(b, 0), false
	case float64:
		return binary.BigEndian.AppendUint64(b, math.Float64bits(v)), false
	case *float64:
		if v == nil {
			return b, true
		}
		return binary.BigEndian.AppendUint64(b, math.Float64bits(*v)), false
	case string:
		return append(b, v...), false
	case *string:
		if v == nil {
			return b, true
		}
		return append(b, *v...), false
	case []byte:
		return append(b, v...), v == nil
	case jsonText:
		return append(append(b, 1), v...), false // the version of the form
	case numericText:
		if v == "" {
			return b, true
		}
		return appendNumeric(b, string(v)), false
	case wordsText:
		return appendVector(b, string(v)), false
	case time.Time:
		return binary.BigEndian.AppendUint64(b, uint64(sinceY2K(v))), false
	case pgtype.Timestamptz:
		if !v.Valid {
			return b, true
		}
		switch v.InfinityModifier {
		case pgtype.Infinity:
			return binary.BigEndian.AppendUint64(b, math.MaxInt64), false
		case pgtype.NegativeInfinity:
			return binary.BigEndian.AppendUint64(b, 1<<63), false
		}
		return binary.BigEndian.AppendUint64(b, uint64(sinceY2K(v.Time))), false
	case []int64:
		if v == nil {
			return b, true
		}
		b = appendArrayHead(b, pgtype.Int8OID, len(v))
		for _, n := range v {
			b = binary.BigEndian.AppendUint64(append(b, 0, 0, 0, 8), uint64(n))
		}
		return b, false
	case []int16:
		if v == nil {
			return b, true
		}
		b = appendArrayHead(b, pgtype.Int2OID, len(v))
		for _, n := range v {
			b = binary.BigEndian.AppendUint16(append(b, 0, 0, 0, 2), uint16(n))
		}
		return b, false
	case []string:
		if v == nil {
			return b, true
		}
		b = appendArrayHead(b, pgtype.TextOID, len(v))
		for _, s := range v {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
		}
		return b, false
	}
	panic("storage: no column has values of this type")
}

// sinceY2K is a time in microseconds, as PostgreSQL counts them.
func sinceY2K(t time.Time) int64 {
	const y2k = 946_684_800
	return (t.Unix()-y2k)*1_000_000 + int64(t.Nanosecond())/1000
}

func appendArrayHead(b []byte, oid uint32, n int) []byte {
	if n == 0 {
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
		return binary.BigEndian.AppendUint32(b, oid)
	}
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 0) // one dimension, no NULLs
	b = binary.BigEndian.AppendUint32(b, oid)
	return append(binary.BigEndian.AppendUint32(b, uint32(n)), 0, 0, 0, 1) // from 1 on
}

// numericSpecial are the signs of what is no number with digits.
const (
	numericNegative = 0x4000
	numericNaN      = 0xC000
	numericInfinity = 0xD000
	numericMinusInf = 0xF000
)

// The most digits of a numeric before and after the point.
const (
	maxNumericWhole    = 131_072
	maxNumericFraction = 16_383
)

// appendNumeric writes a numeric from its literal, such as -1.10 or 1e2, or Infinity or -Infinity. What PostgreSQL would
// refuse, as an exponent that is too large, becomes NaN.
func appendNumeric(b []byte, literal string) []byte {
	special := func(sign uint16) []byte {
		return append(binary.BigEndian.AppendUint16(append(b, 0, 0, 0, 0), sign), 0, 0)
	}
	switch literal {
	case positiveInfinity:
		return special(numericInfinity)
	case negativeInfinity:
		return special(numericMinusInf)
	}
	rest, negative := strings.CutPrefix(literal, "-")
	mantissa, power := rest, 0
	if i := strings.IndexAny(rest, "eE"); i >= 0 {
		var err error
		if power, err = strconv.Atoi(rest[i+1:]); err != nil {
			return special(numericNaN)
		}
		mantissa = rest[:i]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := whole + fraction
	point := len(whole) + power // where the decimal point stands in digits
	if power < -maxNumericFraction || power > maxNumericWhole || point > maxNumericWhole || len(digits)-point > maxNumericFraction || digits == "" ||
		strings.Trim(digits, "0123456789") != "" {
		return special(numericNaN)
	}
	scale := max(len(digits)-point, 0)
	// Groups of four digits, counted from the point.
	first, last := floorDiv(-point, 4), floorDiv(len(digits)-point-1, 4)
	group := func(i int) (n uint16) {
		for at := point + 4*i; at < point+4*i+4; at++ {
			n *= 10
			if at >= 0 && at < len(digits) {
				n += uint16(digits[at] - '0')
			}
		}
		return n
	}
	for first <= last && group(first) == 0 {
		first++
	}
	for last >= first && group(last) == 0 {
		last--
	}
	weight, sign := -first-1, uint16(0)
	switch {
	case first > last:
		weight = 0
	case negative:
		sign = numericNegative
	}
	b = binary.BigEndian.AppendUint16(b, uint16(last-first+1))
	b = binary.BigEndian.AppendUint16(b, uint16(weight))
	b = binary.BigEndian.AppendUint16(b, sign)
	b = binary.BigEndian.AppendUint16(b, uint16(scale))
	for i := first; i <= last; i++ {
		b = binary.BigEndian.AppendUint16(b, group(i))
	}
	return b
}

func floorDiv(a, b int) int {
	if a < 0 {
		return -((-a + b - 1) / b)
	}
	return a / b
}

// appendVector writes a tsvector from the text that textVector makes: 'word':1A,4 'other':2, in order, without doublets.
func appendVector(b []byte, text string) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	words := uint32(0)
	for text != "" {
		var word, places string
		word, text, _ = strings.Cut(text[1:], "':")
		places, text, _ = strings.Cut(text, " ")
		b = append(append(b, word...), 0)
		b = binary.BigEndian.AppendUint16(b, uint16(strings.Count(places, ",")+1))
		for place := range strings.SplitSeq(places, ",") {
			n := uint16(0)
			for i := range len(place) {
				if place[i] == 'A' {
					n |= 3 << 14
				} else {
					n = n*10 + uint16(place[i]-'0')
				}
			}
			b = binary.BigEndian.AppendUint16(b, n)
		}
		words++
	}
	binary.BigEndian.PutUint32(b[at:], words)
	return b
}
