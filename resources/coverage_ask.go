package resources

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"kiln/fhir"
	"kiln/resources/coverage"
	"kiln/storage"
)

const (
	// DefaultPayerTimeout is how long a payer has to answer.
	DefaultPayerTimeout = 5 * time.Second
	// askAtOnce is how many payers are asked at a time for one request, maxAsked how many questions one request may raise; those
	// beyond are asked in the background.
	askAtOnce = 4
	maxAsked  = 20
	// askLease is how long a question is left to whoever asks it: then the background takes it up.
	askLease = time.Minute
	// askPause doubles with each try up to askPauseMost; after maxTries, more than a week, nobody is asked any more.
	askPause, askPauseMost = time.Minute, time.Hour
	maxTries               = 200
)

// unanswered is a question that a try of a transaction has come upon: noted in it, asked when it is rolled back.
type unanswered struct {
	draft   *coverage.Draft
	version int
}

// errUnanswered ends a try that has come upon questions.
var errUnanswered = errors.New("resources: a payer has to be asked first")

// asked is the note in a try that comes after the asking: what has no answer now gets none.
type asked struct{}

func hasAsked(tx *storage.Tx) bool {
	for _, n := range tx.Noted() {
		if _, ok := n.(asked); ok {
			return true
		}
	}
	return false
}

// questions are those that a try has come upon.
func questions(tx *storage.Tx) (list []*unanswered) {
	for _, n := range tx.Noted() {
		if u, ok := n.(*unanswered); ok {
			list = append(list, u)
		}
	}
	return list
}

// asking is what one request has spent on asking payers.
type asking struct {
	// times is how often it has asked, questions how much, spent for how long.
	times, questions int
	spent            time.Duration
	// over says that the next try is to go on with what is known.
	over bool
}

// askFor puts questions to payers, without any lock, and stores what they say. A payer that does not answer makes an answer
// too: one that is queued. It is over when nobody could be asked, or all that may be asked has been: maxAsked questions, the
// coverages of a visit one after the other, or for half the time that one payer may take.
func (s *Service) askFor(ctx context.Context, list []*unanswered, b *asking) error {
	ctx = unattended(ctx)
	begun := time.Now()
	seen := map[string]bool{}
	var names []string
	complete := true
	for _, u := range list {
		key := u.draft.Coverage + " " + u.draft.Key()
		if seen[key] {
			continue
		}
		seen[key] = true
		soon := b.questions+len(names) < maxAsked
		name, err := s.putQuestion(ctx, u, soon)
		if err != nil {
			return err
		}
		if complete = complete && soon; name != "" && soon {
			names = append(names, name)
		}
	}
	err := s.answerAll(ctx, names)
	b.times, b.questions, b.spent = b.times+1, b.questions+len(names), b.spent+time.Since(begun)
	b.over = !complete || len(names) < len(seen) || b.times >= maxCoverages || b.spent >= s.options.PayerTimeout/2
	return err
}

// unattended is ctx with the rights of the server, and nobody for whom it acts: what it searches for is not narrowed to what
// the caller of the request may find.
func unattended(ctx context.Context) context.Context {
	return context.WithValue(everything(ctx), rightsKey{}, nil)
}

// putQuestion stores the question of a booking; "" where the coverage is another one by now, or is not there yet. soon says
// that it is going to be asked at once.
func (s *Service) putQuestion(ctx context.Context, u *unanswered, soon bool) (name string, err error) {
	v, err := s.store.Read(ctx, "Coverage", keyOf(u.draft.Coverage).ID)
	if err != nil || v == nil || v.Deleted || v.Number != u.version {
		return "", err
	}
	draft := *u.draft
	draft.ID, draft.Created = s.options.NewID(), s.now()
	node := draft.Node()
	p, err := s.store.Prepare(&node)
	if err != nil {
		return "", err
	}
	name = "CoverageEligibilityRequest/" + draft.ID
	err = s.transact(ctx, askedBy(ctx), func(tx *storage.Tx) error {
		tx.Insert(p, storage.MethodCreate)
		row := &storage.CoverageAnswer{Request: name, Coverage: u.draft.Coverage, Version: u.version, Question: u.draft.Key(),
			Outcome: coverage.Queued, Asked: s.now(), Due: s.now()}
		if soon {
			row.Due = s.now().Add(askLease)
		}
		tx.SaveAnswer(row)
		return nil
	})
	return name, err
}

