package oauth

import (
	"context"
	"errors"
	"strings"

	"kiln/auth"
	"kiln/storage/identity"
)

// charge is a record that a user may open in the role of a patient: the own, or that of somebody whom the user represents.
type charge struct {
	// Link is the resource of the account that it is reached through, Patient the id of the patient.
	Link, Patient string
	// Entry is the patient as pages show it, for the page that offers it.
	Entry Entry
}

// Own says whether the record is the user's own.
func (c charge) Own() bool { return c.Link == "Patient/"+c.Patient }

// charges are the records that an account may open now in the role of a patient, in the order of its links.
func (s *Server) charges(ctx context.Context, a *identity.Account) ([]charge, error) {
	if !a.Has(string(auth.RolePatient)) {
		return nil, nil
	}
	var related []string
	for _, link := range a.FHIRUser {
		if id, is := strings.CutPrefix(link, "RelatedPerson/"); is {
			related = append(related, id)
		}
	}
	represented := map[string]string{}
	if len(related) > 0 {
		var err error
		if represented, err = s.store.Represented(ctx, related); err != nil {
			return nil, err
		}
	}
	var list []charge
	for _, link := range a.FHIRUser {
		typ, id, _ := strings.Cut(link, "/")
		if typ == "RelatedPerson" {
			id = represented[id]
		}
		if (typ == "Patient" || typ == "RelatedPerson") && id != "" {
			list = append(list, charge{Link: link, Patient: id})
		}
	}
	return list, nil
}

// shown are charges with what pages say of them, without those that the user cannot see.
func (s *Server) shown(ctx context.Context, a *identity.Account, list []charge) ([]charge, error) {
	var shown []charge
	for _, c := range list {
		entry, err := s.options.Directory.Entry(ctx, s.as(a, c), "Patient", c.Patient)
		if errors.Is(err, ErrNoEntry) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c.Entry = entry
		shown = append(shown, c)
	}
	return shown, nil
}

// as is the user at Kiln's own pages, acting through one of the account's resources.
func (s *Server) as(a *identity.Account, c charge) auth.Principal {
	p := s.self(a)
	p.FHIRUser, p.Patient = c.Link, c.Patient
	if !c.Own() {
		p.Represents = c.Patient
	}
	return p
}

// charged finds the one that the user picked: by its link or, where the form of old names a patient, by that.
func charged(list []charge, link, patient string) (charge, bool) {
	for _, c := range list {
		if link != "" && c.Link == link || link == "" && c.Patient == patient {
			return c, true
		}
	}
	return charge{}, false
}

// staffLink is the resource that an account stands for at work: the practitioner, else the first.
func staffLink(a *identity.Account) string {
	if link := a.Linked("Practitioner"); link != "" && a.Has(string(auth.RolePractitioner)) {
		return link
	}
	if len(a.FHIRUser) > 0 {
		return a.FHIRUser[0]
	}
	return ""
}
