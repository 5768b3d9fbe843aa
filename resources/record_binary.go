package resources

import (
	"context"

	"kiln/fhir"
	"kiln/resources/records"
)

// allowBinary keeps the file of a signed document as it was when it was signed: a Binary belongs to the document that its
// securityContext names.
func (s *Service) allowBinary(ctx context.Context, c *change) error {
	before, err := c.current()
	if err != nil || before == nil {
		return err
	}
	name := s.local(before.Get("securityContext"))
	life := s.lives[typeOf(name)]
	if life == nil || len(life.Fixed) == 0 {
		return nil
	}
	found, err := s.readAll(ctx, c.tx, name)
	if err != nil || found[name] == nil {
		return err
	}
	state := life.State(found[name])
	if !life.IsFixed(state) {
		return nil
	}
	r := &record{change: c, life: &records.Lifecycle{Type: "Binary", Signed: []records.State{state}}, from: state}
	if c.after == nil {
		return r.mayDelete()
	}
	a, b := unstamped(before), unstamped(c.after)
	if a.Equal(&b) {
		return nil
	}
	return fhir.NewError(fhir.Conflict, fhir.CodeConflict,
		"The document that this file belongs to is "+string(state)+", which is signed: the file stays as it is; add another one").
		Coded("illegal-transition").At("Binary")
}
