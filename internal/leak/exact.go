package leak

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources"
)

// most is how many matches of a search are compared; of longer ones, the beginning is.
const most = 200

// list is what a search finds, in order, over several pages.
type list struct {
	keys     []string
	complete bool
	total    *int64
	first    *resources.Bundle
}

// list makes a request, and those of the pages that follow, by do.
func (v *session) list(ctx context.Context, do func(context.Context, Ask) (*resources.Response, error), a Ask) (*list, error) {
	l := &list{}
	for l.first == nil || len(l.keys) < most {
		resp, err := do(ctx, a)
		if err != nil {
			return nil, err
		}
		if l.first == nil {
			l.first, l.total = resp.Bundle, resp.Bundle.Total
		}
		for _, e := range resp.Bundle.Entries {
			switch {
			case e.Version == nil || e.Mode == "include" || e.Mode == "outcome":
			case resp.Bundle.Type == "history":
				l.keys = append(l.keys, fmt.Sprintf("%s/%s/_history/%d", e.Version.Type, e.Version.ID, e.Version.Number))
			default:
				l.keys = append(l.keys, e.Version.Type+"/"+e.Version.ID)
			}
		}
		if a.Params, a.Query = nil, nextPage(resp); a.Query == "" {
			l.complete = true
			return l, nil
		}
	}
	return l, nil
}

// shapes says whether a parameter shapes the answer and is no condition.
func shapes(p Param) bool {
	name, _, _ := strings.Cut(p.Name, ":")
	return slices.Contains([]string{"_sort", "_count", "_total", "_summary", "_elements", "_include", "_revinclude", "_type"}, name)
}

// search compares what a search finds with what the operator finds by the same and the caller can read: the same
// resources, in the same order, and so many. Of what is inside of others it is only looked at what it shows.
func (v *session) search(ctx context.Context, a Ask) (string, error) {
	if slices.ContainsFunc(a.Params, func(p Param) bool { return p.Name == "_contained" }) {
		v.report.Skipped++
		return "", nil
	}
	plain := a
	plain.Params = fixed(fmt.Sprintf("_count=%d", most))
	for _, p := range a.Params {
		if !shapes(p) || p.Name == "_sort" || p.Name == "_type" {
			plain.Params = append(plain.Params, p)
		}
	}
	got, err := v.list(ctx, v.asks, a)
	if err != nil {
		return "", err
	}
	want, err := v.visible(ctx, plain)
	if err != nil {
		return "", err
	}
	for _, p := range a.Params {
		if shapes(p) {
			continue
		}
		found, all, err := v.criterion(ctx, a.Type, p)
		if err != nil {
			return "", err
		}
		if !all {
			v.report.Skipped++
			return "", nil
		}
		if found != nil {
			want.keys = slices.DeleteFunc(want.keys, func(key string) bool { return !found[key] })
		}
	}
	if together, err := v.visits(ctx, a, want); err != nil || together {
		v.report.Skipped++
		return "", err
	}
	return v.compare(got, want, slices.ContainsFunc(a.Params, func(p Param) bool { return p.Name == "_summary" && p.Value == "count" })), nil
}

// listed compares a history or $everything with what of it the caller can read.
func (v *session) listed(ctx context.Context, a Ask) (string, error) {
	got, err := v.list(ctx, v.asks, a)
	if err != nil {
		return "", err
	}
	plain, countOnly := a, false
	plain.Params = fixed(fmt.Sprintf("_count=%d", most))
	for _, p := range a.Params {
		if p.Name != "_count" {
			plain.Params = append(plain.Params, p)
		}
		countOnly = countOnly || p.Name == "_count" && p.Value == "0"
	}
	want, err := v.visible(ctx, plain)
	if err != nil {
		return "", err
	}
	return v.compare(got, want, countOnly), nil
}

// visible is what the operator gets, without what the caller cannot read.
func (v *session) visible(ctx context.Context, a Ask) (*list, error) {
	l, err := v.list(ctx, func(ctx context.Context, a Ask) (*resources.Response, error) {
		return v.as(ctx, Caller{Principal: operator}, a)
	}, a)
	if err != nil {
		return nil, err
	}
	var kept []string
	shows := v.findable
	if a.Interaction == resources.HistoryInstance {
		shows = v.readable
	}
	for _, key := range l.keys {
		is, err := shows(ctx, key)
		if err != nil {
			return nil, err
		}
		if is {
			kept = append(kept, key)
		}
	}
	l.keys = kept
	return l, nil
}

