package resources

import (
	"context"
	"slices"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/resources/records"
	"kiln/resources/scheduling"
)

// clockSkew is how far ahead the clock of a client may be.
const clockSkew = 5 * time.Minute

// recordMeets says whether a condition of the table holds.
//
// Errors: BusinessRule or Forbidden, coded with the condition's name.
func (s *Service) recordMeets(ctx context.Context, r *record, c records.Condition) error {
	no := func(text, at string) error {
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, text).Coded(string(c)).At(r.life.Type + at)
	}
	switch c {
	case records.StatusReason:
		if r.after.Get(r.life.Reason) == nil {
			return no("Say why in "+r.life.Reason, "."+r.life.Reason)
		}
		r.because(r.after.Get(r.life.Reason))
	case records.ChangeReason:
		if r.why = r.changeReason(); r.why == "" {
			for _, p := range s.accompanying(r.change) {
				for reason := range p.Get("reason").Items() {
					if labelOf(reason) != "" {
						return nil // it is kept there
					}
				}
			}
			return no("What was signed changes with a reason only: send the extension "+fhir.ChangeReasonExtension+" with a text of its own, or a Provenance with a reason in X-Provenance or the same transaction", ".extension")
		}
	case records.Unconfirmed:
		said := 0
		for code := range references(r.after, []string{"verificationStatus", "coding", "code"}) {
			if said++; code.Text != "unconfirmed" {
				said = 0
				break
			}
		}
		if said > 0 {
			return nil
		}
		return no("What patients report is unconfirmed until a practitioner confirms it", ".verificationStatus")
	case records.Prescriber:
		return s.prescribes(ctx, r)
	case records.Safety:
		return s.checkSafety(ctx, r)
	}
	return nil
}

// changeReason is the reason for this change: one that the version before does not carry.
func (r *record) changeReason() string {
	text := extensionText(r.after, fhir.ChangeReasonExtension)
	if text == "" || r.before != nil && text == extensionText(r.before, fhir.ChangeReasonExtension) {
		return ""
	}
	return text
}

// extensionText is the valueString of an extension, without blanks around it.
func extensionText(n *fhir.Node, url string) string {
	for e := range n.Get("extension").Items() {
		if e.GetText("url") == url {
			return strings.TrimSpace(e.GetText("valueString"))
		}
	}
	return ""
}

const (
	practitionerRoles = "http://terminology.hl7.org/CodeSystem/practitioner-role"
	prescriberRole    = "doctor"
)

// prescribes asks the PractitionerRoles of the caller: whoever has one of the standard codes there needs that of a doctor.
func (s *Service) prescribes(ctx context.Context, r *record) error {
	p := &r.request.Principal
	if p.IsOperator() {
		return nil
	}
	resp, err := s.searchIn(everything(ctx), r.tx, Request{Interaction: SearchType, Type: "PractitionerRole",
		Query: "practitioner=" + p.FHIRUser + "&active=true&_count=100", Principal: *p})
	if err != nil {
		return err
	}
	var has []string
	for _, e := range resp.Bundle.Entries {
		n, err := fhir.ParseJSON(e.Version.Content)
		if err != nil {
			return unreadable(err)
		}
		for c := range references(n, []string{"code", "coding"}) {
			if c.GetText("system") == practitionerRoles {
				has = append(has, c.GetText("code"))
			}
		}
	}
	if len(has) > 0 && !slices.Contains(has, prescriberRole) {
		return fhir.NewError(fhir.Forbidden, fhir.CodeForbidden,
			"Only a prescriber makes a prescription active: the roles of this practitioner do not include that of a doctor").
			Coded(string(records.Prescriber)).At("MedicationRequest.status")
	}
	return nil
}

func unreadable(cause error) *fhir.Error {
	return fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(cause)
}

// recordedInTime keeps the time at which a record was written down from lying ahead.
func (s *Service) recordedInTime(r *record) error {
	if r.life.Recorded == "" {
		return nil
	}
	at, ok := fhir.ParseDateTime(r.after.GetText(r.life.Recorded), time.UTC)
	if ok && at.Time.After(s.now().Add(clockSkew)) && (at.Precision > fhir.PrecisionDay || at.Time.After(s.now().Add(14*time.Hour))) {
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "A record cannot have been written down in the future").
			Coded("recorded-in-future").At(r.life.Type + "." + r.life.Recorded)
	}
	return nil
}

// authored keeps callers from writing in the name of others.
func (s *Service) authored(ctx context.Context, r *record) error {
	a := r.life.Author
	if !a.Own || r.who&scheduling.Admin != 0 {
		return nil
	}
	names := s.authors(a, r.after)
	if r.before != nil && slices.Equal(names, s.authors(a, r.before)) {
		return nil
	}
	var others []string
	for _, name := range names {
		switch typeOf(name) {
		case "Practitioner", "PractitionerRole":
			if mine, err := s.isMine(ctx, r, name); err != nil || mine {
				return err
			}
			others = append(others, name)
		case "Patient", "RelatedPerson":
			if r.who&scheduling.Practitioner == 0 && name != r.request.Principal.FHIRUser && !r.request.Principal.ActsFor(name) {
				others = append(others, name)
			}
		}
	}
	if len(others) == 0 || s.lets(r, others) {
		return nil
	}
	return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule,
		"Records are written in one's own name: leave "+a.Element+" out, or name yourself; for others with a Provenance, in X-Provenance or the same transaction, that says on behalf of whom").
		Coded("not-the-author").At(r.life.Type + "." + a.Element)
}

// lets says whether a Provenance that comes with the record says that the caller acts on behalf of one of those named.
func (s *Service) lets(r *record, others []string) bool {
	self := r.request.Principal.FHIRUser
	for _, p := range s.accompanying(r.change) {
		for agent := range p.Get("agent").Items() {
			if self != "" && s.local(agent.Get("who")) == self && slices.Contains(others, s.local(agent.Get("onBehalfOf"))) {
				return true
			}
		}
	}
	return false
}

// accompanying are the new Provenances of a record: that of the header X-Provenance, and those in the transaction that
// writes it.
func (s *Service) accompanying(c *change) (list []*fhir.Node) {
	if c.request.part == nil {
		if c.request.Provenance != nil {
			list = append(list, c.request.Provenance)
		}
		return list
	}
	if p := c.request.part.of.provenance; p != nil {
		list = append(list, p)
	}
	for _, e := range c.request.part.of.entries {
		if e.req.Interaction != Create || e.req.Type != "Provenance" {
			continue
		}
		for target := range e.req.Body.Get("target").Items() {
			if s.local(target) == c.key.Type+"/"+c.key.ID {
				list = append(list, e.req.Body)
			}
		}
	}
	return list
}

// isMine says whether a reference stands for the caller: itself, or one of its roles.
func (s *Service) isMine(ctx context.Context, r *record, name string) (bool, error) {
	self := r.request.Principal.FHIRUser
	if name == self || typeOf(name) != "PractitionerRole" || self == "" {
		return name == self && self != "", nil
	}
	found, err := s.readAll(ctx, r.tx, name)
	if err != nil {
		return false, err
	}
	return s.local(found[name].Get("practitioner")) == self, nil
}

// authors are those whom a record names as its authors, as far as they are known here.
func (s *Service) authors(a records.Author, n *fhir.Node) []string {
	path := []string{a.Element}
	if a.Part != "" {
		path = append(path, a.Part)
	}
	var list []string
	for ref := range references(n, path) {
		if name := s.local(ref); name != "" {
			list = append(list, name)
		}
	}
	return list
}
