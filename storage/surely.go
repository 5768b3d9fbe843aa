package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// surely is a way to read one resource that the caller surely sees, in one statement with the proof of the token, without the settings
// that the views of the rule are told and without the whole rule: to say who asks, and to make ready its expressions, cost more than to find
// the row. The statement is fixed, cannot be run without saying for whom, and gives beside the version what speaks for showing it; the
// version is shown where that is enough (shows). So it is decided twice, by the statement and by what it found, and either alone lets
// through no more than the rule. Whoever has no such way to a type, and whatever it does not show, goes through the rule.
type surely struct {
	sql string
	// reason is why the caller sees what the statement finds.
	reason reason
	// barred are the labels that hide a resource from the caller.
	barred int32
	// opened are the records that the caller opens, or that in context.
	opened []int64
	// treating is the practitioner who asks.
	treating int64
	// told are the arguments of the statement that are the same for every resource: all of the above.
	told []any
}

// reason is why a caller surely sees a resource.
type reason int

const (
	lawful    reason = iota + 1 // everything of the type is visible, but for labels
	shared                      // it belongs to nobody
	own                         // it lies in a record that the caller opens
	treated                     // the caller treats the first patient of it, and none of it has a Consent
	inContext                   // the same, and it lies in the record in context
	permitted                   // nobody of it has a Consent
)

// What a statement finds before the version: the labels, and, where the reason asks for it, the practitioner and the patient of a treatment, and
// whether it is known that nobody of the resource has a Consent.
const (
	labelsWidth  = 1
	careWidth    = 3
	groundsWidth = 4
)

// sqlSurely gives a row where the token holds and there is something to show.
func sqlSurely(grounds, joined, condition string) string {
	return surelyColumns(grounds) + `
FROM oauth_token t JOIN resource r ON r.rk = $3 AND r.type = $4 AND r.id = $5` + joined + `
WHERE t.hash = $1 AND t.kind = 'A' AND t.expires > $2` + condition
}

// sqlSurelyOpened is sqlSurely for who treats: a row of opened says that the token holds, that the caller treats the patient and that the patient
// has no Consent (migrations/0261_opened.sql). The planner is kept by LIMIT from reading all that the token opens.
func sqlSurelyOpened(condition string) string {
	return surelyColumns(careGrounds) + `
FROM resource r JOIN LATERAL (SELECT k.actor, k.patient FROM opened k
  WHERE k.token = $1 AND k.patient = r.compartments[1] AND k.actor = $7 AND k.expires > $2 AND k.until > now() LIMIT 1) k ON true
WHERE r.rk = $3 AND r.type = $4 AND r.id = $5` + unbarred + ` AND cardinality(r.compartments) = 1` + condition
}

func surelyColumns(grounds string) string {
	return `
SELECT r.labels` + grounds + `, r.type, r.id, r.version, r.last_updated, r.method, r.content, r.literal, r.compartments`
}

const (
	unbarred    = ` AND r.labels & $6 = 0`
	joinConsent = ` LEFT JOIN LATERAL (SELECT true AS known FROM consent_rule c WHERE c.patient = ANY(r.compartments) LIMIT 1) c ON true`
	noConsent   = ` AND r.compartments IS NOT NULL AND c.known IS NULL`

	noGrounds      = ``
	consentGrounds = `, NULL::bigint, NULL::bigint, c.known IS NULL`
	careGrounds    = `, k.actor, k.patient`
)

var sqlSurelyFor = map[reason]string{
	lawful:    sqlSurely(noGrounds, "", unbarred),
	shared:    sqlSurely(noGrounds, "", unbarred+" AND r.compartments = '{}'"),
	own:       sqlSurely(noGrounds, "", unbarred+" AND r.compartments && $7"),
	treated:   sqlSurelyOpened(""),
	inContext: sqlSurelyOpened(" AND r.compartments && $8"),
	permitted: sqlSurely(consentGrounds, joinConsent, unbarred+noConsent),
}

// sqlSurelyOfOne are those for who opens one record.
var sqlSurelyOfOne = map[reason]string{
	own:       sqlSurely(noGrounds, "", unbarred+" AND $7 = ANY(r.compartments)"),
	inContext: sqlSurelyOpened(" AND $8 = ANY(r.compartments)"),
}

// surelyAll reads for a backend system from which nothing is hidden. There is a row where the token holds, with a version or with NULL.
var surelyAll = &surely{reason: lawful, sql: surelyColumns(noGrounds) + `
FROM oauth_token t LEFT JOIN resource r ON r.rk = $3 AND r.type = $4 AND r.id = $5 WHERE t.hash = $1 AND t.kind = 'A' AND t.expires > $2`}

