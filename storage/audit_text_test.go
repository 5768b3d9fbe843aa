package storage

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// An entry is written as encoding/json would write it, whatever is in it.
func TestAuditEntry_is_written_by_its_tags(t *testing.T) {
	t.Parallel()
	made := rapid.Custom(func(t *rapid.T) (e AuditEntry) {
		fill(t, reflect.ValueOf(&e).Elem())
		return e
	})
	rapid.Check(t, func(t *rapid.T) {
		e := made.Draw(t, "entry")
		var want bytes.Buffer
		plain := json.NewEncoder(&want)
		plain.SetEscapeHTML(false)
		if err := plain.Encode(e); err != nil {
			t.Fatal(err)
		}
		got := e.appendTo(nil)
		var read, plainly AuditEntry
		if err := json.Unmarshal(got, &read); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		if err := json.Unmarshal(want.Bytes(), &plainly); err != nil || !reflect.DeepEqual(read, plainly) {
			t.Fatalf("%v\n%s\n%s", err, got, want.Bytes())
		}
	})
}

// fill sets fields of all kinds that an entry has, or leaves them empty.
func fill(t *rapid.T, v reflect.Value) {
	if _, is := v.Interface().(time.Time); is || rapid.Bool().Draw(t, "empty") {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(string(rapid.SliceOf(rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte("\x00\n\"\\\\<\u2028é")))).Draw(t, "text")))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "number"))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 3).Draw(t, "length"), 3))
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	default:
		t.Fatalf("an entry has a %s", v.Kind())
	}
}

// What goes into rows comes out of them: the entries in their order, with their times, none in more rows than needed.
func TestAuditLines_make_rows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var l auditLines
		var want []string
		for range rapid.IntRange(1, 4).Draw(t, "requests") {
			list := make([]AuditEntry, rapid.SampledFrom([]int{1, 2, maxAuditLines - 1, maxAuditLines}).Draw(t, "entries"))
			for i := range list {
				list[i] = AuditEntry{Recorded: time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(t, "time")), Act: "read\n", Name: "n"}
				want = append(want, list[i].Recorded.UTC().String()+list[i].Text())
			}
			var one auditLines
			one.add(list)
			if l.append(&one); rapid.Bool().Draw(t, "again") {
				l.reset()
				want = nil
			}
		}
		columns := l.columns()
		times, texts, counts := columns[0].([]time.Time), columns[1].([]string), columns[2].([]int32)
		var got []string
		for i, text := range texts {
			lines := &counts[i]
			if *lines == 1 {
				lines = nil
			}
			at, entries := entriesOfRow(times[i], text, lines)
			for k := range entries {
				got = append(got, at[k].UTC().String()+entries[k])
			}
			if len(entries) != int(counts[i]) || len(entries) >= 2*maxAuditLines || i < len(texts)-1 && len(entries) < maxAuditLines {
				t.Fatalf("row %d of %d has %d entries, and tells %d", i, len(texts), len(entries), counts[i])
			}
		}
		if !slices.Equal(got, want) || l.entries != len(want) {
			t.Fatalf("got %d entries, want %d\n%.200q\n%.200q", len(got), len(want), got, want)
		}
	})
}

func BenchmarkAuditEntry(b *testing.B) {
	e := AuditEntry{Recorded: time.Now(), Act: "read", Name: "trial", Address: "127.0.0.1", Request: "d139d716e76868f0",
		Target: "Observation/01a22e2e-b290-7dbb-bf16-5322e5a40583", Version: 1, Compartments: []int64{-2116720601058504662}}
	b.Run("written", func(b *testing.B) {
		b.ReportAllocs()
		var text []byte
		for b.Loop() {
			text = e.appendTo(text[:0])
		}
	})
	b.Run("by_its_tags", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(&e); err != nil {
				b.Fatal(err)
			}
		}
	})
}
