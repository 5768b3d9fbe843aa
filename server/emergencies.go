package server

import (
	"context"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"time"

	"kiln/auth"
	"kiln/auth/oauth"
	"kiln/fhir"
	"kiln/resources"
)

// Emergencies lets the pages of the authorization server show who broke the glass: through the service, as the administrator
// at the page.
type Emergencies struct{ Service Doer }

// looksShown is how many events of the audit log one page shows.
const looksShown = 200

// Emergencies lists the uses of break-glass, newest first.
func (e Emergencies) Emergencies(ctx context.Context, as auth.Principal, all bool) ([]oauth.Emergency, error) {
	r := resources.Request{Principal: as, Interaction: resources.Operate, Operation: "break-glass-grants", Safe: true}
	if all {
		r.Query = "reviewed=true"
	}
	resp, err := e.Service.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	var list []oauth.Emergency
	names := map[string]string{}
	for grant := range resp.Resource.Get("parameter").Items() {
		list = append(list, e.emergency(ctx, as, grant, names))
	}
	return list, nil
}

func (e Emergencies) emergency(ctx context.Context, as auth.Principal, grant *fhir.Node, names map[string]string) (one oauth.Emergency) {
	instant := func(part *fhir.Node) time.Time {
		at, _ := fhir.ParseDateTime(part.GetText("valueInstant"), time.UTC)
		return at.Time
	}
	for part := range grant.Get("part").Items() {
		switch part.GetText("name") {
		case "id":
			one.ID = part.GetText("valueString")
		case "practitioner":
			one.Practitioner = e.name(ctx, as, part.Get("valueReference").GetText("reference"), names)
		case "patient":
			one.Patient = e.name(ctx, as, part.Get("valueReference").GetText("reference"), names)
		case "purpose":
			one.Purpose = part.GetText("valueCode")
		case "reason":
			one.Reason = part.GetText("valueString")
		case "created":
			one.Created = instant(part)
		case "expires":
			one.Expires = instant(part)
		case "reviewed":
			one.Reviewed = instant(part)
		case "reviewer":
			one.Reviewer = part.GetText("valueString")
		case "verdict":
			one.Verdict = part.GetText("valueString")
		}
	}
	return one
}

// name is what a resource is called, or its reference where as may not see it: an administrator stays behind a Consent here
// too.
func (e Emergencies) name(ctx context.Context, as auth.Principal, reference string, names map[string]string) string {
	if known := names[reference]; known != "" {
		return known
	}
	name := reference
	typ, id, _ := strings.Cut(reference, "/")
	if entry, err := Directory(e).Entry(ctx, as, typ, id); err == nil && entry.Name != "" && entry.Name != reference {
		name = entry.Name + " (" + reference + ")"
	}
	names[reference] = name
	return name
}

// Emergency is one of them, with what the audit log tells of it. Errors: oauth.ErrNoEntry.
func (e Emergencies) Emergency(ctx context.Context, as auth.Principal, id string) (oauth.Emergency, error) {
	resp, err := e.Service.Do(ctx, resources.Request{Principal: as, Interaction: resources.Operate, Operation: "break-glass-grants", Safe: true, Query: "reviewed=true"})
	if err != nil {
		return oauth.Emergency{}, err
	}
	for grant := range resp.Resource.Get("parameter").Items() {
		references := map[string]string{}
		for part := range grant.Get("part").Items() {
			references[part.GetText("name")] = part.GetText("valueString") + part.Get("valueReference").GetText("reference")
		}
		if references["id"] != id {
			continue
		}
		one := e.emergency(ctx, as, grant, map[string]string{})
		one.Looks, one.More, err = e.looks(ctx, as, references["practitioner"], references["patient"], one.Created, one.Expires)
		return one, err
	}
	return oauth.Emergency{}, oauth.ErrNoEntry
}

// looks are what a practitioner did with a patient's record between two times.
func (e Emergencies) looks(ctx context.Context, as auth.Principal, practitioner, patient string, from, to time.Time) (list []oauth.Look, more bool, err error) {
	resp, err := e.Service.Do(ctx, resources.Request{Principal: as, Interaction: resources.SearchType, Type: "AuditEvent", Query: url.Values{
		"patient": {patient}, "agent": {practitioner}, "date": {"ge" + fhir.FormatInstant(from.Truncate(time.Second)), "le" + fhir.FormatInstant(to)},
		"_sort": {"date"}, "_count": {"200"}}.Encode()})
	if err != nil {
		return nil, false, err
	}
	for _, entry := range resp.Bundle.Entries {
		if entry.Version == nil || entry.Mode != "match" {
			continue
		}
		n, err := fhir.ParseJSON(entry.Version.Content)
		if err != nil {
			return nil, false, err
		}
		list = append(list, lookOf(n, patient))
	}
	return list, len(list) == looksShown, nil
}

// lookOf is an AuditEvent as a page shows it.
func lookOf(n *fhir.Node, patient string) oauth.Look {
	at, _ := fhir.ParseDateTime(n.GetText("recorded"), time.UTC)
	look := oauth.Look{At: at.Time, Refused: n.GetText("outcome") != "0"}
	for subtype := range n.Get("subtype").Items() {
		text := subtype.GetText("display")
		if text == "" {
			text = subtype.GetText("code")
		}
		look.What = strings.TrimPrefix(look.What+", "+text, ", ")
	}
	for entity := range n.Get("entity").Items() {
		if what := entity.Get("what").GetText("reference"); what != "" && what != patient {
			look.About = append(look.About, what)
		}
		if query, err := base64.StdEncoding.DecodeString(entity.GetText("query")); err == nil && len(query) > 0 {
			look.About = append(look.About, string(query))
		}
	}
	return look
}

// Review says what came of looking at one. Errors: oauth.ErrNoEntry; an oauth.Refusal.
func (e Emergencies) Review(ctx context.Context, as auth.Principal, id, verdict string) error {
	part := func(name, value string) fhir.Node {
		return fhir.Obj(fhir.Str(name).As("name"), fhir.Str(value).As("valueString"))
	}
	body := fhir.Obj(fhir.Str("Parameters").As("resourceType"), fhir.Arr(part("grant", id), part("verdict", verdict)).As("parameter"))
	if verdict == "" {
		return &oauth.Refusal{Text: "Write what you found"}
	}
	_, err := e.Service.Do(ctx, resources.Request{Principal: as, Interaction: resources.Operate, Operation: "break-glass-review", Body: &body})
	var known *fhir.Error
	if errors.As(err, &known) {
		switch known.Kind {
		case fhir.NotFound:
			return oauth.ErrNoEntry
		case fhir.Invalid, fhir.Conflict, fhir.Forbidden:
			return &oauth.Refusal{Text: known.Issues[0].Text}
		}
	}
	return err
}