func (v *session) compare(got, want *list, countOnly bool) string {
	if want.complete && got.total != nil && *got.total != int64(len(want.keys)) {
		return fmt.Sprintf("the total is %d, and reads show %d", *got.total, len(want.keys))
	}
	if countOnly {
		return ""
	}
	if !want.complete || !got.complete {
		v.report.Skipped++
	}
	for i := range max(len(got.keys), len(want.keys)) {
		switch {
		case i >= len(want.keys):
			if want.complete {
				return "it finds " + got.keys[i] + ", and should not by what the caller can read"
			}
			return ""
		case i >= len(got.keys):
			if got.complete {
				return "it does not find " + want.keys[i] + ", which matches and which a read shows"
			}
			return ""
		case got.keys[i] != want.keys[i]:
			return fmt.Sprintf("%s stands where %s should, by what the caller can read", got.keys[i], want.keys[i])
		}
	}
	return ""
}

// criterion is what a chain, a _has or a _list finds, worked out step by step from what the caller can read: nil where
// it looks at nothing but the resource itself. all is false where that is too much to work out.
func (v *session) criterion(ctx context.Context, typ string, p Param) (found map[string]bool, all bool, err error) {
	switch {
	case p.Name == "_list":
		readable, err := v.readable(ctx, "List/"+p.Value)
		if err != nil || readable {
			return nil, true, err
		}
		return map[string]bool{}, true, nil
	case strings.HasPrefix(p.Name, "_has:"):
		return v.has(ctx, typ, p)
	case strings.Contains(p.Name, "."):
		return v.chain(ctx, typ, p)
	}
	return nil, true, nil
}

// matches is what meets a condition and the caller can read.
func (v *session) matches(ctx context.Context, typ string, p Param) (map[string]bool, bool, error) {
	found, all, err := v.criterion(ctx, typ, p)
	if err != nil || !all || found != nil {
		return found, all, err
	}
	a := Ask{Request: resources.Request{Interaction: resources.SearchType, Type: typ}, Params: append(fixed(fmt.Sprintf("_count=%d", most)), p)}
	if typ == "Appointment" { // a list of them leaves out what was entered in error unless it is asked like this (docs/scheduling.md); a step does not
		a.Params = append(a.Params, fixed("_lastUpdated=ge1900")...)
	}
	l, err := v.visible(ctx, a)
	if err != nil || !l.complete {
		return nil, false, err
	}
	found = map[string]bool{}
	for _, key := range l.keys {
		found[key] = true
	}
	return found, true, nil
}

func (v *session) chain(ctx context.Context, typ string, p Param) (map[string]bool, bool, error) {
	head, rest, _ := strings.Cut(p.Name, ".")
	code, target, _ := strings.Cut(head, ":")
	targets, all, err := v.matches(ctx, target, Param{rest, p.Value, p.Of})
	if err != nil || !all || len(targets) > 40 {
		return nil, false, err
	}
	found := map[string]bool{}
	for key := range targets {
		some, all, err := v.matches(ctx, typ, Param{Name: code, Value: key})
		if err != nil || !all {
			return nil, false, err
		}
		for k := range some {
			found[k] = true
		}
	}
	return found, true, nil
}

func (v *session) has(ctx context.Context, typ string, p Param) (map[string]bool, bool, error) {
	parts := strings.SplitN(p.Name, ":", 4) // _has:Type:param:rest
	referrers, all, err := v.matches(ctx, parts[1], Param{parts[3], p.Value, p.Of})
	if err != nil || !all {
		return nil, false, err
	}
	found := map[string]bool{}
	for key := range referrers {
		from, id, _ := strings.Cut(key, "/")
		resp, err := v.as(ctx, v.who, Ask{Request: resources.Request{Interaction: resources.Read, Type: from, ID: id}})
		if err != nil {
			return nil, false, nil
		}
		n, err := fhir.ParseJSON(resp.Version.Content)
		if err != nil {
			return nil, false, err
		}
		for _, target := range v.world.references(n, parts[2]) {
			if !strings.HasPrefix(target, typ+"/") {
				continue
			}
			readable, err := v.findable(ctx, target)
			if err != nil {
				return nil, false, err
			}
			if readable {
				found[target] = true
			}
		}
	}
	return found, true, nil
}

// visits says whether a search asks about who takes part in visits, and one that it could find has others in it: then it
// has no answer, on purpose, and what it would find cannot be told from reads.
func (v *session) visits(ctx context.Context, a Ask, want *list) (bool, error) {
	if !slices.ContainsFunc(v.who.Roles, func(r auth.Role) bool { return r == auth.RolePatient }) {
		return false, nil
	}
	if slices.ContainsFunc(a.Params, func(p Param) bool {
		return strings.Contains(p.Name, "Appointment") || strings.Contains(p.Name, "appointment")
	}) {
		return true, nil
	}
	for _, key := range want.keys {
		id, is := strings.CutPrefix(key, "Appointment/")
		if !is {
			continue
		}
		resp, err := v.as(ctx, v.who, Ask{Request: resources.Request{Interaction: resources.Read, Type: "Appointment", ID: id}})
		if err == nil && strings.Contains(string(resp.Version.Content), `"masked"`) {
			return true, nil
		}
	}
	return false, nil
}
