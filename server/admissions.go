package server

import (
	"context"
	"errors"
	"net/url"

	"kiln/auth"
	"kiln/auth/oauth"
	"kiln/fhir"
	"kiln/resources"
)

// Admissions lets the pages of the authorization server keep the records of people who register: through the service,
// like every client.
type Admissions struct{ Service Doer }

// Admit makes a Patient of a newcomer.
func (a Admissions) Admit(ctx context.Context, n oauth.Newcomer) (id string, err error) {
	tag := fhir.Obj(fhir.Str(resources.RegistrationSystem).As("system"), fhir.Str(resources.Unverified).As("code"))
	p := fhir.Obj(fhir.Str("Patient").As("resourceType"),
		fhir.Obj(fhir.Arr(tag).As("tag")).As("meta"), fhir.Boolean(true).As("active"),
		fhir.Arr(fhir.Obj(fhir.Str(n.Family).As("family"), fhir.Arr(fhir.Str(n.Given)).As("given"))).As("name"))
	var telecom []fhir.Node
	for system, value := range map[string]string{"email": n.Email, "phone": n.Phone} {
		if value != "" {
			telecom = append(telecom, fhir.Obj(fhir.Str(system).As("system"), fhir.Str(value).As("value")))
		}
	}
	if telecom != nil {
		p.Set("telecom", fhir.Arr(telecom...))
	}
	if n.Gender != "" {
		p.Set("gender", fhir.Str(n.Gender))
	}
	p.Set("birthDate", fhir.Str(n.Born))
	resp, err := a.Service.Do(ctx, resources.Request{Principal: auth.System(), Interaction: resources.Create, Type: "Patient", Body: &p})
	if err != nil {
		return "", err
	}
	return resp.Version.ID, nil
}

// Waiting lists Patients who are not verified.
func (a Admissions) Waiting(ctx context.Context, as auth.Principal) ([]oauth.Entry, int, error) {
	resp, err := a.Service.Do(ctx, resources.Request{Principal: as, Interaction: resources.SearchType, Type: "Patient", Query: url.Values{
		"_tag": {resources.RegistrationSystem + "|" + resources.Unverified}, "_sort": {"_lastUpdated"}, "_total": {"accurate"}, "_count": {directorySize}}.Encode()})
	if err != nil {
		return nil, 0, err
	}
	list, err := entriesOf(resp.Bundle)
	return list, int(*resp.Bundle.Total), err
}

func entriesOf(b *resources.Bundle) (list []oauth.Entry, err error) {
	for _, e := range b.Entries {
		if e.Version == nil || e.Mode != "match" {
			continue
		}
		one, err := entryOf(e.Version.Type, e.Version.ID, e.Version.Content)
		if err != nil {
			return nil, err
		}
		one.Note = e.Grade
		list = append(list, one)
	}
	return list, nil
}

// Alike finds Patients who may be the same person as a newcomer.
func (a Admissions) Alike(ctx context.Context, as auth.Principal, id string) ([]oauth.Entry, error) {
	newcomer, err := a.newcomer(ctx, as, id)
	if err != nil {
		return nil, err
	}
	resp, err := a.Service.Do(ctx, resources.Request{Principal: as, Interaction: resources.Operate, Operation: "match", Type: "Patient", Safe: true, Body: newcomer})
	if err != nil {
		return nil, err
	}
	list, err := entriesOf(resp.Bundle)
	kept := list[:0]
	for _, e := range list {
		if e.ID != id {
			kept = append(kept, e)
		}
	}
	return kept, err
}

// newcomer reads a Patient who is not verified. Errors: oauth.ErrNoEntry.
func (a Admissions) newcomer(ctx context.Context, as auth.Principal, id string) (*fhir.Node, error) {
	if !fhir.ValidID(id) {
		return nil, oauth.ErrNoEntry
	}
	resp, err := a.Service.Do(ctx, resources.Request{Principal: as, Interaction: resources.Read, Type: "Patient", ID: id})
	if err != nil {
		return nil, noEntry(err)
	}
	n, err := fhir.ParseJSON(resp.Version.Content)
	if err != nil {
		return nil, err
	}
	for tag := range n.Get("meta").Get("tag").Items() {
		if tag.GetText("system") == resources.RegistrationSystem && tag.GetText("code") == resources.Unverified {
			return n, nil
		}
	}
	return nil, oauth.ErrNoEntry
}

// noEntry turns what cannot be seen into oauth.ErrNoEntry.
func noEntry(err error) error {
	var known *fhir.Error
	if errors.As(err, &known) && (known.Kind == fhir.NotFound || known.Kind == fhir.Gone || known.Kind == fhir.Forbidden) {
		return oauth.ErrNoEntry
	}
	return err
}

// Verify takes away the mark of a newcomer.
func (a Admissions) Verify(ctx context.Context, as auth.Principal, id string) error {
	if _, err := a.newcomer(ctx, as, id); err != nil {
		return err
	}
	return a.unmark(ctx, as, id)
}

func (a Admissions) unmark(ctx context.Context, as auth.Principal, id string) error {
	tag := fhir.Obj(fhir.Str(resources.RegistrationSystem).As("system"), fhir.Str(resources.Unverified).As("code"))
	body := fhir.Obj(fhir.Str("Parameters").As("resourceType"), fhir.Arr(
		fhir.Obj(fhir.Str("meta").As("name"), fhir.Obj(fhir.Arr(tag).As("tag")).As("valueMeta"))).As("parameter"))
	_, err := a.Service.Do(ctx, resources.Request{Principal: as, Interaction: resources.Operate, Operation: "meta-delete", Type: "Patient", ID: id, Body: &body})
	return noEntry(err)
}

// Unify makes the record of a newcomer part of another Patient's.
func (a Admissions) Unify(ctx context.Context, as auth.Principal, id, other string) error {
	if err := a.Verify(ctx, as, id); err != nil {
		return err
	}
	reference := func(name, id string) fhir.Node {
		return fhir.Obj(fhir.Str(name).As("name"), fhir.Obj(fhir.Str("Patient/"+id).As("reference")).As("valueReference"))
	}
	body := fhir.Obj(fhir.Str("Parameters").As("resourceType"), fhir.Arr(reference("source-patient", id), reference("target-patient", other),
		fhir.Obj(fhir.Str("reason").As("name"), fhir.Str("Registered by themselves; verified by staff").As("valueString"))).As("parameter"))
	_, err := a.Service.Do(ctx, resources.Request{Principal: as, Interaction: resources.Operate, Operation: "merge", Type: "Patient", Body: &body})
	return noEntry(err)
}

// Reject takes the record of a newcomer out of use.
func (a Admissions) Reject(ctx context.Context, as auth.Principal, id string) error {
	n, err := a.newcomer(ctx, as, id)
	if err != nil {
		return err
	}
	n.Set("active", fhir.Boolean(false))
	if _, err = a.Service.Do(ctx, resources.Request{Principal: as, Interaction: resources.Update, Type: "Patient", ID: id, Body: n}); err != nil {
		return noEntry(err)
	}
	return a.unmark(ctx, as, id)
}
