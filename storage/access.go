package storage

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
)

// Access is what one caller may see of the database. The zero value is nothing. It travels in the context of a request,
// so that no read can be written that does not have it: without one, every read fails.
//
// What it lets through is decided in the database, by the rule in migrations/0275_own_resource.sql: reads for a caller run
// in a role that may read those views and nothing else, after settings have said who asks. The query builder does
// three things more: it helps the planner to the rows that can count, it applies granular scopes exactly, and it knows
// which types there is anything of.
type Access struct {
	// everything is for the server itself and for who may do all.
	everything bool
	names      []string // of settings, and their values
	values     []string
	// asks are what sets them, by the bits of their places.
	asks [1 << askWays]declaration
	// reads are the statements of reads in one with asks[withProof].
	reads map[string]string
	// ways has a byte for each type, at the place of its number, as visible.rule reads them; surely the ways to read one at once, by those
	// bytes.
	ways   []byte
	surely map[byte]*surely
	// plain is what the views of about.go are told beside; empty where they are not for this caller.
	plain   []setting
	plainly plainGrounds
	// reach is what there is of each type.
	reach map[int16][]grant
	// patients and self are the compartments of ReachOwn and Context, and of the practitioner who asks.
	patients []int64
	self     []int64
	record   []int64
	// user is the resource of ReachUser; 0 for none.
	user int64
	// inPerson and proxies are what record is made of: what the caller opens as one of the patients, and what a RelatedPerson
	// opens while it acts for one.
	inPerson []int64
	proxies  []proxy
	// alone says that of a visit with others the caller sees only the own part: see together.go.
	alone bool
	// practitioner says that a practitioner asks, and neither the patient nor an administrator.
	practitioner bool
	// whole says that neither consents nor labels hide anything.
	whole bool
	// withheld are the labels that keep the own record from this caller.
	withheld int32
	// clearance are the labels that the caller is cleared for, consent what holds without a Consent, or "off".
	clearance int32
	consent   string
	// inexact says that the views alone let through more than granular scopes do.
	inexact bool
	// all says that the views hide nothing from this caller: a backend system with every right to read.
	all bool
}

// proxy is a RelatedPerson and the record that it may open.
type proxy struct {
	by     int64
	record []int64
}

// grant is one way to what there is of a type.
type grant struct {
	reach   search.Reach
	context bool
	where   []*search.Match
}

// isWhole says whether a grant is of all there is of its type.
func (g grant) isWhole() bool { return g.reach == search.ReachAny && !g.context && len(g.where) == 0 }

// Everything is the access of the server itself and of operators.
func Everything() *Access { return &Access{everything: true} }

type accessKey struct{}

// asSystem is for what the server does unasked, such as a reindex.
func asSystem(ctx context.Context) context.Context { return WithAccess(ctx, Everything()) }

// WithAccess returns a context in which reads and writes see what a lets them see.
func WithAccess(ctx context.Context, a *Access) context.Context {
	if is, ok := ctx.Value(accessKey{}).(*Access); ok && is == a {
		return ctx
	}
	return context.WithValue(ctx, accessKey{}, a)
}

// access is what the context lets a caller see.
//
// Errors: Internal where nobody has said: a mistake in the program, and no reason to show anything.
func (s *Store) access(ctx context.Context) (*Access, error) {
	if a, ok := ctx.Value(accessKey{}).(*Access); ok && a != nil {
		return a, nil
	}
	if s.options.Unrestricted {
		return Everything(), nil
	}
	return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "The server did not find out what this request may see")
}

