package storage

import (
	"fmt"
	"slices"
	"strings"

	"kiln/fhir/search"
)

// manyKinds is from how many types on the members of a patient's compartment are looked for by the compartment, of which search_index
// has the whole record in one place, and not by each reference that makes a member.
const manyKinds = 16

// kinds are types of which those resources are members that lie in the compartments of some patients.
type kinds struct {
	patients []int64
	types    []int16
}

// liesIn says whether search_index.compartments tells who is a member, by some parameters, of a patient's compartment: not of types whose
// compartments have more, or less, than these parameters lead to. See membership.go.
func (ix *Indexer) liesIn(typ string, params []string) bool {
	switch typ {
	case "Patient", "Provenance", "Binary", "AuditEvent":
		return false
	}
	return len(belongs[typ]) == 0 && slices.Equal(params, ix.registry.Compartment("Patient").Params(typ))
}

func (c *compiler) member(e *search.Member, x string) (string, error) {
	return c.members(search.Or{e}, x)
}

// members is the condition that a resource is one of several kinds of members. A term is of one parameter, and so of one type: all are
// looked for at once.
func (c *compiler) members(list search.Or, x string) (string, error) {
	var terms, own []int64
	none := true
	var lie []*kinds
	byCompartment := !c.inside && len(typesOf(list, nil)) == manyKinds
	var add func(e search.Expr) error
	add = func(e search.Expr) error {
		if or, several := e.(search.Or); several {
			for _, one := range or {
				if err := add(one); err != nil {
					return err
				}
			}
			return nil
		}
		m := e.(*search.Member)
		rks := c.ix.sameTarget(m.Compartment, m.ID)
		if c.access != nil && c.access.alone && m.Type == visitType && (m.Compartment == "RelatedPerson" || m.Compartment == "Patient" && !overlap(rks, c.access.patients)) {
			return nil // who else takes part does not show
		}
		none = false
		if byCompartment && m.Compartment == "Patient" && c.ix.liesIn(m.Type, m.Params) {
			lie = addKind(lie, rks, c.ix.registry.TypeNumber(m.Type))
			return nil
		}
		for _, code := range m.Params {
			p, err := c.param(m.Type, code)
			if err != nil {
				return err
			}
			terms = append(terms, salted(rks, p.salt)...)
		}
		if m.Type == m.Compartment {
			own = append(own, rks...)
		}
		return nil
	}
	if err := add(list); err != nil {
		return "", err
	}
	if none {
		return "false", nil
	}
	var others []string
	if len(terms) > 0 || len(lie)+len(own) == 0 {
		others = append(others, fmt.Sprintf("%s.refs && %s", x, c.arg(terms, "bigint[]")))
	}
	if len(own) > 0 {
		others = append(others, fmt.Sprintf("%s.rk = ANY(%s)", x, c.arg(own, "bigint[]")))
	}
	either := func(ways ...string) string {
		if ways = append(ways, others...); len(ways) == 1 {
			return ways[0]
		}
		return "(" + strings.Join(ways, " OR ") + ")"
	}
	var lying, types []string
	patientOf := "" // the first of those looked for last
	for _, k := range sameTypes(lie) {
		patients := c.arg(k.patients, "bigint[]")
		patientOf = "(" + patients + ")[1]"
		lying = append(lying, fmt.Sprintf("%s.compartments && %s", x, patients))
		types = append(types, fmt.Sprintf("%s.type + 0 <> ALL(%s)", x, c.arg(c.ix.othersIn(k.types), "smallint[]")))
	}
	if len(lying) == 1 { // so the index answers the first part, and no row is asked again which compartments it lies in
		all := "(" + either(lying...) + " AND " + either(types...) + ")"
		if k := sameTypes(lie)[0]; len(k.patients) == 1 {
			one := fmt.Sprintf("cardinality(%s.compartments) = 1 AND %[1]s.compartments[1] = %s", x, patientOf)
			c.lying = append(c.lying, lyingIn{all: all, alone: one + " AND " + types[0],
				rest: either(fmt.Sprintf("cardinality(%s.compartments) > 1 AND %s AND %s", x, lying[0], types[0]))})
		}
		return all, nil
	}
	for i := range lying {
		lying[i] += " AND " + types[i]
	}
	return either(lying...), nil
}

// othersIn are the types of what lies in compartments of patients beside some types: mostly fewer, of which each row is asked.
func (ix *Indexer) othersIn(types []int16) []int16 {
	others := []int16{}
	for _, t := range ix.registry.Schema().Resources {
		lies := t == "Patient" || t == "Provenance" || t == "Binary" || len(ix.membership(t)) > 0
		if n := ix.registry.TypeNumber(t); lies && !slices.Contains(types, n) {
			others = append(others, n)
		}
	}
	return others
}

// typesOf adds the types of members that some alternatives are about, manyKinds at most.
func typesOf(list search.Or, types []string) []string {
	for _, e := range list {
		if len(types) == manyKinds {
			break
		}
		if or, several := e.(search.Or); several {
			types = typesOf(or, types)
		} else if m := e.(*search.Member); !slices.Contains(types, m.Type) {
			types = append(types, m.Type)
		}
	}
	return types
}

// addKind adds a type of which members lie in the compartments of some patients.
func addKind(list []*kinds, patients []int64, typ int16) []*kinds {
	for i := len(list) - 1; i >= 0; i-- { // mostly that of the member before
		if slices.Equal(list[i].patients, patients) {
			list[i].types = append(list[i].types, typ)
			return list
		}
	}
	return append(list, &kinds{slices.Clone(patients), []int16{typ}})
}

// sameTypes puts the patients together of whom the same types are looked for.
func sameTypes(list []*kinds) (fewer []*kinds) {
	for _, k := range list {
		if i := slices.IndexFunc(fewer, func(f *kinds) bool { return slices.Equal(f.types, k.types) }); i >= 0 {
			fewer[i].patients = append(fewer[i].patients, k.patients...)
		} else {
			fewer = append(fewer, k)
		}
	}
	return fewer
}
