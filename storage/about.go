package storage

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Searches that name patients, and whoever searches the own record, look at few rows beyond those records. Such a statement reads the
// views of migrations/0170_about_patients.sql: they show what the rule shows, and find it out of most rows by the row alone.

// What kiln.plain has of a type: the caller sees what lies in the records that a request is about, as far as labels let, and what belongs to
// nobody.
const (
	plainRecord = 1
	plainShared = 2
)

// plainTypes finds for each type what is plain of it. ok is false where nothing is: where more is to be weighed of each row.
func (a *Access) plainTypes(narrow []byte) (plain []byte, ok bool) {
	if len(a.proxies) > 0 || a.consent != "permit" && a.consent != "off" {
		return nil, false
	}
	if a.record == nil && !a.asksAbout() || a.record != nil && !slices.Equal(a.patients, a.record) {
		return nil, false
	}
	plain = make([]byte, len(a.ways))
	for n, way := range a.ways {
		if n > 0 && n <= len(narrow) && narrow[n-1] == 'n' {
			continue
		}
		none, patients, others := way>>inNone&3, way>>inPatients&3, way>>inOthers&3
		if none == reachAll {
			plain[n] |= plainShared
		}
		reach := others
		if a.patients != nil { // the record that is open, or the one in context
			reach = patients
		}
		if reach == reachAll || reach == reachTreated && a.record == nil && a.self != nil { // kiln.clear are those in treatment
			plain[n] |= plainRecord
		}
	}
	return plain, bytes.IndexByte(plain, plainRecord) >= 0 || bytes.IndexByte(plain, plainRecord|plainShared) >= 0
}

// plainSettings are what the views are told beside all that the rule asks.
func (a *Access) plainSettings(narrow []byte) {
	plain, ok := a.plainTypes(narrow)
	if !ok {
		return
	}
	barred := ^a.clearance
	a.plain = []setting{{"kiln.plain", `\x` + hex.EncodeToString(plain)}}
	a.plainly.types = plain
	if a.record != nil {
		barred, a.plainly.open = a.withheld, a.record
		a.plain = append(a.plain, setting{"kiln.open", arrayText(a.record)})
	}
	a.plain, a.plainly.barred = append(a.plain, setting{"kiln.barred", decimal(barred)}), barred
}

// setting is one that the views read.
type setting struct{ name, value string }

// plainly says whether a statement may read these views: it looks at few rows but those of the records that the request is about.
func (r *runner) plainly() bool {
	a := r.access
	if r.tx != nil || a.everything || len(a.plain) == 0 || a.record == nil && len(r.about) == 0 {
		return false
	}
	return a.patients == nil || !slices.ContainsFunc(r.about, func(rk int64) bool { return !slices.Contains(a.patients, rk) })
}

// ofAbout makes a statement read these views.
var ofAbout = strings.NewReplacer("FROM search_index ", "FROM about_index ", "JOIN search_index ", "JOIN about_index ",
	"FROM resource ", "FROM about_resource ", "JOIN resource ", "JOIN about_resource ")

// nearby is a statement through these views; "" where it looks at more, which may be anybody's.
func (t *textCache) nearby(sql string) string {
	return t.of("about", sql, func() string {
		if strings.Count(sql, "search_index ") > 1 {
			return ""
		}
		return ofAbout.Replace(sql)
	})
}

// textCache keeps statements that are made of others: the same are made again and again, and each is some kB.
type textCache struct {
	mu   sync.RWMutex
	made map[[2]string]string
}

// maxTexts bounds a textCache, which then begins anew: what clients can ask for has no end of forms.
const maxTexts = 500

// of is what make makes of a statement, for a purpose.
func (t *textCache) of(purpose, sql string, make func() string) string {
	key := [2]string{purpose, sql}
	t.mu.RLock()
	text, known := t.made[key]
	t.mu.RUnlock()
	if known {
		return text
	}
	text = make()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.made == nil || len(t.made) >= maxTexts {
		t.made = map[[2]string]string{}
	}
	t.made[key] = text
	return text
}

