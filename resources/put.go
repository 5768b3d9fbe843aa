package resources

import (
	"context"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// change is one write of one resource, inside its transaction, as those see it who have a say in it.
type change struct {
	tx *storage.Tx
	// request is whose write it is; of an entry of a Bundle, the entry.
	request *Request
	// key is the resource; old its current version, locked, or nil where it never existed.
	key storage.Key
	old *storage.Version
	// after is what it is going to be; nil where it is deleted.
	after *fhir.Node
	// changed is set by a rule that changes after, keep by one for which nothing is to be written after all.
	changed, keep bool
	// idle is set by a rule that has nothing to follow up.
	idle bool
	// issues are what a rule has to tell the caller beside.
	issues []fhir.Issue
	// secret is what a rule took out of the resource, to be kept elsewhere.
	secret *string

	before *fhir.Node
}

// current is the content before the write, or nil where there is none: it is new, or was deleted.
func (c *change) current() (*fhir.Node, error) {
	if c.old == nil || c.old.Deleted || c.before != nil {
		return c.before, nil
	}
	var err error
	if c.before, err = fhir.ParseJSON(c.old.Content); err != nil {
		return nil, fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	return c.before, nil
}

// changesNothing says whether the resource stays the same, but for what the server itself writes.
func (c *change) changesNothing() (bool, error) {
	before, err := c.current()
	if err != nil || before == nil || c.after == nil {
		return false, err
	}
	a, b := unstamped(c.after), unstamped(before)
	return a.Equal(&b), nil
}

// builtIn refuses to change a definition that the server has built in: what it says would no longer be what the server does.
func (c *change) builtIn() error {
	if c.old == nil || c.old.Method != storage.MethodOfficial {
		return nil
	}
	return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, c.key.Type+"/"+c.key.ID+
		" is a definition that the server has built in, and cannot be changed or deleted; store yours under another id").Coded("built-in")
}

// whole refuses to put a part of a resource, as _summary and _elements show it, in the place of the whole: what they left out
// would be lost (FHIR R4 search.html#summary).
func (c *change) whole() error {
	if !fhir.IsSubsetted(c.after) {
		return nil
	}
	before, err := c.current()
	if err != nil || before == nil || fhir.IsSubsetted(before) {
		return err
	}
	return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "This is a part of "+c.key.Type+"/"+c.key.ID+
		", with the tag SUBSETTED, and would take the place of the whole; read it without _summary and _elements, and change that").
		At(c.key.Type + ".meta.tag").Coded("subsetted")
}

// rule is what a type of resources demands of its writes beyond the form of one resource. Both parts run in the
// transaction of the write; an error of either undoes the whole.
type rule struct {
	// allow runs before the version is made, with the old one locked. It may change what is written.
	allow func(context.Context, *change) error
	// follow runs when the version has been queued: it writes what has to change along with it.
	follow func(context.Context, *change) error
	// brought says of a new resource whether the rule leaves it as it is, so that it may go out with many others; nil never
	// does.
	brought func(context.Context, *storage.Tx, *Request, *fhir.Node) (bool, error)
}

// put queues the next version of a resource: old is the current one, locked, or nil where it never existed. What
// changes nothing makes no version. Whatever clients write goes through here, or through remove.
func (s *Service) put(ctx context.Context, tx *storage.Tx, r *Request, p *storage.Prepared, old *storage.Version, method string) (*Response, error) {
	c := &change{tx: tx, request: r, key: storage.Key{Type: p.Node.ResourceType(), ID: p.Node.ID()}, old: old, after: p.Node}
	if old == nil && method == storage.MethodUpdate && !s.store.Whole(ctx, c.key.Type) {
		// Whether there is nothing, or something that this caller may not see, must not show.
		return nil, notFound(c.key)
	}
	if err := tx.Inherit(ctx, p); err != nil {
		return nil, err
	}
	if ok, err := tx.Permits(ctx, p, old); err != nil {
		return nil, err
	} else if !ok {
		return nil, notYours(c.key.Type)
	}
	if ok, err := tx.SeesWhose(acting(ctx, auth.Read), p); err != nil {
		return nil, err
	} else if !ok {
		return nil, notYours(c.key.Type)
	}
	if err := s.keepsOthers(ctx, r, old); err != nil {
		return nil, err
	}
	resp := &Response{}
	if source, target := s.store.MergedPatient(p); source != "" {
		return nil, merged("Patient/"+source, "Patient/"+target)
	}
	if same, err := c.changesNothing(); err != nil {
		return nil, err
	} else if same && r.intent == nil {
		resp.Version, resp.Unchanged = old, true
		return resp, nil
	}
	if err := c.builtIn(); err != nil {
		return nil, err
	}
	if err := c.whole(); err != nil {
		return nil, err
	}
	rule, ruled := s.rules[c.key.Type]
	if ruled && rule.allow != nil {
		if err := rule.allow(ctx, c); err != nil {
			return nil, err
		}
		if c.keep {
			return &Response{Version: old, Unchanged: true, Issues: c.issues}, nil
		}
		if c.changed {
			var err error
			if p, err = s.store.Prepare(c.after); err != nil {
				return nil, err
			}
			if err := tx.Inherit(ctx, p); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case old == nil:
		resp.Version, resp.Created = tx.Insert(p, method), true
	default:
		resp.Version, resp.Created = tx.Replace(p, old, method), old.Deleted
	}
	if err := s.checkSize(resp.Version); err != nil {
		return nil, err
	}
	if ruled && rule.follow != nil {
		if err := rule.follow(ctx, c); err != nil {
			return nil, err
		}
	}
	resp.Issues = c.issues
	return resp, s.announceResult(ctx, c)
}

// remove queues the version that says a resource is gone; old is the current one, locked.
func (s *Service) remove(ctx context.Context, tx *storage.Tx, r *Request, old *storage.Version) (*storage.Version, error) {
	c := &change{tx: tx, request: r, key: storage.Key{Type: old.Type, ID: old.ID}, old: old}
	if ok, err := tx.Permits(ctx, nil, old); err != nil {
		return nil, err
	} else if !ok {
		return nil, notYours(c.key.Type)
	}
	if err := c.builtIn(); err != nil {
		return nil, err
	}
	rule, ruled := s.rules[c.key.Type]
	if ruled && rule.allow != nil {
		if err := rule.allow(ctx, c); err != nil {
			return nil, err
		}
	}
	v := tx.Delete(old)
	if ruled && rule.follow != nil {
		if err := rule.follow(ctx, c); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// unstamped is a resource without meta.versionId and meta.lastUpdated. It shares all else.
func unstamped(n *fhir.Node) fhir.Node {
	c := *n
	c.Kids = make([]fhir.Node, 0, len(n.Kids))
	for _, kid := range n.Kids {
		if kid.Name == "meta" && kid.Kind == fhir.Object {
			meta := make([]fhir.Node, 0, len(kid.Kids))
			for _, m := range kid.Kids {
				if m.Name != "versionId" && m.Name != "lastUpdated" {
					meta = append(meta, m)
				}
			}
			if kid.Kids = meta; len(meta) == 0 {
				continue
			}
		}
		c.Kids = append(c.Kids, kid)
	}
	return c
}
