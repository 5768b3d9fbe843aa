package storage

import (
	"bytes"
	"context"
	"slices"
	"strconv"
)

// surely is a way to read one resource that the caller surely sees, in one statement with the proof of the token and without the whole
// rule, whose expressions cost more to make ready than the row to find: a view of migrations/0160_surely_seen.sql, which shows no more than
// the one row that it was told of. Whoever has no such way to a type, and whatever the view does not show, goes through the rule.
type surely struct {
	sql string
	// barred, opened and treating are what the view is told of the caller beside the row; "" for what it does not ask.
	barred, opened, treating string
}

// sqlSurely gives a row where the proof holds, with a version or with NULL. It is a LEFT JOIN so that who asks has been said before the
// view looks.
func sqlSurely(view, settings, typ, id string) string {
	return `
SELECT r.* FROM (SELECT set_config('kiln.row', $3, true) AS said, set_config('kiln.barred', $4, true)` + settings + `
  FROM visible.access_token WHERE hash = $1 AND expires > $2 OFFSET 0) d
LEFT JOIN LATERAL (SELECT type, id, version, last_updated, method, content, literal, compartments FROM visible.` + view + `
  WHERE type = ` + typ + ` AND id = ` + id + `) r ON d.said IS NOT NULL`
}

var (
	sqlSurelyOwn        = sqlSurely("surely_own", ", set_config('kiln.opened', $5, true)", "$6", "$7")
	sqlSurelyShared     = sqlSurely("surely_shared", "", "$5", "$6")
	sqlSurelyTreated    = sqlSurely("surely_treated", ", set_config('kiln.treating', $5, true)", "$6", "$7")
	sqlSurelyContext    = sqlSurely("surely_context", ", set_config('kiln.opened', $5, true), set_config('kiln.treating', $6, true)", "$7", "$8")
	sqlSurelyPermitted  = sqlSurely("surely_permitted", "", "$5", "$6")
	sqlSurelyEverything = sqlSurely("surely_everything", "", "$5", "$6")
)

// surelyWays finds the ways by the bytes of ways, which say what there is of a type: see visible.rule. For whom it is, the condition of the
// view is enough for the rule.
func (a *Access) surelyWays(narrow []byte) map[byte]*surely {
	list := map[byte]*surely{}
	if len(a.proxies) > 0 || bytes.IndexByte(narrow, 'n') >= 0 || a.consent != "off" && a.consent != "permit" {
		return list // what takes more than one look
	}
	barred, self := strconv.Itoa(int(^a.clearance)), ""
	if len(a.self) == 1 {
		self = strconv.FormatInt(a.self[0], 10)
	}
	for _, way := range a.ways {
		if list[way] != nil {
			continue
		}
		none, patients, others := way>>inNone&3, way>>inPatients&3, way>>inOthers&3
		all := none == reachAll && patients == reachAll && others == reachAll
		switch {
		case a.record != nil && patients == reachAll && slices.Equal(a.patients, a.record):
			list[way] = &surely{sql: sqlSurelyOwn, barred: strconv.Itoa(int(a.withheld)), opened: arrayText(a.record)}
		case none == reachAll && patients == 0 && others == 0:
			list[way] = &surely{sql: sqlSurelyShared, barred: barred}
		case a.record != nil: // what is not of it follows other rules than what is
		case all && a.consent == "permit":
			list[way] = &surely{sql: sqlSurelyPermitted, barred: barred}
		case all:
			list[way] = &surely{sql: sqlSurelyEverything, barred: barred}
		case self != "" && patients == reachTreated && others == reachTreated:
			list[way] = &surely{sql: sqlSurelyTreated, barred: barred, treating: self}
		case self != "" && patients == reachTreated && others == 0 && a.patients != nil:
			list[way] = &surely{sql: sqlSurelyContext, barred: barred, opened: arrayText(a.patients), treating: self}
		}
	}
	return list
}

// surelyReads is the way to one resource of a type; nil where there is none but through the rule.
func (a *Access) surelyReads(typ int16) *surely {
	if int(typ) >= len(a.ways) {
		return nil
	}
	return a.surely[a.ways[typ]]
}

// surely reads a version that the caller surely sees; nil where the rule has to be asked.
func (r *runner) surely(ctx context.Context, p *Proof, w *surely, rk int64, typ, id string) (*Version, error) {
	args := make([]any, 0, 8)
	args = append(args, p.hash, p.now, strconv.FormatInt(rk, 10), w.barred)
	for _, said := range []string{w.opened, w.treating} {
		if said != "" {
			args = append(args, said)
		}
	}
	rows, err := reader{r.store.guarded}.Query(ctx, w.sql, append(args, typ, id)...)
	if err != nil {
		return nil, translate(err)
	}
	defer rows.Close()
	var v *Version
	for rows.Next() {
		if rows.RawValues()[0] == nil { // the token holds, and the view shows nothing
			continue
		}
		if v, err = scanVersion(rows); err != nil {
			return nil, err
		}
	}
	if err := rows.Err(); err != nil || v == nil {
		return nil, translate(err)
	}
	return v, p.settle(true)
}