// surelyWays finds the ways by the bytes of ways, which say what there is of a type: see visible.rule. For whom it is, what shows asks is
// enough for the rule.
func (a *Access) surelyWays(narrow []byte) map[byte]*surely {
	list := map[byte]*surely{}
	if len(a.proxies) > 0 || bytes.IndexByte(narrow, 'n') >= 0 || a.consent != "off" && a.consent != "permit" {
		return list // what takes more than one look
	}
	for _, way := range a.ways {
		if list[way] != nil {
			continue
		}
		none, patients, others := way>>inNone&3, way>>inPatients&3, way>>inOthers&3
		all := none == reachAll && patients == reachAll && others == reachAll
		w := surely{barred: ^a.clearance}
		if len(a.self) == 1 {
			w.treating = a.self[0]
		}
		switch {
		case a.record != nil && patients == reachAll && slices.Equal(a.patients, a.record):
			w.reason, w.barred, w.opened = own, a.withheld, a.record
		case none == reachAll && patients == 0 && others == 0:
			w.reason = shared
		case a.record != nil: // what is not of it follows other rules than what is
			continue
		case all && a.consent == "permit":
			w.reason = permitted
		case all:
			w.reason = lawful
		case len(a.self) == 1 && patients == reachTreated && others == reachTreated:
			w.reason = treated
		case len(a.self) == 1 && patients == reachTreated && others == 0 && a.patients != nil:
			w.reason, w.opened = inContext, a.patients
		default:
			continue
		}
		w.tell()
		list[way] = &w
	}
	return list
}

// tell completes a way with its statement, and what it is told of the caller. A record is mostly one patient's, and then a number.
func (w *surely) tell() {
	w.sql, w.told = sqlSurelyFor[w.reason], []any{w.barred}
	switch w.reason {
	case own:
	case treated:
		w.told = append(w.told, w.treating)
		return
	case inContext:
		w.told = append(w.told, w.treating)
	default:
		return
	}
	if len(w.opened) == 1 {
		w.sql, w.told = sqlSurelyOfOne[w.reason], append(w.told, w.opened[0])
	} else {
		w.told = append(w.told, w.opened)
	}
}

// surelyReads is the way to one resource of a type; nil where there is none but through the rule.
func (r *runner) surelyReads(typ int16) *surely {
	switch {
	case r.caller && r.access.everything:
		return surelyAll
	case int(typ) < len(r.access.ways):
		return r.access.surely[r.access.ways[typ]]
	}
	return nil
}

// grounds are what speaks for showing a resource.
type grounds struct {
	labels         int32
	actor, patient int64 // of a treatment; 0 for none
	free           bool  // nobody of it has a Consent
}

// shows says whether the grounds are enough to show a version. It does not trust the statement to have asked.
func (w *surely) shows(g grounds, v *Version) bool {
	inRecord := slices.ContainsFunc(v.Compartments, func(rk int64) bool { return slices.Contains(w.opened, rk) })
	inCare := w.treating != 0 && g.actor == w.treating && len(v.Compartments) == 1 && v.Compartments[0] == g.patient
	switch {
	case g.labels&w.barred != 0:
		return false
	case w.reason == lawful:
		return true
	case w.reason == shared:
		return v.Compartments != nil && len(v.Compartments) == 0
	case w.reason == own:
		return inRecord
	case w.reason == treated:
		return inCare
	case w.reason == inContext:
		return inCare && inRecord
	case w.reason == permitted:
		return v.Compartments != nil && g.free
	}
	return false
}

// scanGrounds reads a row of such a statement: a version behind the grounds, or none where there is nothing of it.
func scanGrounds(rows pgx.Rows) (v *Version, g grounds, err error) {
	raw, fields := rows.RawValues(), rows.FieldDescriptions()
	width := len(raw) - versionWidth
	if width != labelsWidth && width != careWidth && width != groundsWidth {
		return nil, g, fmt.Errorf("storage: %d columns, which are no version with grounds", len(raw))
	}
	if raw[width] == nil {
		return nil, g, nil
	}
	var numbers [groundsWidth - 1]int64
	for i := range min(width, len(numbers)) {
		switch {
		case raw[i] == nil:
		case fields[i].Format != pgx.BinaryFormatCode:
			numbers[i], err = strconv.ParseInt(string(raw[i]), 10, 64)
		case len(raw[i]) == 4:
			numbers[i] = int64(int32(binary.BigEndian.Uint32(raw[i])))
		default:
			numbers[i] = int64(binary.BigEndian.Uint64(raw[i]))
		}
		if err != nil {
			return nil, g, err
		}
	}
	g = grounds{labels: int32(numbers[0]), actor: numbers[1], patient: numbers[2], free: width == groundsWidth && isTrue(raw[groundsWidth-1])}
	v, err = versionBehind(rows, width)
	return v, g, err
}

// surely reads a version that the caller surely sees. Where there is none, known says that there is none at all; else the rule has to be asked.
//
// Errors: Unauthenticated.
func (r *runner) surely(ctx context.Context, p *Proof, w *surely, rk int64, typ, id string) (v *Version, known bool, err error) {
	args := append(append(make([]any, 0, 8), p.hash, p.now, rk, typ, id), w.told...)
	rows, err := reader{r.store.pool}.Query(ctx, w.sql, args...)
	if err != nil {
		return nil, false, translate(err)
	}
	defer rows.Close()
	holds := false
	for rows.Next() {
		holds = true
		found, g, err := scanGrounds(rows)
		if err != nil {
			return nil, false, err
		}
		if found != nil && w.shows(g, found) {
			v = found
		}
	}
	if err := rows.Err(); err != nil {
		return nil, false, translate(err)
	}
	if w == surelyAll {
		return v, true, p.settle(holds)
	}
	if v == nil {
		return nil, false, nil
	}
	return v, true, p.settle(true)
}