// answerAll has payers answer stored requests, several at a time.
func (s *Service) answerAll(ctx context.Context, requests []string) error {
	return severalAtOnce(requests, func(name string) error { return s.answerRequest(ctx, name) })
}

// severalAtOnce does something for each name, askAtOnce at a time: it may wait for a payer.
func severalAtOnce(names []string, do func(name string) error) error {
	faults := make([]error, len(names))
	gate := make(chan struct{}, askAtOnce)
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			faults[i] = do(name)
		})
	}
	wg.Wait()
	return errors.Join(faults...)
}

// answerRequest puts a stored CoverageEligibilityRequest to its payer and stores the answer: a new response, or the next
// version of the one that said that there was none yet.
func (s *Service) answerRequest(ctx context.Context, request string) error {
	ctx = unattended(ctx)
	q, row, err := s.readQuestion(ctx, request)
	if err != nil || q == nil {
		return err
	}
	a, tried := s.putTo(ctx, q)
	if err := ctx.Err(); err != nil {
		return err // whoever wanted to know is gone; the request is due again soon
	}
	if !tried && row.Response != "" { // nothing new is to be said
		return s.store.Write(ctx, func(tx *storage.Tx) error {
			tx.PostponeAnswer(request, s.now().Add(askPause))
			return nil
		})
	}
	id := s.options.NewID()
	if row.Response != "" {
		id = keyOf(row.Response).ID
	}
	node := a.Node(id, q)
	if _, err := s.validate(ctx, nil, &node); err != nil { // an adapter that makes what is not FHIR
		a = cannot("The answer of the payer cannot be understood")
		node = a.Node(id, q)
	}
	p, err := s.store.Prepare(&node)
	if err != nil {
		return err
	}
	return s.transact(ctx, itself(), func(tx *storage.Tx) error { return s.storeAnswer(ctx, tx, q, a, p, row, tried) })
}

func cannot(why string) *coverage.Answer {
	return &coverage.Answer{Outcome: coverage.Failed, Disposition: why, Errors: []fhir.Node{fhir.Obj(fhir.Str(why).As("text"))}}
}

// putTo asks the adapter of the payor. tried says whether the payer was really asked: one that hangs, or is asked by many, is not.
func (s *Service) putTo(ctx context.Context, q *coverage.Question) (a *coverage.Answer, tried bool) {
	name := coverage.AdapterOf(q.Payor)
	payer := s.payers[name]
	switch {
	case payer == nil && name == coverage.AdapterFHIR: // a command such as import: a server asks
		return notYet(), true
	case payer == nil:
		return cannot("This server has no way to ask this payer"), true
	}
	var err error
	if name == coverage.AdapterLocal { // which waits for nobody
		a, err = payer.Ask(ctx, q)
	} else {
		a, err = s.askInTurn(ctx, payer, q)
	}
	switch {
	case err == nil:
		return a, true
	case errors.Is(err, coverage.ErrHanging):
		return notYet(), false
	case errors.Is(err, coverage.ErrNoAnswer), fhir.KindOf(err) == fhir.Transient:
		return notYet(), true
	}
	return cannot("This payer cannot be asked"), true
}

// turnWait is the part of the time for an answer that may be spent waiting for a turn to ask.
const turnWait = 4

