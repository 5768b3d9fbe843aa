package storage

import (
	"kiln/fhir"
	"kiln/fhir/search"
)

// maxState is how many characters a status in search_code may have: those of FHIR are short.
const maxState = 64

// stateOf is what search_code.state has of a resource beside its references: the code in its element status, without case; nil for none.
func stateOf(n *fhir.Node) *string {
	state := FoldCode(n.GetText("status"))
	if state == "" || len(state) > maxState {
		return nil
	}
	return &state
}

// isState says whether a parameter looks at that element and no other.
func isState(p *paramPlan) bool {
	return p.def.Type == search.Token && !p.custom && p.codes != nil && p.def.Expression == p.def.Base+".status"
}

// stateIs is a condition on search_code w that a resource meets whose status is a code, whatever its system. Rows that do not know it meet it, too.
func stateIs(code string) func(*compiler) string {
	return func(c *compiler) string {
		return "(w.state = " + c.arg(FoldCode(code), "text") + " OR w.state IS NULL)"
	}
}
