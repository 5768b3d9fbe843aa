package storage

import (
	"bytes"
	"encoding/json"
	"reflect"
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
