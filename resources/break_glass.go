package resources

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// glassLife is how long a record stays open once a clinician has broken the glass for it.
const glassLife = 30 * time.Minute

// breakGlass opens the record of the one patient that a request is about, where the request says that this is an
// emergency. From then on the rule of the views lets the practitioner through as one who treats the patient, whatever
// Consents and labels say. docs/access.md tells the rules.
//
// Errors: Forbidden for who is no practitioner; Invalid where the request is not about one patient.
func (s *Service) breakGlass(ctx context.Context, r *Request) error {
	p := &r.Principal
	if p.BreakGlass == nil {
		return nil
	}
	if typ, _ := p.Self(); !p.Has(auth.RolePractitioner) || typ != "Practitioner" {
		return forbidden("Only practitioners may break the glass").Coded("break-glass")
	}
	patients, err := s.patientsConcerned(ctx, r)
	if err != nil || len(patients) == 0 { // nothing there to open; the answer is that without the header
		return err
	}
	if len(patients) > 1 {
		return aboutOne()
	}
	e := NewAct(s.now(), *p, ActBreakGlass, "")
	e.Request, e.Address, e.Patients, e.Reason = RequestID(ctx), clientAddress(ctx), patients, p.BreakGlass.Reason
	p.BreakGlass.Expires, err = s.store.BreakGlass(ctx, storage.BreakGlass{
		Caller: p.Caller(), Practitioner: p.FHIRUser, Patient: patients[0], Purpose: p.BreakGlass.Purpose, Reason: p.BreakGlass.Reason,
	}, glassLife, e)
	return err
}

func aboutOne() *fhir.Error {
	return fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "X-Break-Glass is for a request about one patient: Patient/[id], something of the record by its id, "+
		"or a search with patient=[id] or in the compartment Patient/[id]").At("http.X-Break-Glass").Coded("break-glass-patient")
}

// patientsConcerned are the patients whose record a request is about; none where it is about one that does not exist, or
// about something that is nobody's.
func (s *Service) patientsConcerned(ctx context.Context, r *Request) ([]string, error) {
	var patients []string
	switch {
	case r.Interaction == Batch || r.Interaction == Transaction || r.Interaction == Create:
		return nil, aboutOne()
	case r.ID != "" && fhir.ValidID(r.ID):
		return s.store.PatientsOf(ctx, r.Type, r.ID)
	}
	named := s.namedPatients(r)
	if r.Principal.Patient != "" && len(named) == 0 {
		named = []string{r.Principal.Patient}
	}
	if len(named) == 0 {
		return nil, aboutOne()
	}
	for _, id := range named {
		found, err := s.store.PatientsOf(ctx, "Patient", id)
		if err != nil {
			return nil, err
		}
		patients = append(patients, found...)
	}
	slices.Sort(patients)
	return slices.Compact(patients), nil
}

// maxGlassesShown is how many claims one answer of $break-glass-grants has.
const maxGlassesShown = 500

// listGlasses is $break-glass-grants, for those who review them.
func (s *Service) listGlasses(ctx context.Context, c *call) (*Response, error) {
	ctx, err := s.administers(ctx, &c.Principal)
	if err != nil {
		return nil, err
	}
	grants, err := s.store.Glasses(ctx, c.is("reviewed"), maxGlassesShown)
	if err != nil {
		return nil, err
	}
	list := make([]fhir.Node, len(grants))
	for i, g := range grants {
		parts := []fhir.Node{
			named("id", "valueString", fhir.Str(strconv.FormatInt(g.ID, 10))),
			named("practitioner", "valueReference", reference(g.Practitioner)),
			named("patient", "valueReference", reference(g.Patient)),
			named("purpose", "valueCode", fhir.Str(g.Purpose)),
			named("reason", "valueString", fhir.Str(g.Reason)),
			named("created", "valueInstant", fhir.Str(fhir.FormatInstant(g.Created))),
			named("expires", "valueInstant", fhir.Str(fhir.FormatInstant(g.Expires))),
		}
		if !g.Reviewed.IsZero() {
			parts = append(parts, named("reviewed", "valueInstant", fhir.Str(fhir.FormatInstant(g.Reviewed))),
				named("reviewer", "valueString", fhir.Str(g.Reviewer)), named("verdict", "valueString", fhir.Str(g.Verdict)))
		}
		list[i] = fhir.Obj(fhir.Str("grant").As("name"), fhir.Arr(parts...).As("part"))
	}
	return &Response{Resource: parameters(list...)}, nil
}

// maxVerdict is how many characters a verdict has.
const maxVerdict = 2000

// reviewGlass is $break-glass-review: somebody else than the practitioner has looked at a claim.
func (s *Service) reviewGlass(ctx context.Context, c *call) (*Response, error) {
	ctx, err := s.administers(ctx, &c.Principal)
	if err != nil {
		return nil, err
	}
	id, err := strconv.ParseInt(c.text("grant"), 10, 64)
	if err != nil {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue, "grant is the id that $break-glass-grants tells").At("Parameters")
	}
	verdict := strings.TrimSpace(c.text("verdict"))
	if verdict == "" || len(verdict) > maxVerdict {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue, "verdict has 1 to 2000 characters").At("Parameters")
	}
	reviewer := c.Principal.FHIRUser
	if reviewer == "" {
		reviewer = c.Principal.Name
	}
	e := NewAct(s.now(), c.Principal, ActReview, "grant "+strconv.FormatInt(id, 10))
	e.Request, e.Address = RequestID(ctx), clientAddress(ctx)
	if err := s.store.ReviewGlass(ctx, id, reviewer, c.Principal.FHIRUser, verdict, e); err != nil {
		return nil, err
	}
	return &Response{Issues: []fhir.Issue{{Severity: fhir.SeverityInformation, Code: fhir.CodeInformational, Text: "The grant is marked as reviewed"}}}, nil
}
