package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A search of one record whose conditions look at nothing but the rows that it shows is read without the views, too: to say who asks and to make
// ready their expressions costs more than a user's first page. Nothing that the caller may see is left out by such a statement. It tells of each row what speaks for
// showing it, and of the patient what speaks for opening the record, and all of it is weighed twice, by PostgreSQL and here (plainGrounds.shows).
// Where a row is not surely visible, or the record not surely open, nothing of the answer is used, and the views are asked. What they show is
// the same where it is: a page of rows all of which are visible is the page of the visible rows.

// evidenceWidth is how many columns tell of a row: whether PostgreSQL finds it plain, and its labels.
const evidenceWidth = 2

// Places of what is known of the caller in a statement with evidence.
const (
	placeOpen   = "{open}"
	placeTypes  = "{types}"
	placeBarred = "{barred}"
)

// evidence are the columns that tell of a row x of a table that has compartments and labels, whose number of its type is typ.
func evidence(x, typ string) string {
	x += "."
	return x + "compartments <@ " + placeOpen + "::bigint[] AND get_byte(" + placeTypes + "::bytea, " + x + typ + ") & CASE WHEN " + x + "compartments = '{}' THEN 2 ELSE 1 END <> 0 AND (" +
		x + "labels = 0 OR " + x + "compartments <> '{}' AND " + x + "labels & " + placeBarred + "::integer = 0), " + x + "labels"
}

// inOpen is the condition that a row x lies in the records that are open. Of what a caller sees there alone, it keeps all that is seen. A statement
// of a search that asks for something else, such as an id or whom a visit is with, would read what others have that matches, find it hidden,
// and be asked again: so it would cost twice as much where others have something, and tell that by the time it takes.
func inOpen(x string) string { return x + ".compartments && " + placeOpen + "::bigint[]" }

// weighable says whether conditions look at the row alone, and so tell nothing of others.
func weighable(where string) bool { return !strings.Contains(where, "SELECT") }

// withEvidence is a statement, which begins with SELECT, with evidence of the rows x.
func withEvidence(sql, x, typ string) string {
	return "SELECT " + evidence(x, typ) + ", " + strings.TrimPrefix(sql, "SELECT ")
}

// listOfRecord and entryOfRecord are what visible.about_code and visible.about_entry show a part of.
const (
	listOfRecord  = "(SELECT rk, s.term, s.patient, s.date_low, r.type_number, r.labels, " + versionColumns + " FROM search_code s JOIN resource r USING (rk))" // by name: a column that comes later has its own
	entryOfRecord = "(SELECT x.*, r.type AS type_name, r.id, r.version, r.last_updated AS updated, r.method, r.content, r.literal FROM search_index x JOIN resource r USING (rk))"
)

// care is what a practitioner must have of a patient: a treatment, and no Consent, both of which a row says that is clear. Others ask for Consents.
const (
	sqlCare = `SELECT k.actor, k.patient, k.clear FROM treatment k
  WHERE k.clear AND k.actor = {self}::bigint AND k.patient = {patient}::bigint AND k.confirmed AND k.low <= now() AND k.high > now() LIMIT 1`
	sqlFree   = `(SELECT true FROM consent_rule c WHERE c.patient = {patient}::bigint LIMIT 1) IS NULL`
	sqlHidden = `EXISTS (SELECT FROM search_index i WHERE i.labels <> 0 AND i.compartments && ` + placeOpen + `::bigint[]
  AND i.labels & {uncleared}::integer <> 0 AND get_byte({ways}::bytea, i.type) & 64 <> 0)`
)

// ofRecord runs a statement in the way that costs least: with evidence, through the views of about.go, or by the rule. again is called where read
// has read rows of which nothing is used. clear says that of the patients whom r is about the rule asks no more.
func (r *runner) ofRecord(ctx context.Context, s statement, read func(pgx.Rows) error, again func()) (clear bool, err error) {
	near := s.near
	if s.weighed != "" {
		ok, views, err := r.weighed(ctx, read, s.weighed, s.args)
		if ok || err != nil {
			return ok, err
		}
		if again(); !views {
			return false, r.rows(ctx, read, s.sql, s.args...)
		}
	}
	if s.nearby {
		near = r.store.texts.nearby(s.sql)
	}
	return r.closely(ctx, read, near, s.sql, s.args...)
}

// weighs says whether a statement with evidence can be enough for this request, and of which records.
func (r *runner) weighs(ctx context.Context) (open []int64, ok bool) {
	if _, proves := toProve(ctx); !proves || !r.plainly() {
		return nil, false
	}
	a := r.access
	if a.record != nil {
		return a.plainly.open, a.plainly.open != nil && questionOf(ctx, a) == nil
	}
	if w := questionOf(ctx, a); w != nil && !slices.Equal(w.patient, r.about) {
		return nil, false
	}
	return r.about, len(r.about) == 1 && len(a.self) <= 1
}

