package resources

import (
	"context"
	"log/slog"
	"time"

	"kiln/resources/message"
	"kiln/storage"
)

const (
	planEvery = 10 * time.Minute
	// planAtOnce is how many visits are planned for in one round.
	planAtOnce = 500
)

// planReminders plans the reminders of visits that came without, now and every ten minutes until ctx ends: an import
// tells nobody, but its visits take place.
func (s *Service) planReminders(ctx context.Context) {
	tick := time.NewTicker(planEvery)
	defer tick.Stop()
	for {
		if err := s.PlanReminders(ctx); err != nil && ctx.Err() == nil && s.options.Messages.Logger != nil {
			s.options.Messages.Logger.LogAttrs(ctx, slog.LevelError, "plan reminders: failed and will be tried again", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// PlanReminders is one round of planReminders.
func (s *Service) PlanReminders(ctx context.Context) error {
	ctx = everything(ctx)
	farthest := message.Reminders()[0] + planEvery
	list, err := s.store.Unreminded(ctx, s.now().Add(leastAhead), s.now().Add(farthest), planAtOnce)
	if err != nil {
		return err
	}
	for _, b := range list {
		if err := s.store.Write(ctx, func(tx *storage.Tx) error {
			x, err := s.readSubject(ctx, tx, b.Appointment)
			if err != nil || x == nil {
				return err
			}
			return tx.Enqueue(ctx, s.reminders(b.Appointment, x)...)
		}); err != nil {
			return err
		}
	}
	return nil
}
