package storage

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"kiln/fhir"
)

// This file finds out whose a resource is: in which compartments it lies, which labels restrict it, and what it says
// about who treats whom.

// belongs are search parameters that put a resource into a patient's compartment although CompartmentDefinition/patient
// does not list their types: an implant, a task or a contract is the patient's as much as an observation.
var belongs = map[string][]string{
	"Device": {"patient"}, "Task": {"patient"}, "GuidanceResponse": {"patient"}, "Contract": {"patient"},
}

// membership returns the parameters by which a type is in the compartment of patients; nil for a type that never is.
func (ix *Indexer) membership(typ string) []string {
	if typ == "Patient" {
		return nil // its own; a link to another patient makes them no one
	}
	params := ix.registry.Compartment("Patient").Params(typ)
	return append(slices.Clip(params), belongs[typ]...)
}

// OfPatients says whether resources of a type belong to patients, and so to nobody else where they name none.
func (ix *Indexer) ofPatients(typ string) bool {
	switch typ {
	case "Patient", "Binary":
		return true
	case "Schedule", "Device": // with a patient they are the patient's, else everybody's
		return false
	}
	return len(ix.membership(typ)) > 0
}

// link is a reference that a rule about relationships looks at.
type link struct {
	param  string
	target string // type
	rk     int64
}

// treatmentEntry is a row of treatment, actingEntry one of acting.
type treatmentEntry struct {
	kind           int16
	actor, patient int64
	confirmed      bool // needs no confirmation
}

type actingEntry struct {
	practitioner, also int64
	period             dateEntry
}

// proxyEntry is a row of proxy.
type proxyEntry struct {
	patient int64
	period  dateEntry
}

// belonging completes a row with what decides who may see the resource.
func (ix *Indexer) belonging(row *indexRow, n *fhir.Node, rk int64) {
	typ := n.ResourceType()
	if typ == "Patient" {
		row.compartments = []int64{rk}
	}
	row.compartments = unique(row.compartments)
	switch typ {
	case "Provenance":
		// Of a target that is a Patient it is, and of nobody else; what keeps the other targets from others keeps it, too.
		row.named = len(row.compartments) > 0
		for target := range n.Get("target").Items() {
			row.inherits(ix, target)
		}
	case "Binary":
		row.inherits(ix, n.Get("securityContext"))
		ix.borrows(row, typ)
	case "Slot":
		if ref, ok := ix.parseReference(n.Get("schedule").GetText("reference")); ok && ref.Type == "Schedule" && ref.Base == "" {
			row.schedules = []int64{ix.hash.Resource(ref.Type, ref.ID)}
		}
	}
	if len(row.compartments) == 0 && len(row.inherit) == 0 && ix.ofPatients(typ) {
		row.compartments = unique(row.practitioners)
	}
	if row.compartments == nil {
		row.compartments = []int64{}
	}
	if ix.rules == nil {
		return
	}
	for label := range n.At("meta").Get("security").Items() {
		if bit, ok := ix.rules.labels[label.GetText("system")+"|"+label.GetText("code")]; ok {
			row.labels |= 1 << bit
		}
	}
	ix.withholding(row, n)
	ix.treatments(row, n, rk)
	switch typ {
	case "PractitionerRole":
		ix.acting(row, n, rk)
	case "Consent":
		ix.consents(row, n)
	case "RelatedPerson":
		ix.proxies(row, n)
	}
}

func (row *indexRow) inherits(ix *Indexer, reference *fhir.Node) {
	ref, ok := ix.parseReference(reference.GetText("reference"))
	if !ok || ref.Type == "" || ref.Base != "" {
		return
	}
	if rk := ix.hash.Resource(ref.Type, ref.ID); ref.Type == "Patient" {
		row.compartments = unique(append(row.compartments, rk))
	} else {
		row.inherit = append(row.inherit, rk)
	}
}

func (row *indexRow) linked(param string, targets ...string) (rks []int64) {
	for _, l := range row.links {
		if l.param == param && slices.Contains(targets, l.target) {
			rks = append(rks, l.rk)
		}
	}
	return unique(rks)
}

func (ix *Indexer) treatments(row *indexRow, n *fhir.Node, rk int64) {
	status := n.GetText("status")
	for e := range n.Get("extension").Items() {
		if e.GetText("url") == fhir.HeldUntilExtension {
			return // who looks for a time is in nobody's care yet
		}
	}
	for _, r := range ix.rules.relationships {
		if r.typ != n.ResourceType() || r.statuses != nil && !slices.Contains(r.statuses, status) {
			continue
		}
		patients := []int64{rk}
		if r.patient != "_id" {
			patients = row.linked(r.patient, "Patient")
		}
		for _, actor := range row.linked(r.actor, "Practitioner", "PractitionerRole", "Organization") {
			for _, p := range patients {
				row.treatments = append(row.treatments, treatmentEntry{r.kind, actor, p, !r.confirmed})
			}
		}
	}
}