// askInTurn asks a payer over the network, a few questions at a time.
//
// Errors: as Payer.Ask; coverage.ErrHanging where there was no turn.
func (s *Service) askInTurn(ctx context.Context, payer coverage.Payer, q *coverage.Question) (*coverage.Answer, error) {
	waiting, cancel := context.WithTimeout(ctx, s.options.PayerTimeout/turnWait)
	defer cancel()
	whom := q.Payor.ID()
	if coverage.AdapterOf(q.Payor) == coverage.AdapterSandbox && len(q.Coverages) > 0 { // whose members are slow, one by one
		whom += " " + coverage.MemberID(q.Coverages[0])
	}
	done, err := s.turns.Take(waiting, whom, q.Patient.ID())
	if err != nil {
		return nil, coverage.ErrHanging
	}
	asking, cancel := context.WithTimeout(ctx, s.options.PayerTimeout)
	defer cancel()
	a, err := payer.Ask(asking, q)
	switch {
	case ctx.Err() != nil:
		done(coverage.Unclear)
		return nil, ctx.Err()
	case err != nil && asking.Err() != nil:
		done(coverage.OutOfTime)
		return nil, fmt.Errorf("%w: %w", coverage.ErrNoAnswer, err)
	case errors.Is(err, coverage.ErrNoAnswer):
		done(coverage.Unclear)
	default:
		done(coverage.Answered)
	}
	return a, err
}

func notYet() *coverage.Answer {
	return &coverage.Answer{Outcome: coverage.Queued, Disposition: "The payer has not answered yet; it is asked again"}
}

// storeAnswer writes an answer, who it comes from, and what the gate needs to know of it.
func (s *Service) storeAnswer(ctx context.Context, tx *storage.Tx, q *coverage.Question, a *coverage.Answer, p *storage.Prepared, was *storage.CoverageAnswer, tried bool) error {
	key := storage.Key{Type: "CoverageEligibilityResponse", ID: p.Node.ID()}
	name := key.Type + "/" + key.ID
	locked, err := tx.Lock(ctx, key)
	if err != nil {
		return err
	}
	row, err := tx.AnswerTo(ctx, was.Request)
	if err != nil || row == nil || row.Response != was.Response || row.Tries != was.Tries {
		return err // somebody else was faster, or the question has been withdrawn
	}
	var v *storage.Version
	if old := locked[key]; old != nil {
		v = tx.Replace(p, old, storage.MethodUpdate)
	} else {
		v = tx.Insert(p, storage.MethodCreate)
	}
	row.Response, row.Outcome, row.Asked = name, a.Outcome, s.now()
	row.Benefit, row.Recorded, row.Since = a.Benefit, a.Recorded, a.Since
	row.Due = time.Time{}
	if tried {
		row.Tries++
	}
	if a.Outcome == coverage.Queued {
		row.Due = s.now().Add(min(askPause<<min(max(row.Tries, 1)-1, 10), askPauseMost))
	}
	tx.SaveAnswer(row)
	tx.RecheckResponse(name)
	return s.vouch(ctx, tx, q, versioned(v))
}

// vouch writes the Provenance of an answer: the payer says it, and an adapter of this server wrote it.
func (s *Service) vouch(ctx context.Context, tx *storage.Tx, q *coverage.Question, response string) error {
	insurer := fhir.Obj(fhir.Str("The payer").As("display"))
	if n := q.Request.Get("insurer"); n != nil {
		insurer = n.Clone()
	}
	role := func(code string) fhir.Node {
		return fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str("http://terminology.hl7.org/CodeSystem/provenance-participant-type").As("system"), fhir.Str(code).As("code"))).As("coding"))
	}
	writer := fhir.Obj(fhir.Str("Kiln, payer adapter " + coverage.AdapterOf(q.Payor)).As("display"))
	n := fhir.Obj(fhir.Str("Provenance").As("resourceType"), fhir.Str(s.options.NewID()).As("id"),
		fhir.Arr(reference(response)).As("target"), fhir.Str(fhir.FormatInstant(s.now())).As("recorded"),
		fhir.Arr(fhir.Obj(role("author").As("type"), insurer.As("who")), fhir.Obj(role("assembler").As("type"), writer.As("who"))).As("agent"),
		fhir.Arr(fhir.Obj(fhir.Str("source").As("role"), reference("CoverageEligibilityRequest/"+q.Request.ID()).As("what"))).As("entity"))
	p, err := s.store.Prepare(&n)
	if err != nil {
		return err
	}
	if err := tx.Inherit(ctx, p); err != nil {
		return err
	}
	tx.Insert(p, storage.MethodCreate)
	return nil
}
