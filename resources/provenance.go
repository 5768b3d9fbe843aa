package resources

import (
	"context"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// testify writes, in the same transaction, who brought a change of a resource about, and by what: source is a resource,
// or why says it.
func (s *Service) testify(ctx context.Context, tx *storage.Tx, who *auth.Principal, target, source, why string) error {
	agent := fhir.Obj()
	switch {
	case who.FHIRUser != "":
		agent = reference(who.FHIRUser)
	case who.Name != "":
		agent.Set("display", fhir.Str(who.Name))
	default:
		agent.Set("display", fhir.Str("a client without a user"))
	}
	n := fhir.Obj(fhir.Str("Provenance").As("resourceType"), fhir.Str(s.options.NewID()).As("id"),
		fhir.Arr(reference(target)).As("target"), fhir.Str(fhir.FormatInstant(s.now())).As("recorded"))
	if why != "" {
		n.Set("reason", fhir.Arr(fhir.Obj(fhir.Str(why).As("text"))))
	}
	n.Set("agent", fhir.Arr(fhir.Obj(agent.As("who"))))
	if source != "" {
		n.Set("entity", fhir.Arr(fhir.Obj(fhir.Str("source").As("role"), reference(source).As("what"))))
	}
	p, err := s.store.Prepare(&n)
	if err != nil {
		return err
	}
	if err := tx.Inherit(everything(ctx), p); err != nil {
		return err
	}
	tx.Insert(p, storage.MethodCreate)
	return nil
}
