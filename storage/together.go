package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/search"
)

// A visit of two patients lies in the compartments of both. Each sees in it only themselves: the others are there, without
// a name, and nothing that asks about them gets an answer. This file is all of that.

const visitType = "Appointment"

// alone says whether the caller sees visits only as one of their patients.
func (ix *Indexer) alone(a *Access) bool {
	grants := a.reach[ix.registry.TypeNumber(visitType)]
	return len(a.record) > 0 && len(grants) > 0 && !slices.ContainsFunc(grants, func(g grant) bool { return g.reach != search.ReachOwn })
}

// another says whether a participant of a visit is a patient other than the caller. What is said of somebody in the visit
// itself (contained) is of others.
func (ix *Indexer) another(a *Access, participant *fhir.Node) bool {
	actor := participant.Get("actor")
	if actor == nil {
		return false
	}
	text := actor.GetText("reference")
	if text == "" {
		return actor.GetText("type") == "Patient" || actor.GetText("type") == "" && actor.Get("extension") == nil
	}
	ref, ok := ix.parseReference(text)
	switch {
	case !ok || ref.Fragment != "" || ref.Container:
		return true
	case ref.Type == "Patient":
		return ref.Base != "" || !overlap(ix.sameTarget(ref.Type, ref.ID), a.patients)
	}
	return ref.Type == "RelatedPerson"
}

// Together says whether a version is a visit in which the caller must not see others.
func (s *Store) Together(ctx context.Context, v *Version) (bool, error) {
	n, err := s.unnamed(ctx, v)
	return n != nil, err
}

// unnamed is a visit in which the caller must not see others, with them unnamed; nil for any other version.
func (s *Store) unnamed(ctx context.Context, v *Version) (*fhir.Node, error) {
	if v == nil || v.Type != visitType || v.Deleted {
		return nil, nil
	}
	a, err := s.access(ctx)
	if err != nil || a.everything || !a.alone {
		return nil, err
	}
	n, err := fhir.ParseJSON(v.Content)
	if err != nil {
		return nil, err
	}
	ix := s.indexer.Load()
	together := false
	for p := range n.Get("participant").Items() {
		if ix.another(a, p) {
			together = true
			p.Set("actor", fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str(fhir.DataAbsentReason).As("url"), fhir.Str("masked").As("valueCode"))).As("extension")))
		}
	}
	if !together {
		return nil, nil
	}
	n.Remove("text") // a narrative may name them, and so may what is contained
	n.Remove("contained")
	return n, nil
}

// Alone is a version as the caller sees it: v itself, or the visit with the others unnamed.
func (s *Store) Alone(ctx context.Context, v *Version) (*Version, error) {
	n, err := s.unnamed(ctx, v)
	if err != nil || n == nil {
		return v, err
	}
	if err := s.dropHidden(ctx, n); err != nil {
		return nil, err
	}
	fhir.Subsetted(n)
	alone := *v
	alone.Content = n.JSON()
	return &alone, nil
}

// apart takes out of versions the visits in which the caller must not see others, with them unnamed: what refers to whom, these alone tell,
// and no index.
func (s *Store) apart(ctx context.Context, versions []*Version) (rest, visits []*Version, err error) {
	if a, err := s.access(ctx); err != nil || !a.alone {
		return versions, nil, err
	}
	for _, v := range versions {
		n, err := s.unnamed(ctx, v)
		if err != nil {
			return nil, nil, err
		}
		if n == nil {
			rest = append(rest, v)
			continue
		}
		alone := *v
		alone.Content = n.JSON()
		visits = append(visits, &alone)
	}
	return rest, visits, nil
}

// telling leaves out of what refers to others the visits that do not, as the caller sees them.
func (s *Store) telling(ctx context.Context, referrers, others []*Version) ([]*Version, error) {
	_, visits, err := s.apart(ctx, referrers)
	if err != nil || len(visits) == 0 {
		return referrers, err
	}
	ix := s.indexer.Load()
	var keys []int64
	for _, v := range others {
		keys = append(keys, s.hash.Resource(v.Type, v.ID))
	}
	silent := map[string]bool{}
	for _, v := range visits {
		silent[v.ID] = !overlap(ix.referred([]*Version{v}, nil), keys)
	}
	return slices.DeleteFunc(slices.Clone(referrers), func(v *Version) bool { return v.Type == visitType && silent[v.ID] }), nil
}

// dropHidden takes out of a visit what it says that it goes by and the caller cannot read: by whose insurance another pays.
func (s *Store) dropHidden(ctx context.Context, n *fhir.Node) error {
	list := n.Get("supportingInformation")
	if list == nil {
		return nil
	}
	ix := s.indexer.Load()
	var kept []fhir.Node
	for i := range list.Items() {
		if ref, ok := ix.parseReference(i.GetText("reference")); ok && ref.Base == "" && ref.Fragment == "" && ref.ID != "" {
			if v, err := s.Read(ctx, ref.Type, ref.ID); err != nil {
				return err
			} else if v == nil {
				continue
			}
		}
		kept = append(kept, *i)
	}
	if n.Remove("supportingInformation"); len(kept) > 0 {
		n.Set("supportingInformation", fhir.Arr(kept...))
	}
	return nil
}

// aboutOthers says whether a parameter of visits looks at who takes part, or at what the visit goes by of theirs.
func aboutOthers(code, expression string) bool {
	return code == "_text" || code == "_content" || code != "part-status" && strings.Contains(expression, "participant") || goesBy(expression)
}

