package path

// Begins names the elements of the focus of which one at least must be there for the expression to give anything: those of
// Observation.value and Observation.component.value are value and component. ok is false where that cannot be told, as of
// Patient.deceased.exists(), which has an answer without.
func (x *Expression) Begins() (names []string, ok bool) { return begins(x.root) }

// ofNothing are functions that give nothing where their input is empty, and no error.
var ofNothing = map[string]bool{"where": true, "as": true, "ofType": true, "first": true, "last": true, "extension": true, "resolve": true}

func begins(n node) (names []string, ok bool) {
	switch n := n.(type) {
	case *path:
		if n.head != nil {
			return begins(n.head)
		}
		if len(n.steps) > 0 {
			return []string{n.steps[0].name}, true
		}
	case *call:
		if n.input != nil && ofNothing[n.name] {
			return begins(n.input)
		}
	case *typeOp:
		if n.as {
			return begins(n.input)
		}
	case *indexer:
		return begins(n.input)
	case *binary:
		if n.op != "|" {
			return nil, false
		}
		left, ok := begins(n.left)
		if !ok {
			return nil, false
		}
		right, ok := begins(n.right)
		return append(left, right...), ok
	}
	return nil, false
}
