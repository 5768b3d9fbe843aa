package storage

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
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
	if a.record != nil {
		barred = a.withheld
		a.plain = append(a.plain, setting{"kiln.open", arrayText(a.record)})
	}
	a.plain = append(a.plain, setting{"kiln.barred", decimal(barred)})
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

// nearby is the runner and the text for a statement that reads these views; both as they are where it does not.
func (r *runner) nearby(sql string) (*runner, string) {
	if !r.plainly() || strings.Count(sql, "search_index ") > 1 { // what conditions look at beside, may be anybody's
		return r, sql
	}
	near := *r
	near.near = true
	return &near, ofAbout.Replace(sql)
}
