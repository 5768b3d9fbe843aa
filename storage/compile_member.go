package storage

import (
	"fmt"

	"kiln/fhir/search"
)

func (c *compiler) member(e *search.Member, x string) (string, error) {
	return c.members(search.Or{e}, x)
}

// members is the condition that a resource is one of several kinds of members. A term is of one parameter, and so of one type: all are
// looked for at once.
func (c *compiler) members(list search.Or, x string) (string, error) {
	var terms, own []int64
	none := true
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
		if c.access != nil && c.access.alone && m.Type == visitType && m.Compartment == "Patient" && !overlap(rks, c.access.patients) {
			return nil // who else takes part does not show
		}
		none = false
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
	in := fmt.Sprintf("%s.refs && %s", x, c.arg(terms, "bigint[]"))
	if len(own) > 0 {
		in = fmt.Sprintf("(%s OR %s.rk = ANY(%s))", in, x, c.arg(own, "bigint[]"))
	}
	return in, nil
}
