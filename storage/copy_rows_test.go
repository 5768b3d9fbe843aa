package storage

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"kiln/fhir"
	"kiln/internal/kilntest"
)

// TestTableRows_reach_the_table_as_they_are sends a value of each kind by COPY and has PostgreSQL compare it with its literal.
func TestTableRows_reach_the_table_as_they_are(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, kilntest.DB(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	at := time.Date(1969, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
	seven, small, real, text := int64(7), int32(-3), -0.25, "it's"
	words := newVector()
	words.add("été Été b a-1", true)
	words.add("b", false)
	cases := []struct {
		typ, literal string
		value        any
	}{
		{"bigint", "-9223372036854775808", int64(math.MinInt64)}, {"bigint", "7", &seven}, {"bigint", "", (*int64)(nil)},
		{"integer", "-2", int32(-2)}, {"integer", "-3", &small}, {"integer", "", (*int32)(nil)}, {"smallint", "300", int16(300)},
		{"boolean", "true", true}, {"boolean", "false", false},
		{"double precision", "1e300", 1e300}, {"double precision", "-0.25", &real}, {"double precision", "", (*float64)(nil)},
		{"double precision", "-Infinity", math.Inf(-1)}, {"double precision", "NaN", math.NaN()},
		{"text", "été\n", "été\n"}, {"text", "it's", &text}, {"text", "", (*string)(nil)}, {`"char"`, "C", "C"},
		{"bytea", `\x00ff`, []byte{0, 255}}, {"bytea", "", []byte(nil)},
		{"jsonb", `{"a": [1.10, "é"]}`, jsonText(`{"a":[1.10,"é"]}`)},
		{"timestamptz", "1969-12-31 23:59:59.999999Z", at}, {"timestamptz", "2026-11-29 12:00:00.001Z", time.Date(2026, 11, 29, 12, 0, 0, 1e6, time.UTC)},
		{"timestamptz", "-infinity", timestamp(beginningOfTime)}, {"timestamptz", "infinity", timestamp(endOfTime)},
		{"timestamptz", "4712-01-01 00:00:00Z BC", timestamp(openStart)}, {"timestamptz", "", pgtype.Timestamptz{}},
		{"bigint[]", "{1,-1}", []int64{1, -1}}, {"bigint[]", "{}", []int64{}}, {"bigint[]", "", []int64(nil)},
		{"smallint[]", "{5}", []int16{5}}, {"smallint[]", "", []int16(nil)}, {"text[]", `{"a,b",é}`, []string{"a,b", "é"}}, {"text[]", "", []string(nil)},
		{"tsvector", "'1':4A 'a':3A 'b':2A,8 'x':16000", wordsText("'1':4A 'a':3A 'b':2A,8 'x':16000")},
		{"tsvector", "'1':5A 'a':4A 'b':3A,9 'ete':1A,2A", wordsText(words.text())},
		{"numeric", "", numericText("")}, {"numeric", "Infinity", numericText("Infinity")}, {"numeric", "-Infinity", numericText("-Infinity")},
	}
	for _, literal := range []string{"0", "-0", "0.00", "1", "-1.10", "10000", "99999999", "0.0001", "0.00010", "-0.00001", "12345678.000100", "1e2", "1E+2", "-1.25e-7",
		"1.5e3", "0e10", "100e-2", "123456789012345678901234567890.12345678901234567890", "00012.5", "1e1000", "1e-1000", "7.0"} {
		cases = append(cases, struct {
			typ, literal string
			value        any
		}{"numeric", literal, numericText(literal)})
	}
	for _, c := range cases {
		if _, err := conn.Exec(ctx, "CREATE TABLE public.copied (at integer, value "+c.typ+")"); err != nil {
			t.Fatal(err)
		}
		rows := tableRows{table: "copied", columns: []string{"at", "value"}}
		rows.add(int32(1), c.value)
		rows.add(int32(2), c.value)
		if err := copyAll(ctx, conn, &rows); err != nil {
			t.Errorf("%s %s: %v", c.typ, c.literal, err)
		}
		equal := "value::text = $1::text::" + c.typ + "::text" // the text tells 1.10 from 1.1
		if c.literal == "" {
			equal = "value IS NULL AND $1::text = ''"
		}
		var n int
		var got *string
		if err := conn.QueryRow(ctx, "SELECT count(*) FILTER (WHERE "+equal+"), min(value::text) FROM public.copied", c.literal).Scan(&n, &got); err != nil || n != 2 {
			t.Errorf("%s %s: %d of 2 rows are as they were sent, %v: %v", c.typ, c.literal, n, err, show(got))
		}
		if _, err := conn.Exec(ctx, "DROP TABLE public.copied"); err != nil {
			t.Fatal(err)
		}
	}
	// PostgreSQL refuses these, which no other row must suffer from.
	for _, literal := range []string{"1e131073", "1e-16384", "1e99999999999999999999", "x", "-", "1.2.3", "."} {
		if got := appendNumeric(nil, literal); !strings.HasPrefix(string(got), "\x00\x00\x00\x00\xc0\x00") {
			t.Errorf("%s is written as %x", literal, got)
		}
	}
}

func show(s *string) string {
	if s == nil {
		return "NULL"
	}
	return *s
}

// TestNodeDigest_is_that_of_chains_written_before compares digests with what they have always been made of.
func TestNodeDigest_is_that_of_chains_written_before(t *testing.T) {
	t.Parallel()
	var write func(b *strings.Builder, n *fhir.Node)
	write = func(b *strings.Builder, n *fhir.Node) {
		kids := slices.Clone(n.Kids)
		if n.Kind == fhir.Object {
			slices.SortFunc(kids, func(x, y fhir.Node) int { return strings.Compare(x.Name, y.Name) })
		}
		fmt.Fprintf(b, "%d %d %q %q\n", n.Kind, len(kids), n.Name, n.Text)
		for i := range kids {
			write(b, &kids[i])
		}
	}
	made := fhir.Obj(fhir.Str("z").As("b"), fhir.Arr(fhir.Str("é\n\"\u2028").As("unused"), fhir.Obj(fhir.Boolean(true).As("é"), fhir.Str("").As("")), fhir.Arr()).As("a"),
		fhir.Num("1.10").As("c"))
	for i := range 40 { // more than fit on the stack
		made.Set(fmt.Sprint("m", i*7%40), fhir.Str(fmt.Sprint(i)))
	}
	for _, n := range []fhir.Node{made, fhir.Obj(), fhir.Str("x")} {
		parsed, err := fhir.ParseJSON([]byte(`{"x":` + string(n.JSON()) + `}`))
		if err != nil {
			t.Fatal(err)
		}
		read := *parsed.Get("x")
		read.Name = ""
		var b strings.Builder
		write(&b, &read)
		if want := sha256.Sum256([]byte(b.String())); string(nodeDigest(&n)) != string(want[:]) {
			t.Errorf("%s has another digest", n.JSON())
		}
	}
}
