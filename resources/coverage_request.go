package resources

import (
	"context"
	"fmt"
	"slices"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/coverage"
	"kiln/storage"
)

// maxSubmitted is how many requests one call of $submit may bring.
const maxSubmitted = 20

// submitEligibility is CoverageEligibilityRequest/$submit: it stores a request as POST does, puts it to the payer, and answers
// with the stored response. A Bundle of requests gives a Bundle of responses, in its order.
//
// Errors: as create; Forbidden for who may not read the response.
func (s *Service) submitEligibility(ctx context.Context, c *call) (*Response, error) {
	if err := permitted(ctx, auth.Read, "CoverageEligibilityResponse"); err != nil {
		return nil, err
	}
	n := c.resource("resource")
	switch n.ResourceType() {
	case "CoverageEligibilityRequest":
		v, err := s.submitOne(ctx, c, n, "")
		return &Response{Version: v}, err
	case "Bundle":
	default:
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeInvalid, "$submit takes a CoverageEligibilityRequest, or a Bundle of them").At("Parameters.parameter[0].resource")
	}
	answer := &Bundle{Type: "collection"}
	entries := slices.Collect(n.Get("entry").Items())
	if len(entries) > maxSubmitted {
		return nil, fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, fmt.Sprintf("$submit takes %d requests at most", maxSubmitted)).Coded("too-many-requests").At("Bundle.entry")
	}
	for i, e := range entries {
		if typ := e.Get("resource").ResourceType(); typ != "CoverageEligibilityRequest" {
			return nil, fhir.NewError(fhir.Invalid, fhir.CodeNotSupported, "A Bundle for $submit holds nothing but CoverageEligibilityRequests: what they refer to is stored here before").
				At(fmt.Sprintf("Bundle.entry[%d].resource", i))
		}
	}
	for i, e := range entries {
		v, err := s.submitOne(ctx, c, e.Get("resource"), fmt.Sprintf("#%d", i))
		if err != nil {
			return nil, atEntry(err, i)
		}
		answer.Entries = append(answer.Entries, Entry{Version: v})
	}
	return &Response{Bundle: answer}, nil
}

func (s *Service) submitOne(ctx context.Context, c *call, n *fhir.Node, suffix string) (*storage.Version, error) {
	r := Request{Principal: c.Principal, Interaction: Create, Type: "CoverageEligibilityRequest", Body: n}
	if c.IdempotencyKey != "" {
		r.IdempotencyKey = c.IdempotencyKey + suffix
	}
	if n.GetText("status") != "active" {
		return nil, fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "Only an active request is put to a payer").Coded("not-active").At("CoverageEligibilityRequest.status")
	}
	inner, err := authorize(ctx, &r)
	if err != nil {
		return nil, err
	}
	resp, err := s.create(inner, r)
	if err != nil {
		return nil, err
	}
	var row *storage.CoverageAnswer
	request := resp.Version.Type + "/" + resp.Version.ID
	err = s.store.Write(everything(ctx), func(tx *storage.Tx) (err error) {
		row, err = tx.AnswerTo(everything(ctx), request)
		return err
	})
	if err != nil {
		return nil, err
	}
	if row == nil || row.Response == "" {
		return nil, fhir.NewError(fhir.Transient, fhir.CodeTransient, "The request is stored as "+request+", and has no answer yet; search for the CoverageEligibilityResponse with this request")
	}
	v, err := s.store.Read(acting(ctx, auth.Read), "CoverageEligibilityResponse", keyOf(row.Response).ID)
	if err == nil && v == nil {
		err = forbidden("The token does not allow to read the answer, which is stored with the request " + request)
	}
	return v, err
}

// allowEligibilityRequest is the rule of CoverageEligibilityRequests: they are about coverages of their patient that the caller
// may see.
func (s *Service) allowEligibilityRequest(ctx context.Context, c *change) error {
	if c.after == nil || !asks(c) {
		return nil
	}
	patient, insurer := s.local(c.after.Get("patient")), s.local(c.after.Get("insurer"))
	if typeOf(patient) != "Patient" {
		return fhir.NewError(fhir.BusinessRule, fhir.CodeNotFound, "A question to a payer is about a Patient of this server").Coded("unknown-patient").At("CoverageEligibilityRequest.patient")
	}
	keys := []storage.Key{keyOf(patient)}
	for i := range c.after.Get("insurance").Items() {
		name := s.local(i.Get("coverage"))
		if typeOf(name) != "Coverage" {
			return fhir.NewError(fhir.BusinessRule, fhir.CodeNotFound, "A question to a payer is about a Coverage of this server").Coded("unknown-coverage").At("CoverageEligibilityRequest.insurance.coverage")
		}
		keys = append(keys, keyOf(name))
	}
	seen, err := c.tx.Read(acting(ctx, auth.Read), keys...)
	if err != nil {
		return err
	}
	for _, k := range keys {
		v := seen[k]
		if v == nil || v.Deleted {
			if c.request.Principal.IsOperator() { // who copies records from elsewhere asks nobody
				c.idle = true
				return nil
			}
			return notFound(k)
		}
		if k.Type != "Coverage" {
			continue
		}
		n, err := fhir.ParseJSON(v.Content)
		if err != nil {
			return fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
		}
		if s.local(n.Get("beneficiary")) != patient {
			return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "This coverage is not the patient's: ask about one whose beneficiary the patient is").
				Coded(string(coverage.Mismatch)).At("CoverageEligibilityRequest.insurance.coverage")
		}
		if payor := s.payorOf(n); payor != "" && payor != insurer {
			return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "The insurer is not the payor of this coverage").
				Coded("not-the-payor").At("CoverageEligibilityRequest.insurer")
		}
	}
	return nil
}

// asks says whether a write puts a question: a new request that is active. An update stores what is written, as imports do.
func asks(c *change) bool {
	return c.old == nil && c.request.Interaction == Create && c.after.GetText("status") == "active"
}

// followEligibilityRequest has the question put to its payer when the transaction is done. A request that is changed is
// another question: its answer counts no more.
func (s *Service) followEligibilityRequest(_ context.Context, c *change) error {
	name := c.key.Type + "/" + c.key.ID
	if c.after == nil || !asks(c) || c.idle {
		c.tx.DropAnswer(name)
		return nil
	}
	c.tx.SaveAnswer(&storage.CoverageAnswer{Request: name, Outcome: coverage.Queued, Asked: s.now(), Due: s.now().Add(askLease)})
	c.tx.Note(submitted(name))
	return nil
}

// followEligibilityResponse makes sure that nothing which a client writes counts as a payer's answer: those are written
// without this rule.
func (s *Service) followEligibilityResponse(_ context.Context, c *change) error {
	c.tx.DropAnswer(c.key.Type + "/" + c.key.ID)
	return nil
}

// followCoverage looks again at the visits that a changed coverage pays for, or might.
func (s *Service) followCoverage(ctx context.Context, c *change) error {
	before, err := c.current()
	if err != nil {
		return err
	}
	if before != nil {
		c.tx.RecheckCoverage(c.key.Type + "/" + c.key.ID)
	}
	for _, n := range []*fhir.Node{before, c.after} {
		if patient := s.local(n.Get("beneficiary")); typeOf(patient) == "Patient" {
			c.tx.RecheckPatient(patient)
		}
	}
	return nil
}