// inactive says whether a resource says of itself that it is out of use.
func inactive(n *fhir.Node) bool {
	active := n.Get("active")
	return active != nil && active.Kind == fhir.Bool && active.Text == "false"
}

func (ix *Indexer) acting(row *indexRow, n *fhir.Node, rk int64) {
	if inactive(n) {
		return
	}
	period := dateEntry{low: beginningOfTime, high: endOfTime}
	if low, high, ok := periodRange(n.Get("period"), ix.zone); ok {
		period.low, period.high = low, high
	}
	for _, practitioner := range row.linked("practitioner", "Practitioner") {
		row.acting = append(row.acting, actingEntry{practitioner, rk, period})
		for _, organization := range row.linked("organization", "Organization") {
			row.acting = append(row.acting, actingEntry{practitioner, organization, period})
		}
	}
}

// proxies says whom a RelatedPerson may act for, where an account stands for it: the patient, while it is active.
func (ix *Indexer) proxies(row *indexRow, n *fhir.Node) {
	ref, ok := ix.parseReference(n.Get("patient").GetText("reference"))
	if !ok || ref.Type != "Patient" || ref.Base != "" || inactive(n) {
		return
	}
	e := proxyEntry{patient: ix.hash.Resource(ref.Type, ref.ID), period: dateEntry{low: beginningOfTime, high: endOfTime}}
	if period := n.Get("period"); period != nil {
		if e.period.low, e.period.high, ok = periodRange(period, ix.zone); !ok {
			return
		}
	}
	row.proxy = &e
}

// linkedTypes are the types whose references rules may look at; others save the trouble.
func (ix *Indexer) linksOf(typ, code string) bool {
	if typ == "PractitionerRole" {
		return code == "practitioner" || code == "organization"
	}
	return ix.rules != nil && slices.ContainsFunc(ix.rules.relationships, func(r relationship) bool {
		return r.typ == typ && (r.actor == code || r.patient == code)
	})
}

const sqlLent = `
SELECT r.rk, CASE WHEN r.type <> 'Group' THEN r.compartments END, r.labels, w.until FROM public.resource r LEFT JOIN public.withholding w ON w.rk = r.rk
WHERE r.rk = ANY($1)`

// lent is what a resource lends to those that belong to whom it belongs: its compartments, and what keeps it from others (FHIR
// R4, Binary.securityContext: "a proxy of the security sensitivity"). A Group lends nobody: it names others, and is not for its members to read.
type lent struct {
	compartments []int64
	labels       int32
	withheld     time.Time
}

// Inherit puts resources that belong to whom their targets belong into the compartments of those: a Provenance, and a
// Binary with a securityContext. It comes before they are written; targets may be written by the same transaction.
func (tx *Tx) Inherit(ctx context.Context, list ...*Prepared) error {
	var wanted []int64
	for _, p := range list {
		if p != nil {
			wanted = append(wanted, p.row.inherit...)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	of := map[int64]lent{}
	if err := tx.system(ctx, lentInto(of), sqlLent, unique(wanted)); err != nil {
		return err
	}
	inherit(of, list)
	return nil
}

func lentInto(of map[int64]lent) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		for rows.Next() {
			var rk int64
			var l lent
			var until pgtype.Timestamptz
			if err := rows.Scan(&rk, &l.compartments, &l.labels, &until); err != nil {
				return err
			}
			switch {
			case until.InfinityModifier == pgtype.Infinity:
				l.withheld = endOfTime
			case until.Valid:
				l.withheld = until.Time
			}
			of[rk] = l
		}
		return rows.Err()
	}
}

func inherit(of map[int64]lent, list []*Prepared) {
	for _, p := range list {
		if p != nil {
			l := lent{p.row.compartments, p.row.labels, p.row.withheld}
			if p.Node.ResourceType() == "Group" {
				l.compartments = nil
			}
			of[p.rk] = l
		}
	}
	for _, p := range list {
		if p == nil {
			continue
		}
		for _, target := range p.row.inherit {
			l, there := of[target]
			if !there {
				p.awaits = append(p.awaits, target)
			}
			if !p.row.named {
				p.inherited.compartments = append(p.inherited.compartments, l.compartments...)
			}
			p.inherited.labels |= l.labels
			if l.withheld.After(p.inherited.withheld) {
				p.inherited.withheld = l.withheld
			}
		}
		p.inherit()
	}
}

// inherit takes what was lent into the row.
func (p *Prepared) inherit() {
	p.row.compartments = unique(append(p.row.compartments, p.inherited.compartments...))
	p.row.lent = p.inherited.labels &^ p.row.labels
	p.row.labels |= p.inherited.labels
	if p.inherited.withheld.After(p.row.withheld) {
		p.row.withheld = p.inherited.withheld
	}
}
