package fhirpackage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/resources"
	"kiln/storage"
)

// Refusal is a SearchParameter that was not installed, by the name of its file, and why.
type Refusal struct {
	File, Reason string
}

// installParameters stores the SearchParameters of a package that FHIR R4 does not have already, as clients do theirs, and orders that
// what is stored be made findable by them. One that cannot be used is no reason to leave out the others. kept is how many the package has
// in the database.
func (r *Result) installParameters(ctx context.Context, service *resources.Service, store *storage.Store, p *Package) (kept int, err error) {
	urls := map[string]bool{}
	for _, f := range p.SearchParameters {
		refuse := func(reason string) { r.Refused = append(r.Refused, Refusal{f.Name, reason}) }
		n := f.Resource
		id := storedID(n)
		list, err := conformance.ParseSearchParameter(n)
		if err != nil {
			refuse(reasonOf(err))
			continue
		}
		if builtIn(list, store.Official()) {
			r.BuiltIn++
			continue
		}
		if known, same := installed(list, id, store.Registry()); known != nil {
			if same {
				r.Unchanged++
				urls[known.URL], kept = true, kept+1
			} else {
				refuse(fmt.Sprintf("%s is defined otherwise by SearchParameter/%s: %s", known.URL, known.ID, known.Expression))
			}
			continue
		}
		n.Set("id", fhir.Str(id))
		resp, err := service.Do(ctx, resources.Request{Interaction: resources.Update, Type: "SearchParameter", ID: id, Body: n})
		switch kind := fhir.KindOf(err); {
		case err != nil && (kind == fhir.Internal || kind == fhir.Transient):
			return kept, fmt.Errorf("%q: %w", f.Name, err)
		case err != nil:
			refuse(reasonOf(err))
			continue
		case resp.Unchanged:
			r.Unchanged++
		default:
			r.Stored++
		}
		urls[n.GetText("url")], kept = true, kept+1
	}
	return kept, r.reindex(ctx, store, urls)
}

// reindex orders the index of what was stored before the parameters with these URLs, as far as it is not there.
func (r *Result) reindex(ctx context.Context, store *storage.Store, urls map[string]bool) error {
	states, err := store.ParameterStates(ctx)
	if err != nil {
		return err
	}
	for _, s := range states {
		if urls[s.URL] && !s.Ready {
			r.Reindexed = append(r.Reindexed, store.ConcreteTypes(s.Base)...)
		}
	}
	slices.Sort(r.Reindexed)
	if r.Reindexed = slices.Compact(r.Reindexed); len(r.Reindexed) == 0 {
		return nil
	}
	_, err = store.StartReindex(ctx, r.Reindexed, false)
	return err
}

// installed is a parameter with the URL of these that another resource defines, such as that of another version of the package; nil for
// none. same says that what they find is the same.
func installed(list []*conformance.SearchParameter, id string, registry *conformance.Registry) (known *conformance.SearchParameter, same bool) {
	same = true
	for _, p := range list {
		q := registry.SearchParameterByURL(p.Base, p.URL)
		same = same && q != nil && q.Covers(p) && p.Covers(q)
		if q != nil && q.ID != id {
			known = q
		}
	}
	return known, same
}

// builtIn says whether FHIR's own parameters find all that these would.
func builtIn(list []*conformance.SearchParameter, official *conformance.Registry) bool {
	return !slices.ContainsFunc(list, func(p *conformance.SearchParameter) bool {
		q := official.SearchParameter(p.Base, p.Code)
		return q == nil || !q.Covers(p)
	})
}

// reasonOf is what an error tells of a resource, in one line.
func reasonOf(err error) string {
	var e *fhir.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	var texts []string
	for _, i := range e.Issues {
		if i.Severity == fhir.SeverityError || i.Severity == "" {
			texts = append(texts, i.Text)
		}
	}
	return strings.Join(texts, " ")
}
