package resources

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/storage"
)

const (
	watchEvery = time.Second
	// changesAtOnce is how many changes are held against the criteria at a time.
	changesAtOnce = 200
	// maxBacklog is how many events may wait for an endpoint: beyond, its Subscription ends.
	maxBacklog = 100_000
)

// watchSubscriptions looks for events until ctx ends. What changes is found in the log of changes, so that writes have
// nothing more to do; several servers take turns.
func (s *Service) watchSubscriptions(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.Watch(ctx); err != nil && ctx.Err() == nil && s.options.Messages.Logger != nil {
			s.options.Messages.Logger.LogAttrs(ctx, slog.LevelError, "look for events of Subscriptions: failed and will be tried again", slog.Any("error", err))
		}
	}
}

// Watch is one round of watchSubscriptions.
func (s *Service) Watch(ctx context.Context) error {
	if s.options.Messages.Hooks == nil {
		return nil
	}
	ctx = everything(ctx)
	list, err := s.store.Subscriptions(ctx)
	if err != nil {
		return err
	}
	for _, v := range list {
		if v.Status == subRequested {
			continue
		}
		if err := s.watchOne(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

// watchOne looks at the changes that a Subscription has not been looked at with, and orders a call where there is
// something to tell, or where there has been nothing for as long as its heartbeat says.
func (s *Service) watchOne(ctx context.Context, v *storage.Subscription) error {
	has, err := s.store.HasChanges(ctx, v)
	if err != nil {
		return err
	}
	if has {
		if err := s.findEvents(ctx, v.ID); err != nil {
			return err
		}
	}
	return s.store.Write(ctx, func(tx *storage.Tx) error {
		v, err := tx.LockSubscription(ctx, v.ID)
		switch {
		case err != nil || v == nil || v.Status == subOff:
			return err
		case v.Events-v.Delivered > maxBacklog:
			return s.setSubscription(ctx, tx, v.ID, subOff, "The endpoint has not taken events for too long")
		case v.Events > v.Delivered:
			return tx.Enqueue(ctx, hookJob(v.ID, hookEvents, 0))
		case v.Beat > 0 && s.now().Sub(v.Called) >= v.Beat:
			return tx.Enqueue(ctx, hookJob(v.ID, hookHeartbeat, 0))
		}
		return nil
	})
}

// findEvents holds the next changes against the criteria, with the rights that the subscriber has now.
func (s *Service) findEvents(ctx context.Context, id string) error {
	settled, err := s.store.Settled(ctx)
	if err != nil {
		return err
	}
	return s.store.Write(ctx, func(tx *storage.Tx) error {
		v, err := tx.LockSubscription(ctx, id)
		if err != nil || v == nil || v.Status == subOff {
			return err
		}
		found, err := s.readAll(ctx, tx, "Subscription/"+id)
		if err != nil || found["Subscription/"+id] == nil {
			return err
		}
		changes, err := tx.Changes(ctx, v, settled, changesAtOnce)
		if err != nil || len(changes) == 0 {
			return err
		}
		h, _ := readHook(found["Subscription/"+id])
		events, err := s.matching(ctx, tx, v, h, changes)
		if err == errNoRights {
			return s.setSubscription(ctx, tx, id, subOff, "The subscriber may not read this any more")
		}
		if _, refused := err.(*fhir.Error); refused && fhir.KindOf(err) == fhir.Invalid {
			return s.setSubscription(ctx, tx, id, subOff, "The criteria are no search of this server any more")
		}
		if err != nil || len(events) == 0 {
			return err
		}
		tx.AddEvents(v, events)
		return nil
	})
}

// matching are the changes that are events, of resources that the subscriber may know of now: those whose resources match the
// criteria now, of several changes of one resource the last; of a topic all that make one.
func (s *Service) matching(ctx context.Context, tx *storage.Tx, v *storage.Subscription, h *hook, changes []storage.Change) ([]storage.Change, error) {
	owned, err := s.asOwner(ctx, v.Owner, h.types)
	if err != nil {
		return nil, err
	}
	if h.topic == nil {
		return s.lastMatching(owned, h, changes)
	}
	happened, err := s.happenings(ctx, tx, h, changes)
	if err != nil {
		return nil, err
	}
	known := map[storage.Key]bool{}
	for _, typ := range h.types {
		var ids []string
		for _, c := range happened {
			if c.Type == typ && !slices.Contains(ids, c.ID) {
				ids = append(ids, c.ID)
			}
		}
		if len(ids) == 0 {
			continue
		}
		// On a connection of its own: the transaction is the server's, the search the subscriber's.
		keys, err := s.match(owned, nil, typ, "_id="+strings.Join(ids, ","), len(ids))
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			known[k] = true
		}
	}
	return slices.DeleteFunc(happened, func(c storage.Change) bool { return !known[c.Key] }), nil
}

func (s *Service) lastMatching(ctx context.Context, h *hook, changes []storage.Change) ([]storage.Change, error) {
	last := map[string]int{}
	for i, c := range changes {
		last[c.ID] = i
	}
	ids := make([]string, 0, len(last))
	for id := range last {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	keys, err := s.match(ctx, nil, h.types[0], h.criteria+"&_id="+strings.Join(ids, ","), len(ids))
	if err != nil {
		return nil, err
	}
	places := make([]int, len(keys))
	for i, k := range keys {
		places[i] = last[k.ID]
	}
	slices.Sort(places)
	events := make([]storage.Change, len(places))
	for i, place := range places {
		events[i] = changes[place]
	}
	return events, nil
}

// setSubscription writes what the server says of a Subscription.
func (s *Service) setSubscription(ctx context.Context, tx *storage.Tx, id, status, fault string) error {
	key := storage.Key{Type: "Subscription", ID: id}
	locked, err := tx.LockAll(ctx, key)
	if err != nil || locked[key] == nil || locked[key].Deleted {
		return err
	}
	n, err := fhir.ParseJSON(locked[key].Content)
	if err != nil || n.GetText("status") == status && n.GetText("error") == fault || n.GetText("status") == subOff {
		return err
	}
	if n.Remove("error"); fault != "" {
		n.Set("error", fhir.Str(fault))
	}
	n.Set("status", fhir.Str(status))
	p, err := s.store.Prepare(n)
	if err != nil {
		return err
	}
	if err := tx.Inherit(ctx, p); err != nil {
		return err
	}
	tx.Replace(p, locked[key], storage.MethodUpdate)
	tx.SetSubscriptionStatus(id, status)
	return nil
}