// closely runs a statement through these views, near, or as sql where there is none, or where the caller does not treat one of the patients
// or one has Consents: then the whole rule would be asked of each row. clear says that it ran through them.
func (r *runner) closely(ctx context.Context, read func(pgx.Rows) error, near, sql string, args ...any) (clear bool, err error) {
	if near != "" && r.plainly() {
		if clear, err := r.atOnce(ctx, read, near, args); clear || err != nil {
			return clear, err
		}
	}
	return false, r.rows(ctx, read, sql, args...)
}

// atOnce runs a statement in one with who asks, the proof of the token and the question what is withheld: see declaration.before. The first
// column of its rows is never NULL. Where not all of the patients are clear, or the token does not hold, it is not run.
//
// Errors: Unauthenticated.
func (r *runner) atOnce(ctx context.Context, read func(pgx.Rows) error, sql string, args []any) (clear bool, err error) {
	p, proves := toProve(ctx)
	w := questionOf(ctx, r.access)
	d := r.says(proves, true, w != nil)
	condition := "d.said > 0"
	columns := 1
	if d.clears {
		condition += " AND d.clear"
		columns++
	}
	if proves {
		condition += " AND d.holds"
		d.args[0], d.args[1] = p.hash, p.now
		columns++
	}
	if w != nil {
		d.args[d.question] = w.patient
		columns++
	}
	// The condition stands within the subquery, and OFFSET 0 keeps it there: so it is looked at before the statement, and that after d. Beside
	// the join it would only throw away what the statement has found.
	text := r.store.texts.of(d.sql, sql, func() string {
		return "SELECT d.*, r.* FROM (" + d.sql + " OFFSET 0) d LEFT JOIN LATERAL (SELECT r.* FROM (" + shifted(sql, len(d.args)) + ") r WHERE " + condition + " OFFSET 0) r ON true"
	})
	rows, err := reader{r.store.guarded}.Query(ctx, text, append(d.args, args...)...)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	said := &saidRows{Rows: rows, columns: columns}
	if err := read(said); err != nil {
		return false, err
	}
	for said.first == nil && rows.Next() { // whatever was read of it
		said.note()
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return false, err
	}
	first := said.first
	if first == nil {
		return false, errors.New("storage: a declaration without a row")
	}
	if proves {
		if err := p.settle(first[0]); err != nil {
			return false, err
		}
	}
	if clear = true; d.clears {
		clear, first = first[columns-1], first[:columns-1]
	}
	if w != nil {
		w.is.Store(first[len(first)-1])
		w.answered.Store(true)
	}
	return clear, nil
}

// saidRows are the rows of a statement behind the columns of a declaration.
type saidRows struct {
	pgx.Rows
	columns int
	// first are these columns, as far as they are yes or no; nil before a row was read.
	first []bool
	dest  []any // where Scan puts the columns: none of these, and then what it is given
}

func (s *saidRows) note() {
	s.first = make([]bool, s.columns)
	for i, raw := range s.Rows.RawValues()[:s.columns] {
		s.first[i] = isTrue(raw)
	}
}

// isTrue reads a boolean in either form of PostgreSQL's.
func isTrue(raw []byte) bool { return len(raw) == 1 && (raw[0] == 1 || raw[0] == 't') }

func (s *saidRows) Next() bool {
	for s.Rows.Next() {
		if s.first == nil {
			s.note()
		}
		if s.Rows.RawValues()[s.columns] != nil {
			return true
		}
	}
	return false
}

func (s *saidRows) Scan(dest ...any) error {
	if s.dest == nil {
		s.dest = make([]any, s.columns, s.columns+len(dest))
	}
	return s.Rows.Scan(append(s.dest, dest...)...)
}

func (s *saidRows) Values() ([]any, error) {
	values, err := s.Rows.Values()
	return values[min(s.columns, len(values)):], err
}

func (s *saidRows) RawValues() [][]byte { return s.Rows.RawValues()[s.columns:] }

func (s *saidRows) FieldDescriptions() []pgconn.FieldDescription {
	return s.Rows.FieldDescriptions()[s.columns:]
}