// Access compiles a restriction. It holds until AccessRules change.
func (s *Store) Access(r *search.Restriction) (*Access, error) {
	ix, rules := s.indexer.Load(), s.rules.Load()
	a := &Access{reach: map[int16][]grant{}}
	if r.Record != "" {
		a.opens(ix, search.Record{Patient: r.Record, Proxy: r.Proxy})
	}
	if r.Context == "" {
		for _, other := range r.Others {
			a.opens(ix, other)
		}
	}
	a.patients = a.record
	var context []int64
	if r.Context != "" {
		context = ix.sameTarget("Patient", r.Context)
	}
	typ, id, _ := strings.Cut(r.Self, "/")
	if id != "" {
		a.self = []int64{s.hash.Resource(typ, id)}
	}
	if typ, id, found := strings.Cut(r.User, "/"); found && slices.ContainsFunc(r.Rules, func(rule search.Rule) bool { return rule.Reach == search.ReachUser }) {
		a.user = s.hash.Resource(typ, id)
	}
	mixed := !slices.Equal(context, a.record)
	if mixed && slices.ContainsFunc(r.Rules, func(rule search.Rule) bool { return rule.Context && rule.Reach != search.ReachShared }) {
		a.patients = context // and what would need the other compartment at the same time falls away below
	}
	for _, rule := range r.Rules {
		switch {
		case rule.Reach == search.ReachNone:
			continue
		case rule.Context && context == nil && rule.Reach != search.ReachShared:
			continue
		case rule.Reach == search.ReachOwn && (a.record == nil || !slices.Equal(a.patients, a.record)):
			continue
		case (rule.Reach == search.ReachTreated || rule.Reach == search.ReachSelf) && a.self == nil:
			continue
		case rule.Reach == search.ReachUser && a.user == 0:
			continue
		}
		g := grant{reach: rule.Reach, context: rule.Context, where: rule.Where}
		if rule.Context && rule.Reach == search.ReachAny {
			g.reach = search.ReachOwn
		}
		for _, t := range rule.Types {
			n := ix.registry.TypeNumber(t)
			a.reach[n] = append(a.reach[n], g)
		}
	}
	var clearance int32
	for _, role := range r.Roles {
		clearance |= rules.cleared[role]
	}
	consent := "off"
	if r.Consent {
		consent = rules.consent
	}
	var labels int32
	for _, bit := range rules.labels {
		labels |= 1 << bit
	}
	a.whole = consent == "off" && clearance&labels == labels
	a.clearance, a.consent = clearance, consent
	a.all = a.whole && !slices.ContainsFunc(ix.registry.Schema().Resources, func(t string) bool {
		return !slices.ContainsFunc(a.reach[ix.registry.TypeNumber(t)], grant.isWhole)
	})
	a.withheld = rules.withholds &^ clearance
	a.alone = ix.alone(a)
	a.practitioner = a.self != nil && a.record == nil && !slices.Contains(r.Roles, "admin")
	if err := a.settings(ix, r, clearance, consent); err != nil {
		return nil, err
	}
	for i := range a.asks {
		a.asks[i] = a.declaration(i, false)
	}
	a.reads = a.asks[withProof].before(sqlRead, sqlReadVersion)
	return a, nil
}

// What there is of a type in one kind of compartment, and the places of the kinds in the byte of the type: see visible.rule
// in migrations/0275_own_resource.sql.
const (
	reachTreated = 1
	reachAll     = 2
	reachUser    = 3

	inNone, inPatients, inOthers = 0, 2, 4 // bits
	treatedFlag                  = 1 << 6
)

// opens adds a record to those that the caller opens.
func (a *Access) opens(ix *Indexer, r search.Record) {
	keys := ix.sameTarget("Patient", r.Patient)
	if a.record == nil {
		a.record = keys
	} else {
		a.record = unique(slices.Concat(a.record, keys))
	}
	if typ, id, found := strings.Cut(r.Proxy, "/"); found {
		a.proxies = append(a.proxies, proxy{ix.hash.Resource(typ, id), keys})
	} else {
		a.inPerson = append(a.inPerson, keys...)
	}
}

