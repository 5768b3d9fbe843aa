package resources

import (
	"context"
	"slices"
	"strconv"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

const maxJobsShown = 10

// StartReindex begins to rebuild the search index in the background and returns Parameters that describe the job.
// Without parameters it does what search parameters that are still building need. The body may narrow or widen that:
//
//   - type (code, repeats): the resource types to do;
//   - url (uri, repeats): search parameters of clients whose types are to be done;
//   - all (boolean): rebuild every row, and not only those older than the newest search parameter.
//
// A job that does the same already is not started twice. Errors: Invalid with all issues found.
func (s *Service) StartReindex(ctx context.Context, who auth.Principal, body *fhir.Node) (*fhir.Node, error) {
	ctx, err := s.administers(ctx, &who)
	if err != nil {
		return nil, err
	}
	types, all, err := s.reindexInput(ctx, body)
	if err != nil {
		return nil, err
	}
	job, err := s.store.StartReindex(ctx, types, all)
	if err != nil {
		return nil, err
	}
	answer := fhir.Obj(fhir.Str("Parameters").As("resourceType"), fhir.Arr(jobParameters(job)...).As("parameter"))
	return &answer, nil
}

func (s *Service) reindexInput(ctx context.Context, body *fhir.Node) (types []string, all bool, err error) {
	states, err := s.store.ParameterStates(ctx)
	if err != nil {
		return nil, false, err
	}
	faults := &fhir.Error{Kind: fhir.Invalid}
	fault := func(code, text string) {
		faults.Issues = append(faults.Issues, fhir.Issue{Severity: fhir.SeverityError, Code: code, Text: text, Expression: []string{"Parameters.parameter"}})
	}
	if body != nil {
		for p := range body.Get("parameter").Items() {
			switch name := p.GetText("name"); name {
			case "type":
				value := parameterText(p, "valueCode", "valueString")
				if !s.isType(value) {
					fault(fhir.CodeCodeInvalid, quote(value)+" is not a resource type of FHIR R4")
				}
				types = append(types, value)
			case "url":
				value, found := parameterText(p, "valueUri", "valueCanonical", "valueUrl", "valueString"), false
				for _, state := range states {
					if state.URL == value {
						types, found = append(types, s.store.ConcreteTypes(state.Base)...), true
					}
				}
				if !found {
					fault(fhir.CodeNotFound, "No active SearchParameter of this server has the url "+quote(value))
				}
			case "all":
				value := p.Get("valueBoolean")
				if value == nil || value.Kind != fhir.Bool {
					fault(fhir.CodeValue, "The parameter all needs a valueBoolean")
					continue
				}
				all = value.Text == "true"
			default:
				fault(fhir.CodeNotSupported, "$reindex has no parameter "+quote(name)+"; it has type, url and all")
			}
		}
	}
	if len(faults.Issues) > 0 {
		return nil, false, faults
	}
	if types == nil {
		for _, state := range states {
			if !state.Ready {
				types = append(types, s.store.ConcreteTypes(state.Base)...)
			}
		}
		if all {
			types = s.registry.Schema().Resources
		}
	}
	types = slices.Clone(types)
	slices.Sort(types)
	return slices.Compact(types), all, nil
}

func parameterText(p *fhir.Node, names ...string) string {
	for _, name := range names {
		if text := p.GetText(name); text != "" {
			return text
		}
	}
	return ""
}

// Reindexes returns Parameters with a part for each reindex job, those under way first, and for each search parameter
// of clients.
func (s *Service) Reindexes(ctx context.Context, who auth.Principal) (*fhir.Node, error) {
	ctx, err := s.administers(ctx, &who)
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
	answer := fhir.Obj(fhir.Str("Parameters").As("resourceType"))
	if len(list) > 0 {
		answer.Set("parameter", fhir.Arr(list...))
	}
	return &answer, nil
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
