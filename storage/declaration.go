package storage

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// This file makes the statements that say who asks, before the views are read.

// allSettings are the names of all settings of the views: a transaction that goes on for another caller or another
// action clears what it does not set.
var allSettings = []string{"kiln.ways", "kiln.narrow", "kiln.patients", "kiln.record", "kiln.actors", "kiln.user", "kiln.clear", "kiln.each",
	"kiln.clearance", "kiln.withheld", "kiln.consent", "kiln.purpose", "kiln.terms", "kiln.caller", "kiln.log", "kiln.policy"}

// Ways to say who asks: bits of the places in Access.asks.
const (
	withProof = 1 << iota
	aboutPatients
	withPlain
	withQuestion
	askWays = iota
)

// declare queues the settings. whole clears those of an earlier access.
func (a *Access) declare(batch *pgx.Batch, whole bool) {
	d := a.asks[0]
	if whole {
		d = a.declaration(0, true)
	}
	batch.Queue(d.sql, d.args...)
}

// declaration is a statement that sets the settings, all in one column, with its arguments. Those of a proof come before them,
// and the column that tells whether it holds; the patients that the request is about, and the one of whom is asked whether something is
// withheld, stand at their places, 0 for none.
type declaration struct {
	sql             string
	args            []any
	about, question int
	// clears says that the last column tells whether all of the patients are clear.
	clears bool
}

// declaration makes one with a call for each setting, since rows to go through would cost as much again.
func (a *Access) declaration(how int, whole bool) declaration {
	d := declaration{sql: "SELECT "}
	if how&withProof != 0 {
		d.sql += sqlProof + " AS holds, "
		d.args = make([]any, proofArguments)
	}
	arg := func(v any) string {
		d.args = append(d.args, v)
		return fmt.Sprintf("$%d", len(d.args))
	}
	var calls []string
	set := func(name, value string) { calls = append(calls, "set_config('"+name+"', "+value+", true)") }
	opened := "" // the records that are open now: a RelatedPerson's only while it acts for the patient
	if len(a.proxies) > 0 {
		opened = "coalesce(" + arg(a.inPerson) + "::bigint[], '{}')"
		for _, p := range a.proxies {
			by, record := arg(p.by), arg(p.record)
			opened += " || CASE WHEN visible.represents(" + by + ", " + record + "::bigint[]) THEN " + record + "::bigint[] ELSE '{}' END"
		}
		opened = "nullif((" + opened + ")::text, '{}')"
	}
	for i, name := range a.names {
		var value string
		switch {
		case name == "kiln.user":
			value = arg(a.values[i])
			for _, p := range a.proxies {
				if p.by == a.user {
					value = "CASE WHEN visible.represents(" + arg(p.by) + ", " + arg(p.record) + "::bigint[]) THEN " + value + " ELSE '' END"
				}
			}
		case opened == "" || name != "kiln.patients" && name != "kiln.record":
			value = arg(a.values[i])
		case name == "kiln.patients" && !slices.Equal(a.patients, a.record): // another one's, in context
			value = "CASE WHEN " + opened + " IS NOT NULL THEN " + arg(a.values[i]) + " ELSE '' END"
		default:
			value = "coalesce(" + opened + ", '')"
		}
		set(name, value)
	}
	if whole {
		for _, name := range allSettings {
			if !slices.Contains(a.names, name) {
				set(name, "''")
			}
		}
	}
	if how&withPlain != 0 {
		for _, s := range a.plain {
			set(s.name, arg(s.value))
		}
	}
	if how&aboutPatients != 0 {
		self, patients := arg(a.self), arg(nil)
		d.about = len(d.args) - 1
		clear := "visible.clear(" + self + ", " + patients + ")"
		if a.self != nil { // that is the answer mostly, and costs less
			clear = "coalesce(CASE cardinality(" + patients + "::bigint[]) WHEN 1 THEN (SELECT '{' || patient || '}' FROM visible.clear_own WHERE patient = (" +
				patients + "::bigint[])[1] LIMIT 1) END, " + clear + ")"
		}
		set("kiln.clear", clear)
	}
	d.sql += "num_nonnulls(" + strings.Join(calls, ", ") + ") AS said"
	if how&withQuestion != 0 { // it reads what has been set
		d.question = len(d.args)
		patient := arg(nil)
		d.sql += ", CASE WHEN current_setting('kiln.clear', true) = " + patient + "::bigint[]::text AND (SELECT true FROM visible.clear_hidden LIMIT 1) IS NULL" +
			" THEN false ELSE visible.withholds(" + patient + ") END AS withheld"
	}
	if d.clears = how&withPlain != 0 && how&aboutPatients != 0; d.clears {
		d.sql += ", cardinality(current_setting('kiln.clear', true)::bigint[]) = cardinality($" + strconv.Itoa(d.about+1) + "::bigint[]) AS clear"
	}
	return d
}

// before gives for each statement what it is in one with the declaration, which is worked out first: its row stands before each of
// theirs, and alone where they have none. Their arguments come behind those of d.
func (d *declaration) before(statements ...string) map[string]string {
	joined := make(map[string]string, len(statements))
	for _, sql := range statements {
		joined[sql] = "SELECT d.holds, r.* FROM (" + d.sql + " OFFSET 0) d LEFT JOIN LATERAL (" + shifted(sql, len(d.args)) + ") r ON d.said > 0"
	}
	return joined
}

// operatorReads are Access.reads of who sees everything, of whom the token alone is asked: beside each row, and so not where there is
// none. What is current they read otherwise: see surely.go.
func operatorReads() map[string]string {
	return map[string]string{sqlReadVersion: "SELECT " + sqlProof + ", r.* FROM (" + shifted(sqlReadVersion, proofArguments) + ") r"}
}

// shifted is a statement whose arguments come behind others.
func shifted(sql string, by int) string {
	b := make([]byte, 0, len(sql)+64)
	for {
		text, rest, placeholder := strings.Cut(sql, "$")
		if b = append(b, text...); !placeholder {
			return string(b)
		}
		number, digits := 0, 0
		for ; digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9'; digits++ {
			number = 10*number + int(rest[digits]-'0')
		}
		b = strconv.AppendInt(append(b, '$'), int64(number+by), 10)
		sql = rest[digits:]
	}
}