// settings writes what the views read: see visible.rule in migrations/0275_own_resource.sql.
func (a *Access) settings(ix *Indexer, r *search.Restriction, clearance int32, consent string) error {
	size := 0
	for n := range a.reach {
		size = max(size, int(n))
	}
	ways, narrow := make([]byte, ix.registry.LastType()+1), bytes.Repeat([]byte{'-'}, size)
	var terms []int64
	for n, list := range a.reach {
		way := map[search.Reach]bool{}
		granular, wide := 0, false
		for _, g := range list {
			way[g.reach] = true
			if g.reach == search.ReachUser { // it is one resource, and nothing narrows it
				granular++
				continue
			}
			wide = wide || g.reach == search.ReachTreated && !g.context
			a.inexact = a.inexact || g.reach != list[0].reach || g.context != list[0].context
			if len(g.where) == 0 {
				continue
			}
			granular++
			a.inexact = a.inexact || len(g.where) > 1
			for _, m := range g.where {
				found, _, err := ix.exactTerms(m)
				if err != nil {
					return err
				}
				terms = append(terms, found...)
			}
		}
		none, patients, others := 0, 0, 0
		if way[search.ReachTreated] {
			patients = reachTreated
			ways[n] |= treatedFlag
		}
		if wide {
			others = reachTreated
		}
		if way[search.ReachShared] || way[search.ReachSelf] { // what of it is the caller's own, Tx.Permits knows
			none = reachAll
		}
		if way[search.ReachOwn] {
			patients = reachAll
		}
		if way[search.ReachAny] {
			none, patients, others = reachAll, reachAll, reachAll
		}
		if way[search.ReachUser] {
			for _, place := range []*int{&none, &patients, &others} {
				if *place == 0 {
					*place = reachUser
				}
			}
		}
		ways[n] |= byte(none<<inNone | patients<<inPatients | others<<inOthers)
		if a.narrows(n) && granular == len(list) {
			narrow[n-1] = 'n'
		}
	}
	a.ways = ways
	a.surely = a.surelyWays(narrow)
	a.plainSettings(narrow)
	set := func(name, value string) {
		if value != "" && value != "{}" {
			a.names, a.values = append(a.names, "kiln."+name), append(a.values, value)
		}
	}
	set("ways", `\x`+hex.EncodeToString(ways))
	if strings.Trim(string(narrow), "-") != "" {
		set("narrow", string(narrow))
	}
	set("patients", arrayText(a.patients))
	set("record", arrayText(a.record))
	set("actors", arrayText(a.self))
	if a.user != 0 {
		set("user", strconv.FormatInt(a.user, 10))
	}
	set("clearance", decimal(clearance))
	set("withheld", decimal(a.withheld))
	set("consent", consent)
	set("purpose", r.Purpose)
	set("terms", arrayText(unique(terms)))
	set("caller", r.Caller)
	if log := ix.registry.TypeNumber("AuditEvent"); slices.ContainsFunc(a.reach[log], func(g grant) bool { return g.reach == search.ReachAny && !g.context }) {
		set("log", strconv.Itoa(int(log)))
	}
	if policy := ix.registry.TypeNumber("Consent"); slices.ContainsFunc(a.reach[policy], func(g grant) bool { return g.reach == search.ReachAny && !g.context }) {
		set("policy", strconv.Itoa(int(policy)))
	}
	return nil
}

// decimal is a number as PostgreSQL reads it.
func decimal(n int32) string { return strconv.Itoa(int(n)) }

// arrayText is an array as PostgreSQL reads it.
func arrayText[T int16 | int64](list []T) string {
	b := []byte{'{'}
	for i, n := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(n), 10)
	}
	return string(append(b, '}'))
}

// asksAbout says whether the rule asks more of a patient than who it is: whether the caller treats it, and its Consents.
func (a *Access) asksAbout() bool { return a.consent == "permit" && a.record == nil }

// bounded says whether only some compartments count of a type, so that reading a whole index would find little.
func (a *Access) bounded(n int16) bool {
	if a.everything {
		return false
	}
	for _, g := range a.reach[n] {
		if g.reach != search.ReachOwn && g.reach != search.ReachTreated {
			return false
		}
	}
	return true
}

// sparse says whether little of some of the types counts: nil is all types. near says that few are treated.
func (a *Access) sparse(types []int16, near bool) bool {
	few := func(n int16) bool { return len(a.reach[n]) > 0 && a.bounded(n) && (near || !a.treats(n)) }
	if a.everything || types != nil {
		return slices.ContainsFunc(types, few)
	}
	for n := range a.reach {
		if few(n) {
			return true
		}
	}
	return false
}

// treats says whether the compartments that count of a type are those of the patients in treatment.
func (a *Access) treats(n int16) bool {
	return slices.ContainsFunc(a.reach[n], func(g grant) bool { return g.reach == search.ReachTreated && !g.context })
}

// narrows says whether granular scopes apply to a type.
func (a *Access) narrows(n int16) bool {
	if a.everything {
		return false
	}
	return slices.ContainsFunc(a.reach[n], func(g grant) bool { return len(g.where) > 0 })
}

// exactTerms are the hashes of which a resource has one when it matches, and whether they stand in refs. m is a token,
// reference or uri parameter without a modifier.
func (ix *Indexer) exactTerms(m *search.Match) (terms []int64, inRefs bool, err error) {
	p, err := ix.param(m.Type, m.Param.Code)
	if err != nil || p == nil || m.Modifier != "" {
		return nil, false, fmt.Errorf("storage: the parameter %s of %s cannot narrow a scope: %w", m.Param.Code, m.Type, err)
	}
	for _, v := range m.Values {
		switch m.Param.Kind {
		case search.Token:
			terms, inRefs = ix.askedTerms(terms, p.def.Key, v), p.rare
		case search.URI:
			terms, inRefs = append(terms, ix.hash.Term(p.def.Key, termURI, v.Raw, "")), true
		case search.Reference:
			terms, inRefs = append(terms, ix.askedReference(p.def.Key, p.salt, m.Param.Targets, v)...), true
		default:
			return nil, false, fmt.Errorf("storage: a parameter of kind %s cannot narrow a scope", m.Param.Kind)
		}
	}
	return terms, inRefs, nil
}

