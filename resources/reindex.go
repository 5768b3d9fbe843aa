package resources

import (
	"context"
	"slices"
	"strconv"

	"kiln/fhir"
	"kiln/storage"
)

const maxJobsShown = 10

// startReindex is $reindex: it begins to rebuild the search index in the background. A job that does the same already
// is not started twice.
//
// Errors: Forbidden; NotFound for a url that is no search parameter of a client.
func (s *Service) startReindex(ctx context.Context, c *call) (*Response, error) {
	ctx, err := s.administers(ctx, &c.Principal)
	if err != nil {
		return nil, err
	}
	types, err := s.reindexTypes(ctx, c)
	if err != nil {
		return nil, err
	}
	job, err := s.store.StartReindex(ctx, types, c.is("all"))
	if err != nil {
		return nil, err
	}
	return &Response{Resource: parameters(jobParameters(job)...), Accepted: true}, nil
}

// reindexTypes are the types that a $reindex is to do.
func (s *Service) reindexTypes(ctx context.Context, c *call) (types []string, err error) {
	states, err := s.store.ParameterStates(ctx)
	if err != nil {
		return nil, err
	}
	faults := &fhir.Error{Kind: fhir.Invalid}
	fault := func(a argument, code, text string) {
		faults.Issues = append(faults.Issues, fhir.Issue{Severity: fhir.SeverityError, Code: code, Text: text, Expression: []string{a.at}})
	}
	for _, a := range c.all("type") {
		if !s.isType(a.value.Text) {
			fault(a, fhir.CodeCodeInvalid, quote(a.value.Text)+" is not a resource type of FHIR R4")
		}
		types = append(types, a.value.Text)
	}
	for _, a := range c.all("url") {
		found := false
		for _, state := range states {
			if state.URL == a.value.Text {
				types, found = append(types, s.store.ConcreteTypes(state.Base)...), true
			}
		}
		if !found {
			fault(a, fhir.CodeNotFound, "No active SearchParameter of this server has the url "+quote(a.value.Text))
		}
	}
	if len(faults.Issues) > 0 {
		return nil, faults
	}
	if types == nil {
		for _, state := range states {
			if !state.Ready {
				types = append(types, s.store.ConcreteTypes(state.Base)...)
			}
		}
		if c.is("all") {
			types = s.registry.Schema().Resources
		}
	}
	types = slices.Clone(types)
	slices.Sort(types)
	return slices.Compact(types), nil
}

// reindexStatus is $reindex-status: a part for each reindex job, those under way first, and for each search parameter of
// clients.
func (s *Service) reindexStatus(ctx context.Context, c *call) (*Response, error) {
	ctx, err := s.administers(ctx, &c.Principal)
	if err != nil {
		return nil, err
	}
	jobs, err := s.store.Reindexes(ctx, maxJobsShown)
	if err != nil {
		return nil, err
	}
	states, err := s.store.ParameterStates(ctx)
	if err != nil {
		return nil, err
	}
	var list []fhir.Node
	for _, j := range jobs {
		list = append(list, fhir.Obj(fhir.Str("job").As("name"), fhir.Arr(jobParameters(j)...).As("part")))
	}
	for _, p := range states {
		status := "building"
		if p.Ready {
			status = "ready"
		}
		list = append(list, fhir.Obj(fhir.Str("searchParameter").As("name"), fhir.Arr(
			named("url", "valueUri", fhir.Str(p.URL)),
			named("base", "valueCode", fhir.Str(p.Base)),
			named("code", "valueCode", fhir.Str(p.Code)),
			named("status", "valueCode", fhir.Str(status)),
		).As("part")))
	}
	return &Response{Resource: parameters(list...)}, nil
}

func jobParameters(j *storage.Reindex) []fhir.Node {
	list := []fhir.Node{
		named("id", "valueString", fhir.Str(strconv.FormatInt(j.ID, 10))),
		named("status", "valueCode", fhir.Str(j.Status)),
		named("total", "valueInteger", fhir.Num(strconv.FormatInt(j.Total, 10))),
		named("done", "valueInteger", fhir.Num(strconv.FormatInt(j.Done, 10))),
		named("failed", "valueInteger", fhir.Num(strconv.FormatInt(j.Failed, 10))),
		named("created", "valueInstant", fhir.Str(fhir.FormatInstant(j.Created))),
	}
	if !j.Started.IsZero() {
		list = append(list, named("started", "valueInstant", fhir.Str(fhir.FormatInstant(j.Started))))
	}
	if !j.Finished.IsZero() {
		list = append(list, named("finished", "valueInstant", fhir.Str(fhir.FormatInstant(j.Finished))))
	}
	if j.Problem != "" {
		list = append(list, named("problem", "valueString", fhir.Str("The last batch failed and will be tried again; the server's log says why.")))
	}
	for _, t := range j.Types {
		list = append(list, named("type", "valueCode", fhir.Str(t)))
	}
	return list
}

// named is one parameter of a Parameters resource.
func named(name, element string, value fhir.Node) fhir.Node {
	return fhir.Obj(fhir.Str(name).As("name"), value.As(element))
}
