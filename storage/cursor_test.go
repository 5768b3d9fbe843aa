package storage

import (
	"strings"
	"testing"
)

func TestCursor(t *testing.T) {
	t.Parallel()
	s := &Store{cursor: []byte("0123456789abcdef0123456789abcdef")}
	other := &Store{cursor: []byte("x123456789abcdef0123456789abcdef")}
	token := s.Seal("history", []byte("page 2"))
	if got, ok := s.Open("history", token); !ok || string(got) != "page 2" {
		t.Fatalf("Open = %q, %v", got, ok)
	}
	if token == s.Seal("history", []byte("page 2")) {
		t.Error("two tokens of one payload are the same")
	}
	if _, ok := s.Open("search", token); ok {
		t.Error("a token opens under another purpose")
	}
	if _, ok := other.Open("history", token); ok {
		t.Error("a token opens under another key")
	}
	for i := range token {
		changed := token[:i] + string(rune('A'+(strings.IndexByte("ABCDEFGH", token[i])+1)%8)) + token[i+1:]
		if _, ok := s.Open("history", changed); ok && changed != token {
			t.Fatalf("a token with another character at %d opens", i)
		}
	}
	for _, bad := range []string{"", "A", "!!", token[:10], token + "A", strings.Repeat("A", 200)} {
		if _, ok := s.Open("history", bad); ok {
			t.Errorf("%q opens", bad)
		}
	}
}
