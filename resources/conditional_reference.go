package resources

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"kiln/fhir"
	"kiln/storage"
)

// conditional is a conditional reference, such as Practitioner?identifier=x, however many elements hold it.
type conditional struct {
	typ, query, criteria string
	// holder and node are the first place that it stands at.
	holder *txEntry
	root   *fhir.Node
	node   *fhir.Node
	// key is what it was found to be in one try.
	key storage.Key
}

func (w *linkWalk) conditional(typ, query string, n *fhir.Node) *conditional {
	criteria := typ + "?" + query
	if c := w.known[criteria]; c != nil {
		return c
	}
	normal := normalCriteria(typ, query)
	c := w.known[normal]
	if c == nil {
		c = &conditional{typ: typ, query: query, criteria: normal, holder: w.entry, root: w.root, node: n}
		w.conditionals = append(w.conditionals, c)
	}
	if w.known == nil {
		w.known = map[string]*conditional{}
	}
	w.known[criteria], w.known[normal] = c, c
	return c
}

// resolve finds the resource that each conditional reference means: that of an entry with the same criteria, else the
// one that a search finds, in tx where it is not nil.
//
// Errors: Precondition, naming all that find none or several.
func (t *transaction) resolve(ctx context.Context, tx *storage.Tx, list []*conditional) error {
	var faults []fhir.Issue
	for _, c := range list {
		if e := t.byCriteria[c.criteria]; e != nil && e.req.Interaction != Delete {
			c.key = e.key
			continue
		}
		keys, err := t.match(ctx, tx, c.typ, c.query, 2)
		if err != nil {
			if fhir.KindOf(err) == fhir.Invalid {
				err = &fhir.Error{Kind: fhir.Invalid, Issues: []fhir.Issue{c.issue(fhir.CodeInvalid, "cannot be searched for: "+err.Error())}}
			}
			return err
		}
		switch len(keys) {
		case 0:
			faults = append(faults, c.issue(fhir.CodeNotFound, "matches no "+c.typ))
		case 1:
			c.key = keys[0]
		default:
			faults = append(faults, c.issue(fhir.CodeMultipleMatches, "matches more than one "+c.typ))
		}
		if len(faults) >= maxFaults {
			break
		}
	}
	if len(faults) > 0 {
		return &fhir.Error{Kind: fhir.Precondition, Issues: faults}
	}
	return nil
}

func (c *conditional) issue(code, what string) fhir.Issue {
	return fhir.Issue{
		Severity: fhir.SeverityError, Code: code, Detail: "conditional-reference",
		Text:       "The conditional reference " + quote(c.typ+"?"+c.query) + " " + what,
		Expression: []string{entryPath(c.holder.i) + ".resource" + pathTo(c.root, c.node)},
	}
}

// pathTo is where node stands below root: ".subject", ".name[0].given[1]".
func pathTo(root, node *fhir.Node) string {
	var find func(n *fhir.Node, path []string) []string
	find = func(n *fhir.Node, path []string) []string {
		if n == node {
			return path
		}
		for i := range n.Kids {
			step := "." + n.Kids[i].Name
			if n.Kind == fhir.Array {
				step = "[" + strconv.Itoa(i) + "]"
			}
			if found := find(&n.Kids[i], append(slices.Clip(path), step)); found != nil {
				return found
			}
		}
		return nil
	}
	return strings.Join(find(root, nil), "")
}