// weighed runs a statement with evidence. ok says that read has read its rows; where it does not, views says that those
// of about.go are the next to ask, and not the rule.
//
// Errors: Unauthenticated.
func (r *runner) weighed(ctx context.Context, read func(pgx.Rows) error, sql string, args []any) (ok, views bool, err error) {
	open, ok := r.weighs(ctx)
	if !ok {
		return false, true, nil
	}
	p, _ := toProve(ctx)
	a, w := r.access, questionOf(ctx, r.access)
	treats, asks := a.record == nil && a.self != nil, a.record == nil
	said := []any{p.hash, p.now, open, a.plainly.types, a.plainly.barred}
	how := "weighed"
	if treats {
		how, said = how+" treats", append(said, a.self[0])
	}
	if asks {
		how, said = how+" asks", append(said, open[0])
	}
	if w != nil {
		how, said = how+" hidden", append(said, ^a.clearance, a.ways)
	}
	text := r.store.texts.of(how, sql, func() string {
		n := 5
		place := func() string { n++; return "$" + strconv.Itoa(n) }
		self, patient, uncleared, ways := "", "", "", ""
		actor, treated, free, hidden, join, condition := "NULL::bigint", "NULL::bigint", "true", "false", "", ""
		if treats {
			self, actor, treated, join, condition = place(), "k.actor", "k.patient", " LEFT JOIN LATERAL ("+sqlCare+") k ON true", " AND d.patient IS NOT NULL"
			free = "coalesce(k.clear, false)"
		} else if asks {
			free = sqlFree
		}
		if asks {
			patient, condition = place(), condition+" AND d.free"
		}
		if w != nil {
			uncleared, hidden, condition = place(), sqlHidden, condition+" AND NOT d.hidden"
			ways = place()
		}
		said := "SELECT t.holds, " + actor + " AS actor, " + treated + " AS patient, " + free + " AS free, " + hidden + " AS hidden FROM (SELECT EXISTS (SELECT FROM visible.access_token WHERE hash = $1 AND expires > $2) AS holds) t" + join
		return strings.NewReplacer(placeOpen, "$3", placeTypes, "$4", placeBarred, "$5", "{self}", self, "{patient}", patient, "{uncleared}", uncleared, "{ways}", ways).Replace(
			"SELECT d.*, r.* FROM (" + said + " OFFSET 0) d LEFT JOIN LATERAL (SELECT r.* FROM (" + shifted(sql, n) + ") r WHERE d.holds" + condition + " OFFSET 0) r ON true")
	})
	rows, err := reader{r.store.pool}.Query(ctx, text, append(said, args...)...)
	if err != nil {
		return false, false, err
	}
	defer rows.Close()
	found := &weighedRows{Rows: rows, of: r, open: open, treats: treats}
	if err := read(found); err != nil {
		return false, false, err
	}
	for !found.told && rows.Next() { // whatever was read of it
		found.hear()
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return false, false, err
	}
	if !found.told {
		return false, false, errors.New("storage: a search of a record without a row")
	}
	if err := p.settle(found.holds); err != nil {
		return false, false, err
	}
	if treats && !found.opens && !found.hidden {
		r.store.opens(ctx, p, a.self[0], open[0])
	}
	if found.opens && !found.doubtful && w != nil {
		w.is.Store(false)
		w.answered.Store(true)
	}
	return found.opens && !found.doubtful, found.opens || found.hidden, nil
}

// weighedRows are the rows of a statement with evidence: behind what tells of the caller and of the row.
type weighedRows struct {
	pgx.Rows
	of     *runner
	open   []int64
	treats bool
	// told says that what tells of the caller was heard: whether the token holds, and whether the record is surely open, and where
	// it is not, whether that is for something hidden.
	told, holds, opens, hidden bool
	// doubtful says that there was a row that is not surely visible. It ends the rows.
	doubtful bool
	dest     []any
	keys     []int64
}

// saidWidth is how many columns tell of the caller: whether the token holds, the practitioner and the patient of a treatment, whether there is no
// Consent, and whether a label hides something of the record.
const saidWidth = 5

func (s *weighedRows) hear() {
	raw, a := s.Rows.RawValues(), s.of.access
	s.told, s.holds, s.hidden = true, isTrue(raw[0]), isTrue(raw[4])
	s.opens = s.holds && !s.hidden && isTrue(raw[3])
	if s.treats {
		s.opens = s.opens && len(raw[1]) == 8 && len(raw[2]) == 8 && int64(binary.BigEndian.Uint64(raw[1])) == a.self[0] && slices.Contains(s.open, int64(binary.BigEndian.Uint64(raw[2])))
	}
}

func (s *weighedRows) Next() bool {
	for !s.doubtful && s.Rows.Next() {
		if !s.told {
			s.hear()
		}
		raw := s.Rows.RawValues()
		if raw[saidWidth+evidenceWidth] == nil { // nothing but what tells of the caller
			continue
		}
		if s.visible(raw) {
			return true
		}
		s.doubtful = true
	}
	return false
}

// visible says whether a row is surely visible. A version ends it, whose compartments are the last of all.
func (s *weighedRows) visible(raw [][]byte) bool {
	last := len(raw) - 1
	typ := raw[last+1-versionWidth]
	if !s.opens || s.Rows.FieldDescriptions()[last].Format != pgx.BinaryFormatCode || raw[last] == nil || len(raw[saidWidth+1]) != 4 || !isTrue(raw[saidWidth]) {
		return false
	}
	s.keys = appendKeys(s.keys[:0], raw[last])
	labels := int32(binary.BigEndian.Uint32(raw[saidWidth+1]))
	return s.of.access.plainly.shows(s.open, labels, s.of.store.Registry().TypeNumber(string(typ)), s.keys)
}

func (s *weighedRows) Scan(dest ...any) error {
	if s.dest == nil {
		s.dest = make([]any, saidWidth+evidenceWidth, saidWidth+evidenceWidth+len(dest))
	}
	return s.Rows.Scan(append(s.dest, dest...)...)
}

func (s *weighedRows) RawValues() [][]byte { return s.Rows.RawValues()[saidWidth+evidenceWidth:] }

func (s *weighedRows) FieldDescriptions() []pgconn.FieldDescription {
	return s.Rows.FieldDescriptions()[saidWidth+evidenceWidth:]
}

func (s *weighedRows) Values() ([]any, error) {
	values, err := s.Rows.Values()
	return values[min(saidWidth+evidenceWidth, len(values)):], err
}
