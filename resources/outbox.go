package resources

import (
	"context"
	"math"
	"strconv"

	"kiln/auth"
	"kiln/storage"
)

// Outbox is what administrators see of messages: how many are in which state, a page of those in one, and those that
// were kept for want of a mail server.
type Outbox struct {
	Counts map[string]int64
	Jobs   []storage.JobRow
	// More is the id to go on below; zero where there are no more.
	More int64
	Kept []storage.KeptMessage
}

// outboxPage is how many are shown at a time.
const outboxPage = 50

// notShown stands for what an administrator may not see, for a Consent say.
const notShown = "withheld"

// Outbox shows messages. What they are about, and to whom, is shown of what the administrator may read.
//
// Errors: Unauthenticated; Forbidden.
func (s *Service) Outbox(ctx context.Context, p auth.Principal, state string, below int64) (*Outbox, error) {
	ctx, err := s.looksAfter(ctx, &p, "look at messages")
	if err != nil {
		return nil, err
	}
	o := &Outbox{}
	if o.Counts, err = s.store.CountJobs(ctx); err != nil {
		return nil, err
	}
	if below <= 0 {
		below = math.MaxInt64
	}
	if o.Jobs, err = s.store.Jobs(ctx, state, below, outboxPage+1); err != nil {
		return nil, err
	}
	if len(o.Jobs) > outboxPage {
		o.Jobs = o.Jobs[:outboxPage]
		o.More = o.Jobs[outboxPage-1].ID
	}
	if o.Kept, err = s.store.KeptMessages(ctx, outboxPage); err != nil {
		return nil, err
	}
	return o, s.veil(ctx, o)
}

// veil takes out what the caller may not read.
func (s *Service) veil(ctx context.Context, o *Outbox) error {
	var keys []storage.Key
	note := func(references ...string) {
		for _, r := range references {
			if r != "" {
				keys = append(keys, keyOf(r))
			}
		}
	}
	for _, j := range o.Jobs {
		note(j.Job.Subject, j.Job.Recipient)
	}
	for _, k := range o.Kept {
		note(k.About, k.Recipient)
	}
	var seen map[storage.Key]*storage.Version
	if err := s.store.Write(ctx, func(tx *storage.Tx) (err error) {
		seen, err = tx.Read(ctx, keys...)
		return err
	}); err != nil {
		return err
	}
	hidden := func(reference string) bool { return reference != "" && seen[keyOf(reference)] == nil }
	for i := range o.Jobs {
		if j := &o.Jobs[i].Job; hidden(j.Subject) || hidden(j.Recipient) {
			j.Subject, j.Recipient, j.State, j.By = notShown, notShown, "", ""
		}
	}
	for i := range o.Kept {
		if k := &o.Kept[i]; hidden(k.About) || hidden(k.Recipient) {
			*k = storage.KeptMessage{ID: k.ID, Made: k.Made, About: notShown, Recipient: notShown, Title: notShown}
		}
	}
	return nil
}

// RetryMessage has a message tried again at once.
//
// Errors: Unauthenticated; Forbidden; NotFound.
func (s *Service) RetryMessage(ctx context.Context, p auth.Principal, id int64) error {
	what := "retry message " + strconv.FormatInt(id, 10)
	ctx, err := s.looksAfter(ctx, &p, what)
	if err != nil {
		return err
	}
	if err := s.noteAct(ctx, p, false, what); err != nil {
		return err
	}
	return s.store.RetryJob(ctx, id)
}

// looksAfter is administers for messages, whose pages are no requests of FHIR: a refusal is noted here.
func (s *Service) looksAfter(ctx context.Context, p *auth.Principal, what string) (context.Context, error) {
	within, err := s.administers(ctx, p)
	if err != nil {
		if fault := s.noteAct(ctx, *p, true, what); fault != nil {
			return nil, fault
		}
	}
	return within, err
}

func (s *Service) noteAct(ctx context.Context, p auth.Principal, refused bool, what string) error {
	e, wanted := s.ActEntry(ctx, p, ActAdminister, refused, what, "")
	if !wanted {
		return nil
	}
	return s.store.Audit(ctx, e)
}
