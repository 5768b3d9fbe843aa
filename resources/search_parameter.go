package resources

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/fhir/path"
	"kiln/fhir/search"
	"kiln/storage"
)

const searchParameterType = "SearchParameter"

// checkSearchParameter says what keeps a SearchParameter resource from being used. Drafts are checked too, so that
// their authors learn in time; retired and unknown ones are only kept.
//
// Errors: Unprocessable with all issues found.
// Spec: FHIR R4 searchparameter.html.
func (s *Service) checkSearchParameter(body *fhir.Node) ([]fhir.Issue, error) {
	if status := body.GetText("status"); status == "retired" || status == "unknown" {
		return nil, nil
	}
	if s.isOfficial(body) {
		return []fhir.Issue{{Severity: fhir.SeverityInformation, Code: fhir.CodeInformational,
			Text: "This is one of FHIR's own search parameters. The server has it built in; what is changed here changes no search."}}, nil
	}
	list, err := conformance.ParseSearchParameter(body)
	if err != nil {
		return nil, err
	}
	registry := s.store.Registry()
	if err := registry.Check(list...); err != nil {
		return nil, err
	}
	faults := &fhir.Error{Kind: fhir.Unprocessable}
	fault := func(code, at, text string) {
		faults.Issues = append(faults.Issues, fhir.Issue{Severity: fhir.SeverityError, Code: code, Text: text,
			Expression: []string{searchParameterType + "." + at}})
	}
	code, id := list[0].Code, body.ID()
	if strings.HasPrefix(code, "_") {
		fault(fhir.CodeValue, "code", "Codes that begin with _ are FHIR's own.")
	}
	if list[0].Type == search.Special {
		fault(fhir.CodeNotSupported, "type", "Special parameters have rules that no definition tells; choose another type.")
	}
	if slices.ContainsFunc(list, func(p *conformance.SearchParameter) bool {
		q := registry.SearchParameterByURL(p.Base, p.URL)
		return q != nil && q.ID != id && q.Code != code
	}) {
		fault(fhir.CodeDuplicate, "url", "Another SearchParameter has this url.")
	}
	taken := map[string]bool{}
	for _, p := range list {
		for _, base := range storage.Bases(registry, p.Base) {
			switch q := registry.SearchParameter(base, code); {
			case q == nil || taken[base]:
			case s.store.Official().SearchParameter(base, code) != nil:
				taken[base] = true
				fault(fhir.CodeDuplicate, "code", base+" has a search parameter "+quote(code)+" in FHIR R4 already; choose another code.")
			case q.URL != p.URL: // of two resources with one url the database takes the first
				taken[base] = true
				fault(fhir.CodeDuplicate, "code", base+" has a search parameter "+quote(code)+" already: "+q.URL)
			}
			if len(taken) > 3 {
				break // a parameter of all resources would say it 148 times
			}
		}
	}
	if len(faults.Issues) == 0 {
		s.checkExpressions(registry.With(list...), list, fault)
	}
	if len(faults.Issues) > 0 {
		return nil, faults
	}
	switch status := body.GetText("status"); {
	case status != "active":
		return []fhir.Issue{{Severity: fhir.SeverityInformation, Code: fhir.CodeInformational,
			Text: "The search parameter can be used as soon as its status is active."}}, nil
	default:
		return []fhir.Issue{{Severity: fhir.SeverityInformation, Code: fhir.CodeInformational,
			Text: "Resources written from now on can be found by " + quote(code) + "; for those that are here already, POST " + s.options.Base + "/$reindex."}}, nil
	}
}

// checkExpressions compiles what the index would evaluate, for every type that the parameters are for.
func (s *Service) checkExpressions(registry *conformance.Registry, list []*conformance.SearchParameter, fault func(code, at, text string)) {
	schema := registry.Schema()
	for _, p := range list {
		for _, base := range storage.Bases(registry, p.Base) {
			own := registry.SearchParameter(base, p.Code)
			if own == nil {
				continue
			}
			compiled, err := path.Compile(own.Expression, schema)
			if err == nil {
				err = compiled.Check(schema.Type(base))
			}
			if err != nil {
				fault(fhir.CodeInvalid, "expression", "The expression cannot be used for "+base+": "+textOf(err))
				return
			}
			types, computed, known := compiled.Result(schema.Type(base))
			if text := misfit(own.Type, types, computed, known); text != "" {
				fault(fhir.CodeInvalid, "expression", "The expression cannot be used for "+base+": "+text)
				return
			}
			for i, c := range own.Components {
				at := fmt.Sprintf("component[%d].expression", i)
				part, err := path.Compile(c.Expression, schema)
				if err != nil {
					fault(fhir.CodeInvalid, at, "The expression cannot be used: "+textOf(err))
					return
				}
				if known && len(types) > 0 && c.Param != nil {
					values, computed, known := part.Result(types...)
					if text := misfit(c.Param.Type, values, computed, known); text != "" {
						fault(fhir.CodeInvalid, at, "The expression cannot be used for "+base+": "+text)
						return
					}
				}
			}
		}
	}
}