// visible is the condition that granular scopes make on a row of search_index; "" for none. The rest of what the caller
// may see, the view search_index knows.
func (c *compiler) visible(x string, types []int16) (string, error) {
	if c.access == nil || c.access.everything {
		return "", nil
	}
	if types == nil {
		for n := range c.access.reach {
			types = append(types, n)
		}
		slices.Sort(types)
	}
	var parts []string
	for _, n := range types {
		if !c.access.narrows(n) {
			continue
		}
		cond, err := c.grants(x, n)
		if err != nil {
			return "", err
		}
		if len(types) > 1 {
			cond = fmt.Sprintf("(%s.type <> %s OR %s)", x, c.arg(n, "smallint"), cond)
		}
		parts = append(parts, cond)
	}
	return strings.Join(parts, " AND "), nil
}

// grants is the condition that one of the grants of a type makes.
func (c *compiler) grants(x string, n int16) (string, error) {
	var ways []string
	for _, g := range c.access.reach[n] {
		var parts []string
		switch g.reach {
		case search.ReachAny:
		case search.ReachShared, search.ReachSelf:
			parts = append(parts, x+".compartments = '{}'")
		case search.ReachOwn:
			parts = append(parts, c.contains(x+".compartments", c.access.patients))
		case search.ReachUser:
			parts = append(parts, fmt.Sprintf("%s.rk = %s", x, c.arg(c.access.user, "bigint")))
		case search.ReachTreated:
			if g.context {
				parts = append(parts, c.contains(x+".compartments", c.access.patients))
			}
			parts = append(parts, fmt.Sprintf("(EXISTS (SELECT FROM visible.treated t WHERE t.patient = ANY(%s.compartments)) OR %s)", x,
				c.contains(x+".compartments", c.access.self)))
		default:
			continue
		}
		for _, m := range g.where {
			terms, inRefs, err := c.ix.exactTerms(m)
			if err != nil {
				return "", err
			}
			column := ".tokens"
			if inRefs {
				column = ".refs"
			}
			parts = append(parts, fmt.Sprintf("%s%s && %s", x, column, c.arg(terms, "bigint[]")))
		}
		ways = append(ways, "("+conjunction(parts)+")")
	}
	if len(ways) == 0 {
		return "false", nil
	}
	return "(" + strings.Join(ways, " OR ") + ")", nil
}

// nearby is a condition that all that the caller can see of a type meets and an index answers: it spares the planner the
// rows of others. "" where there is none. Patients lie in their own compartments alone, and have an index of their own.
func (c *compiler) nearby(x string, n int16) string {
	if c.access == nil || !c.access.bounded(n) {
		return ""
	}
	patients := n == c.ix.registry.TypeNumber("Patient")
	switch own := append(slices.Clone(c.access.patients), c.access.self...); {
	case !c.access.treats(n) && patients:
		return x + ".rk = ANY(" + c.arg(c.access.patients, "bigint[]") + ")"
	case !c.access.treats(n):
		return c.contains(x+".compartments", c.access.patients)
	case patients:
		return fmt.Sprintf("%s.rk = ANY(ARRAY(SELECT t.patient FROM visible.treated t) || %s)", x, c.arg(own, "bigint[]"))
	default:
		return fmt.Sprintf("%s.compartments && (ARRAY(SELECT DISTINCT t.patient FROM visible.treated t) || %s)", x, c.arg(own, "bigint[]"))
	}
}

// nearer is AND and nearby for a condition on other resources, where, or "": what others have that meets it, which may be very much, is not looked at.
func (c *compiler) nearer(y string, n int16, where string) string {
	if strings.HasPrefix(where, y+".refs ") || strings.HasPrefix(where, y+".rk = ") || !c.isNear(n) {
		return ""
	}
	return " AND " + c.nearby(y, n)
}

// isNear says whether what the caller sees of a type is in so few records that an index is asked for all of them.
func (c *compiler) isNear(n int16) bool {
	few := c.asksFew || c.asksTreated && n == c.ix.registry.TypeNumber("Patient") // of whom each has one row
	return c.access != nil && c.access.bounded(n) && (few || !c.access.treats(n))
}

// Settings are what the views are told of a caller, by name: for tests of the views themselves.
func (a *Access) Settings() (names, values []string) {
	return slices.Clone(a.names), slices.Clone(a.values)
}
