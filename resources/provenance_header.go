package resources

import (
	"context"
	"strconv"

	"kiln/fhir"
	"kiln/storage"
)

// attest writes the Provenance that came with a request (X-Provenance), in the same transaction: of all that the request
// has written, in the versions that it made. It is judged like any create of a Provenance. What changed nothing has none.
// Spec: FHIR R4 provenance.html#6.3.4.6.
//
// Errors: Forbidden; Invalid and Unprocessable with what is wrong with it.
func (s *Service) attest(ctx context.Context, tx *storage.Tx, r *Request, resp *Response) error {
	if r.Provenance == nil || resp == nil {
		return nil
	}
	var targets []fhir.Node
	for _, v := range written(resp) {
		targets = append(targets, reference(versioned(v)))
	}
	if len(targets) == 0 {
		return nil
	}
	n := r.Provenance.Clone()
	n.Set("id", fhir.Str(s.options.NewID()))
	n.Set("target", fhir.Arr(targets...))
	if n.Get("recorded") == nil {
		n.Set("recorded", fhir.Str(fhir.FormatInstant(s.now())))
	}
	own := Request{Interaction: Create, Type: "Provenance", Body: &n, Principal: r.Principal, Lenient: r.Lenient}
	inner, err := authorize(ctx, &own)
	if err != nil {
		return err
	}
	if _, err := s.validate(inner, tx, &n); err != nil {
		return err
	}
	p, err := s.store.Prepare(&n)
	if err != nil {
		return err
	}
	made, err := s.put(inner, tx, &own, p, nil, storage.MethodCreate)
	if err != nil {
		return err
	}
	resp.attested = made.Version
	return nil
}

// versioned is a reference to a version.
func versioned(v *storage.Version) string {
	return v.Type + "/" + v.ID + "/_history/" + strconv.Itoa(v.Number)
}

// written are the versions that a request made.
func written(resp *Response) (list []*storage.Version) {
	if resp.Bundle != nil {
		for i := range resp.Bundle.Entries {
			e := &resp.Bundle.Entries[i]
			if e.Interaction.writes() && e.Response != nil {
				list = append(list, written(e.Response)...)
			}
		}
		return list
	}
	if len(resp.touched) > 0 {
		return resp.touched
	}
	if resp.Version != nil && !resp.Unchanged && !resp.existed {
		list = append(list, resp.Version)
	}
	return list
}
