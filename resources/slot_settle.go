package resources

import (
	"context"
	"slices"

	"kiln/fhir"
	"kiln/storage"
)

// settle brings the Slots over whatever time a transaction took or gave back in step with it. It comes last, when all
// else is done, so that every transaction locks in one order: resources, then time by actor (storage.Tx.Fence), then Slots; and the derived
// states are computed when nobody can change them any more.
func (s *Service) settle(ctx context.Context, tx *storage.Tx) error {
	if !tx.HasTouched() {
		return nil
	}
	if err := tx.Heal(ctx); err != nil {
		return err
	}
	spans, also, err := tx.Touched(ctx)
	if err != nil || len(spans)+len(also) == 0 {
		return err
	}
	locked, names, err := s.lockSlots(ctx, tx, spans, also)
	if err != nil || len(names) == 0 {
		return err
	}
	slots, err := tx.Slots(ctx, names...)
	if err != nil {
		return err
	}
	for _, t := range slots {
		old := locked[keyOf(t.Slot)]
		if t.Status == t.Due && t.Overbooked == t.DueOverbooked || old == nil || old.Deleted {
			continue
		}
		if err := s.restate(tx, t, old); err != nil {
			return err
		}
	}
	return nil
}

// restate writes into a Slot what follows from what is taken: its status, and whether it is overbooked.
func (s *Service) restate(tx *storage.Tx, t storage.SlotTime, old *storage.Version) error {
	n, err := fhir.ParseJSON(old.Content)
	if err != nil {
		return fhir.NewError(fhir.Internal, fhir.CodeException, "A stored resource cannot be read").Because(err)
	}
	n.Set("status", fhir.Str(t.Due))
	if t.Overbooked != t.DueOverbooked {
		n.Set("overbooked", fhir.Boolean(t.DueOverbooked))
	}
	p, err := s.store.Prepare(n)
	if err != nil {
		return err
	}
	tx.Derived(tx.Replace(p, old, storage.MethodUpdate))
	t.Status, t.Overbooked = t.Due, t.DueOverbooked
	tx.SaveSlot(t)
	return nil
}

// lockSlots locks the Slots over some time of their actors, and those named also. Others come to that time only when the fence of the
// actors is down.
func (s *Service) lockSlots(ctx context.Context, tx *storage.Tx, spans []storage.Span, also []string) (map[storage.Key]*storage.Version, []string, error) {
	names, err := tx.SlotsTouched(ctx, spans)
	if err != nil {
		return nil, nil, err
	}
	names = append(names, also...)
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return nil, nil, nil
	}
	keys := make([]storage.Key, len(names))
	for i, n := range names {
		keys[i] = keyOf(n)
	}
	locked, err := tx.LockAll(ctx, keys...)
	return locked, names, err
}