// wholeExpression is all that a parameter looks at: of a composite what its components do, too.
func wholeExpression(def *conformance.SearchParameter) string {
	all := def.Expression
	for _, one := range def.Components {
		all += " | " + one.Expression
	}
	return all
}

// goesBy says whether an expression leads to what a visit goes by, which dropHidden takes out, or anywhere: parameters that
// clients define may.
func goesBy(expression string) bool {
	return slices.ContainsFunc([]string{"supportingInformation", "contained", "children(", "descendants(", "repeat("}, func(s string) bool { return strings.Contains(expression, s) })
}

// toldOf says whether a parameter of visits leads to what goesBy says, or is a client's and looks at who takes part in any way: then it is asked of visits
// without others alone. The official ones lead to references, and what they may be asked about, their values say.
func (ix *Indexer) toldOf(def *conformance.SearchParameter) bool {
	expression := wholeExpression(def)
	if goesBy(expression) || ix.official == nil {
		return goesBy(expression)
	}
	official := ix.official.SearchParameter(visitType, def.Code)
	return strings.Contains(expression, "participant") && (official == nil || wholeExpression(official) != expression)
}

// asksOthers is a condition by which a caller must not ask about others in a visit: it is met by none that has any. One in the compartments of those
// patients alone whose records the caller opens has none but who is no patient here.
func (c *compiler) asksOthers(cond, x string) string {
	others := fmt.Sprintf("EXISTS (SELECT FROM %s v, jsonb_path_query(v.content, '$.participant[*].actor') AS a(actor) WHERE v.rk = %s.rk AND %s)",
		c.table("resource", x), x, strings.ReplaceAll(sqlAnother, "{base}", c.arg(c.ix.base+"/", "text")))
	own := c.arg(c.access.patients, "bigint[]")
	if x == "x" && !c.inside {
		return fmt.Sprintf("(%s AND x.compartments <@ %s AND NOT %s)", cond, own, others)
	}
	// It may be a visit inside of something, which is in no compartment of its own.
	v := c.alias()
	return fmt.Sprintf("(%s AND NOT EXISTS (SELECT FROM %s %s WHERE %s.rk = %s.rk AND NOT %s.compartments <@ %s) AND NOT %s)", cond, c.table("search_index", v), v, v, x, v, own, others)
}

// sqlAnother is Indexer.another for an actor of a visit that lies in the compartments of the caller's patients alone: of patients here it can name but
// those.
const sqlAnother = `CASE WHEN coalesce(a.actor->>'reference', '') = ''
  THEN a.actor->>'type' = 'Patient' OR coalesce(a.actor->>'type', '') = '' AND NOT a.actor ? 'extension'
  ELSE a.actor->>'reference' !~ '^(urn:|https?://|[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}(/_history/[^/#]+)?$)'
    OR a.actor->>'reference' ~ '(^|/)RelatedPerson/'
    OR a.actor->>'reference' ~ '://.*/Patient/' AND NOT starts_with(a.actor->>'reference', {base}) END`

// together is a condition on visits, by a caller who must not ask about others in them; done is false where it is one
// like any other.
func (c *compiler) together(m *search.Match, x string) (cond string, done bool, err error) {
	if c.access == nil || !c.access.alone || m.Type != visitType && m.Type != "" {
		return "", false, nil
	}
	expression, told := "", false
	if def := c.ix.registry.SearchParameter(m.Type, m.Param.Code); def != nil {
		expression, told = wholeExpression(def), c.ix.toldOf(def)
	}
	if !aboutOthers(m.Param.Code, expression) {
		return "", false, nil
	}
	open := *c.access
	open.alone = false
	own := c.access
	c.access = &open
	defer func() { c.access = own }()
	if m.Param.Kind != search.Reference || m.Modifier != "" || told {
		if cond, err = c.match(m, x); m.Type == "" { // visits among others
			return fmt.Sprintf("(%s AND (%s.type <> %s OR %s))", cond, x, c.arg(c.ix.registry.TypeNumber(visitType), "smallint"), c.asksOthers("true", x)), true, err
		}
		return c.asksOthers(cond, x), true, err
	}
	asked, elsewhere := *m, *m // elsewhere are ids without a type that are none of the caller's
	asked.Values, elsewhere.Values = nil, nil
	for _, v := range m.Values {
		ref := v.Reference
		foreign := !overlap(c.ix.sameTarget("Patient", ref.ID), own.patients)
		switch {
		case !foreign, ref.ID == "", ref.Type != "" && ref.Type != "Patient" && ref.Type != "RelatedPerson":
			asked.Values = append(asked.Values, v)
		case ref.Type == "":
			elsewhere.Values = append(elsewhere.Values, v)
		}
	}
	targets := m.Param.Targets
	if targets == nil {
		targets = c.ix.registry.Schema().Resources
	}
	elsewhere.Param.Targets = slices.DeleteFunc(slices.Clone(targets), func(t string) bool { return t == "Patient" || t == "RelatedPerson" })
	parts := search.Or{}
	if len(asked.Values) > 0 {
		parts = append(parts, &asked)
	}
	if len(elsewhere.Values) > 0 && len(elsewhere.Param.Targets) > 0 {
		parts = append(parts, &elsewhere)
	}
	cond, err = c.expr(parts, x)
	return cond, true, err
}
