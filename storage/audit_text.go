package storage

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Text is the entry as it is written.
func (e *AuditEntry) Text() string { return string(e.appendTo(nil)) }

// appendTo writes the entry as JSON. Each read has one: by its tags, encoding/json would take three times as long.
func (e *AuditEntry) appendTo(b []byte) []byte {
	b = appendString(append(b, `{"a":`...), e.Act)
	for _, m := range [...]textMember{{"o", e.Operation}, {"w", e.Within}, {"x", e.Outcome}, {"d", e.Detail}, {"u", e.User}, {"n", e.Name}, {"f", e.FHIRUser}} {
		b = m.appendTo(b)
	}
	b = appendStrings(b, "r", e.Roles)
	for _, m := range [...]textMember{{"c", e.Client}, {"t", e.Token}, {"i", e.Address}, {"p", e.Purpose}, {"y", e.Reason}, {"q", e.Request}, {"e", e.Type}, {"g", e.Target}} {
		b = m.appendTo(b)
	}
	if e.Version != 0 {
		b = strconv.AppendInt(append(b, `,"v":`...), int64(e.Version), 10)
	}
	b = textMember{"s", e.Query}.appendTo(b)
	for i, rk := range e.Compartments {
		b = strconv.AppendInt(append(b, beforeItem("k", i)...), rk, 10)
	}
	if len(e.Compartments) > 0 {
		b = append(b, ']')
	}
	b = appendStrings(b, "m", e.Patients)
	for i := range e.Written {
		w := &e.Written[i]
		b = appendString(append(append(b, beforeItem("z", i)...), `{"a":`...), w.Activity)
		b = append(textMember{"y", w.Reason}.appendTo(appendStrings(b, "g", w.Targets)), '}')
	}
	if len(e.Written) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

// textMember is one of a JSON object, left out where it is empty.
type textMember struct{ name, text string }

func (m textMember) appendTo(b []byte) []byte {
	if m.text == "" {
		return b
	}
	return appendString(append(append(append(b, `,"`...), m.name...), `":`...), m.text)
}

func appendStrings(b []byte, name string, list []string) []byte {
	for i, text := range list {
		b = appendString(append(b, beforeItem(name, i)...), text)
	}
	if len(list) > 0 {
		b = append(b, ']')
	}
	return b
}

// beforeItem is what stands before the i-th of a list that is the member name.
func beforeItem(name string, i int) string {
	if i > 0 {
		return ","
	}
	return `,"` + name + `":[`
}

func appendString(b []byte, text string) []byte {
	b, _ = jsontext.AppendQuote(b, text) // what is no UTF-8 becomes U+FFFD, which is what the error says
	return b
}