// misfit says why nothing could ever be found by a parameter of a kind whose expression gives these values; "" where something may be.
func misfit(kind search.Kind, types []*fhir.Type, computed, known bool) string {
	if !known || computed && kind == search.Token || slices.ContainsFunc(types, func(t *fhir.Type) bool { return storage.Holds(kind, t) }) {
		return ""
	}
	var names []string
	for _, t := range types {
		names = append(names, t.Name)
	}
	if computed {
		names = append(names, "computed values, which parameters of the type token find alone")
	}
	if len(names) > 5 {
		names = append(names[:5], "…")
	}
	return fmt.Sprintf("it gives %s, and a parameter of the type %s finds nothing by that.", strings.Join(names, ", "), kind)
}

func textOf(err error) string {
	if e, ok := err.(*fhir.Error); ok && len(e.Issues) > 0 {
		return e.Issues[0].Text
	}
	return err.Error()
}

// isOfficial says whether a SearchParameter is one of those that FHIR R4 defines, by its URL and code.
func (s *Service) isOfficial(body *fhir.Node) bool {
	for base := range body.Get("base").Items() {
		p := s.store.Official().SearchParameterByURL(base.Text, body.GetText("url"))
		if p == nil || p.Code != body.GetText("code") {
			return false
		}
	}
	return body.GetText("url") != ""
}

// activeParameters are the search parameters that a resource defines: none where it is no SearchParameter, or not active.
func (s *Service) activeParameters(body *fhir.Node) []*conformance.SearchParameter {
	if body == nil || body.ResourceType() != searchParameterType || body.GetText("status") != "active" || s.isOfficial(body) {
		return nil
	}
	list, err := conformance.ParseSearchParameter(body)
	if err != nil {
		return nil // stored before it was checked
	}
	return list
}

// defineParameters is the rule of SearchParameter resources: what they define holds from their transaction on.
func (s *Service) defineParameters(_ context.Context, c *change) error {
	before, err := c.current()
	if err != nil {
		return err
	}
	was, is := s.activeParameters(before), s.activeParameters(c.after)
	switch {
	case c.after != nil && len(was) == 0 && len(is) == 0:
	case c.after != nil && sameIndex(was, is):
		c.tx.TouchParameters()
	default:
		c.tx.SetParameters(c.key.ID, is...)
	}
	return nil
}

// sameIndex says whether two definitions lead to the same index rows.
func sameIndex(a, b []*conformance.SearchParameter) bool {
	return slices.EqualFunc(a, b, func(p, q *conformance.SearchParameter) bool {
		return p.Base == q.Base && p.Code == q.Code && p.URL == q.URL && p.Type == q.Type && p.Expression == q.Expression &&
			slices.Equal(p.Targets, q.Targets) && slices.EqualFunc(p.Components, q.Components, func(c, d conformance.Component) bool {
			return c.Definition == d.Definition && c.Expression == d.Expression
		})
	})
}

// unfinished are the issues of a search that uses parameters which older resources have no values for yet.
func (s *Service) unfinished(ctx context.Context, used []*conformance.SearchParameter) ([]fhir.Issue, error) {
	var issues []fhir.Issue
	var names []string
	for _, p := range used {
		name := p.Base + "." + p.Code
		if !s.store.Building(p) || slices.Contains(names, name) {
			continue
		}
		names = append(names, name)
		how, err := s.progress(ctx, p.Base)
		if err != nil {
			return nil, err
		}
		issues = append(issues, fhir.Issue{Severity: fhir.SeverityWarning, Code: "incomplete", Detail: "search-parameter-building",
			Text: fmt.Sprintf("The search parameter %q of %s is new: resources that were here before it are not searchable by it yet, so matches may be missing. %s", p.Code, p.Base, how)})
	}
	return issues, nil
}

// progress says how far the index of a type is.
func (s *Service) progress(ctx context.Context, typ string) (string, error) {
	jobs, err := s.store.Reindexes(ctx, maxJobsShown)
	if err != nil {
		return "", err
	}
	for _, j := range jobs {
		switch {
		case !slices.Contains(j.Types, typ):
		case j.Status == "running" && ctx.Value(rightsKey{}) != nil:
			return "The reindex is under way.", nil // how many there are is not for everybody
		case j.Status == "running":
			return fmt.Sprintf("The reindex is under way: %d of %d resources are done.", j.Done, j.Total), nil
		case j.Status == "waiting":
			return "The reindex has not begun yet.", nil
		}
	}
	return "No reindex is under way: POST $reindex to the server's base to begin one.", nil
}

// refuseUnfinished keeps conditional writes from criteria that may miss what is there.
//
// Errors: Precondition.
func (s *Service) refuseUnfinished(ctx context.Context, used []*conformance.SearchParameter) error {
	issues, err := s.unfinished(ctx, used)
	if err != nil || len(issues) == 0 {
		return err
	}
	for i := range issues {
		issues[i].Severity = fhir.SeverityError
	}
	return &fhir.Error{Kind: fhir.Precondition, Issues: issues}
}
