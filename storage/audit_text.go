package storage

import (
	"fmt"
	"strconv"
	"strings"
	"time"

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

// auditLines are entries on their way into the database, a line each: the time in microseconds since 1970, a space and the
// JSON. So they stand in the files of the journal, and, many together, in a row of audit_entry.
type auditLines struct {
	text    []byte
	rows    []auditRow
	entries int
}

// auditRow is one row of audit_entry that becomes of lines.
type auditRow struct {
	begin    int       // where its text begins
	recorded time.Time // of its first entry
	entries  int32
}

// A row takes no more entries once it has maxAuditLines of them, or is as long as maxAuditText.
const (
	maxAuditLines = 1000
	maxAuditText  = 1 << 20
)

// add adds entries.
func (l *auditLines) add(list []AuditEntry) {
	begin := l.write(list)
	l.note(begin, list[0].Recorded, len(list))
}

// append adds the lines of others.
func (l *auditLines) append(more *auditLines) {
	begin := len(l.text)
	l.text = append(l.text, more.text...)
	for _, r := range more.rows {
		l.note(begin+r.begin, r.recorded, int(r.entries))
	}
}

// write adds the lines of entries, and no more; note must follow, or text be cut to begin.
func (l *auditLines) write(list []AuditEntry) (begin int) {
	begin = len(l.text)
	for i := range list {
		l.text = append(strconv.AppendInt(l.text, list[i].Recorded.UnixMicro(), 10), ' ')
		l.text = append(list[i].appendTo(l.text), '\n')
	}
	return begin
}

// note says which row the lines from begin on are of.
func (l *auditLines) note(begin int, recorded time.Time, entries int) {
	last := len(l.rows) - 1
	if last < 0 || l.rows[last].entries >= maxAuditLines || begin-l.rows[last].begin >= maxAuditText {
		l.rows, last = append(l.rows, auditRow{begin: begin, recorded: recorded}), last+1
	}
	l.rows[last].entries += int32(entries)
	l.entries += entries
}

// columns are the rows as arguments of sqlAudit: a row of one entry is its JSON alone.
func (l *auditLines) columns() []any {
	times, texts, counts := make([]time.Time, len(l.rows)), make([]string, len(l.rows)), make([]int32, len(l.rows))
	end := len(l.text)
	for i := len(l.rows) - 1; i >= 0; i-- {
		r := &l.rows[i]
		times[i], texts[i], counts[i] = r.recorded, string(l.text[r.begin:end]), r.entries
		if end = r.begin; r.entries == 1 {
			_, texts[i], _ = strings.Cut(strings.TrimSuffix(texts[i], "\n"), " ")
		}
	}
	return []any{times, texts, counts}
}

// reset empties l and keeps its memory, unless it is much.
func (l *auditLines) reset() {
	if *l = (auditLines{text: l.text[:0], rows: l.rows[:0]}); cap(l.text) > maxAuditText {
		l.text = nil
	}
}

// parseAuditLine takes a line apart, without its end.
func parseAuditLine(line string) (recorded time.Time, entry string, err error) {
	stamp, entry, _ := strings.Cut(line, " ")
	at, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return time.Time{}, "", fmt.Errorf("storage: a line is no entry of the audit log")
	}
	return time.UnixMicro(at).UTC(), entry, nil
}
