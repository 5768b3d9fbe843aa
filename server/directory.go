package server

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"kiln/auth"
	"kiln/auth/oauth"
	"kiln/fhir"
	"kiln/resources"
)

// directorySize is how many entries the pages list at most.
const directorySize = "25"

// Directory lets the pages of the authorization server look things up in the records: through the service, as the
// person at the page, so that they see there what they would see by the API.
type Directory struct{ Service Doer }

// Patients finds patients whose name or identifier begins with text; all of them for "".
func (d Directory) Patients(ctx context.Context, as auth.Principal, text string) ([]oauth.Entry, error) {
	if text == "" {
		return d.search(ctx, as, "Patient", url.Values{"_sort": {"family"}})
	}
	value := escapeValue(text)
	found, err := d.search(ctx, as, "Patient", url.Values{"name": {value}, "_sort": {"family"}})
	if err != nil || len(found) > 0 {
		return found, err
	}
	if words := strings.Fields(text); len(words) > 1 { // "Ada Okafor": each word somewhere in the name
		query := url.Values{"_sort": {"family"}}
		for _, word := range words {
			query.Add("name", escapeValue(word))
		}
		if found, err = d.search(ctx, as, "Patient", query); err != nil || len(found) > 0 {
			return found, err
		}
	}
	return d.search(ctx, as, "Patient", url.Values{"identifier": {value}})
}

// Entry describes one resource. Errors: oauth.ErrNoEntry.
func (d Directory) Entry(ctx context.Context, as auth.Principal, resourceType, id string) (oauth.Entry, error) {
	if !fhir.ValidID(id) {
		return oauth.Entry{}, oauth.ErrNoEntry
	}
	resp, err := d.Service.Do(ctx, resources.Request{Interaction: resources.Read, Type: resourceType, ID: id, Principal: as})
	var known *fhir.Error
	switch {
	case errors.As(err, &known) && (known.Kind == fhir.NotFound || known.Kind == fhir.Gone || known.Kind == fhir.Forbidden):
		return oauth.Entry{}, oauth.ErrNoEntry
	case err != nil:
		return oauth.Entry{}, err
	case resp == nil || resp.Version == nil || resp.Version.Deleted:
		return oauth.Entry{}, oauth.ErrNoEntry
	}
	return entryOf(resp.Version.Type, resp.Version.ID, resp.Version.Content)
}

// Visits lists encounters and appointments of a patient, newest first.
func (d Directory) Visits(ctx context.Context, as auth.Principal, patient string) ([]oauth.Entry, error) {
	encounters, err := d.search(ctx, as, "Encounter", url.Values{"patient": {patient}, "_sort": {"-date"}})
	if err != nil {
		return nil, err
	}
	appointments, err := d.search(ctx, as, "Appointment", url.Values{"actor": {"Patient/" + patient}, "_sort": {"-date"}})
	return append(encounters, appointments...), err
}

// HasVisit says whether an encounter or appointment is one of a patient, and one that as may see.
func (d Directory) HasVisit(ctx context.Context, as auth.Principal, patient, reference string) (bool, error) {
	typ, id, _ := strings.Cut(reference, "/")
	query := url.Values{"_id": {id}}
	switch {
	case !fhir.ValidID(id):
		return false, nil
	case typ == "Encounter":
		query.Set("patient", patient)
	case typ == "Appointment":
		query.Set("actor", "Patient/"+patient)
	default:
		return false, nil
	}
	found, err := d.search(ctx, as, typ, query)
	return len(found) == 1, err
}

func (d Directory) search(ctx context.Context, as auth.Principal, typ string, query url.Values) ([]oauth.Entry, error) {
	query.Set("_count", directorySize)
	resp, err := d.Service.Do(ctx, resources.Request{
		Interaction: resources.SearchType, Type: typ, Query: query.Encode(), Principal: as,
	})
	var known *fhir.Error
	if errors.As(err, &known) && (known.Kind == fhir.Forbidden || known.Kind == fhir.Invalid) {
		return nil, nil // nothing that this person may see, or nothing that a person would search for
	}
	if err != nil || resp.Bundle == nil {
		return nil, err
	}
	var list []oauth.Entry
	for _, e := range resp.Bundle.Entries {
		if e.Version == nil || e.Version.Type != typ {
			continue
		}
		one, err := entryOf(typ, e.Version.ID, e.Version.Content)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, nil
}

// escapeValue writes a text as a search value that means just that.
func escapeValue(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `$`, `\$`, `|`, `\|`).Replace(s)
}

func entryOf(typ, id string, content []byte) (oauth.Entry, error) {
	n, err := fhir.ParseJSON(content)
	if err != nil {
		return oauth.Entry{}, err
	}
	e := oauth.Entry{Type: typ, ID: id}
	switch typ {
	case "Encounter":
		e.Name = "Visit"
		if start := n.Get("period").Get("start"); start != nil {
			e.Name += " of " + day(start.Text)
		}
		e.Detail = n.GetText("status")
	case "Appointment":
		e.Name = "Appointment"
		if start := n.Get("start"); start != nil {
			e.Name += " of " + day(start.Text)
		}
		e.Detail = n.GetText("status")
	default:
		e.Name = humanName(n)
		if e.Name == "" {
			e.Name = typ + "/" + id
		}
		var parts []string
		if born := n.GetText("birthDate"); born != "" {
			parts = append(parts, "born "+born)
		}
		if gender := n.GetText("gender"); gender != "" {
			parts = append(parts, gender)
		}
		e.Detail = strings.Join(parts, ", ")
	}
	return e, nil
}

// day is the date of an instant or dateTime.
func day(s string) string {
	day, _, _ := strings.Cut(s, "T")
	return day
}

// humanName is the name that a resource goes by: the official or usual one, else the first.
func humanName(n *fhir.Node) string {
	names := n.Get("name")
	if names == nil {
		return ""
	}
	best, rank := "", -1
	for name := range names.Items() {
		r := 0
		switch name.GetText("use") {
		case "official":
			r = 2
		case "usual":
			r = 1
		}
		if r <= rank {
			continue
		}
		text := name.GetText("text")
		if text == "" {
			var parts []string
			if given := name.Get("given"); given != nil {
				for g := range given.Items() {
					parts = append(parts, g.Text)
				}
			}
			text = strings.TrimSpace(strings.Join(append(parts, name.GetText("family")), " "))
		}
		if text != "" {
			best, rank = text, r
		}
	}
	return best
}
