package server

import (
	"strings"
	"unicode/utf8"

	"kiln/auth"
	"kiln/fhir"
)

// How long the reason in X-Break-Glass is, in characters.
const minReason, maxReason = 5, 2000

// breakGlass reads the header X-Break-Glass: BTG; reason="…", or ETREAT. nil where there is none.
func (x *exchange) breakGlass() (*auth.BreakGlass, error) {
	h := x.r.Header["X-Break-Glass"]
	if len(h) == 0 {
		return nil, nil
	}
	purpose, rest, _ := strings.Cut(h[0], ";")
	name, value, _ := strings.Cut(rest, "=")
	reason, ok := quotedString(strings.TrimSpace(value))
	purpose, reason = strings.ToUpper(strings.TrimSpace(purpose)), strings.TrimSpace(reason)
	n := utf8.RuneCountInString(reason)
	if len(h) > 1 || purpose != "BTG" && purpose != "ETREAT" || !strings.EqualFold(strings.TrimSpace(name), "reason") ||
		!ok || !utf8.ValidString(reason) || n < minReason || n > maxReason {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue,
			`X-Break-Glass must be BTG or ETREAT with a reason of 5 to 2000 characters, such as BTG; reason="unconscious, no relatives"`).Coded("bad-header")
	}
	return &auth.BreakGlass{Purpose: purpose, Reason: reason}, nil
}

// quotedString reads a quoted-string of RFC 9110, and nothing behind it.
func quotedString(s string) (text string, ok bool) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return "", false
	}
	var b strings.Builder
	inside := s[1 : len(s)-1]
	for i := 0; i < len(inside); i++ {
		switch c := inside[i]; {
		case c == '"' || c < ' ' && c != '\t' || c == 0x7f:
			return "", false
		case c == '\\':
			if i++; i == len(inside) {
				return "", false
			}
			b.WriteByte(inside[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), true
}
