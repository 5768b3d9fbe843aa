package resources

import (
	"context"
	"strings"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// alone shows each patient only themselves in the visits that an answer holds (storage/together.go). Every answer of the
// service goes through it.
func (s *Service) alone(ctx context.Context, resp *Response, err error) (*Response, error) {
	if resp == nil {
		return resp, err
	}
	ctx = acting(ctx, auth.Read)
	var failed error
	show := func(v *storage.Version) *storage.Version {
		shown, err := s.store.Alone(ctx, v)
		if err != nil {
			failed = err
			return nil
		}
		return shown
	}
	var each func(*Response)
	each = func(resp *Response) {
		resp.Version = show(resp.Version)
		if resp.Bundle == nil {
			return
		}
		for i := range resp.Bundle.Entries {
			e := &resp.Bundle.Entries[i]
			if e.Version = show(e.Version); e.Response != nil {
				each(e.Response)
			}
		}
	}
	if each(resp); failed != nil {
		return nil, failed
	}
	return resp, err
}

// keepsOthers refuses what could change, or by its success tell, who else takes part in a visit: all but patches of other
// elements, each named by its path.
func (s *Service) keepsOthers(ctx context.Context, r *Request, old *storage.Version) error {
	together, err := s.store.Together(acting(ctx, auth.Read), old)
	if err != nil || !together || r.intent != nil {
		return err
	}
	if list, err := fhir.ParseJSON(r.JSONPatch); err == nil && list.Kind == fhir.Array {
		apart := true
		for op := range list.Items() {
			for _, name := range []string{"path", "from"} {
				if path := op.Get(name); path != nil {
					first, _, _ := strings.Cut(strings.TrimPrefix(path.Text, "/"), "/")
					apart = apart && first != "" && first != "participant" && first != "contained" && first != "text"
				}
			}
		}
		if apart {
			return nil
		}
	}
	return forbidden("Others take part in this visit. Use $cancel, $reschedule or an AppointmentResponse, or a JSON Patch of other elements").Coded("others-take-part")
}
