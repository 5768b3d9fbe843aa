package resources

import (
	"bytes"
	"context"
	"slices"

	"kiln/fhir"
)

// RegistrationSystem and Unverified are the tag of a Patient who registered and whom staff have not verified yet.
const (
	RegistrationSystem = fhir.CanonicalBase + "CodeSystem/registration"
	Unverified         = "unverified"
)

// ofStaff are the elements of a Patient that patients do not write themselves: what they are known by, and to whom they
// are linked.
var ofStaff = []string{"identifier", "link", "active", "deceasedBoolean", "deceasedDateTime"}

// allowPatient is the rule of Patients: one that was merged stays as it is, whichever server has heard of that; patients keep
// their own names and addresses, and leave to staff what says who they are.
func (s *Service) allowPatient(ctx context.Context, c *change) error {
	if c.old != nil && bytes.Contains(c.old.Content, []byte("replaced-by")) {
		target, err := c.tx.MergedInto(ctx, c.key.ID)
		if err != nil {
			return err
		}
		if target != "" {
			return merged("Patient/"+c.key.ID, "Patient/"+target)
		}
	}
	if c.after == nil || !s.isPatient(&c.request.Principal) {
		return nil
	}
	before, err := c.current()
	if err != nil {
		return err
	}
	if before == nil {
		empty := fhir.Obj()
		before = &empty
	}
	for _, name := range ofStaff {
		if !same(before.Get(name), c.after.Get(name)) {
			return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "Patients do not change this themselves; ask the practice").Coded("staff-only").At("Patient." + name)
		}
	}
	if marked(before) != marked(c.after) {
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "That a registration is verified is for staff to say").Coded("staff-only").At("Patient.meta.tag")
	}
	return nil
}

func same(a, b *fhir.Node) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(b)
}

// marked says whether a Patient is not verified.
func marked(n *fhir.Node) bool {
	return slices.ContainsFunc(slices.Collect(n.Get("meta").Get("tag").Items()), func(tag *fhir.Node) bool {
		return tag.GetText("system") == RegistrationSystem && tag.GetText("code") == Unverified
	})
}
