package resources

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/message"
	"kiln/storage"
)

// messageSpace makes the ids of messages: the same message has the same id, however often it is tried.
var messageSpace = uuid.MustParse("6b1c9a43-52a5-4d49-9d0f-1f3f3c1f5d0e")

// messageID is the id of a message, which is that of its Communication and its Message-ID.
func messageID(j storage.Job) string {
	j.By = ""
	text, err := json.Marshal(j)
	if err != nil {
		text = []byte(j.Subject + j.Event + j.Recipient + j.State) // cannot be: a Job is texts and numbers
	}
	return uuid.NewSHA1(messageSpace, text).String()
}

// draft is a message that is about to be sent.
type draft struct {
	job     storage.Job
	id      string
	about   *subject
	person  person
	refusal string // why it is not sent after all
}

// sendOne sends one message to one person, unless it was sent before or there is nothing to tell any more. What was sent, and
// what could not be, a Communication tells.
func (s *Service) sendOne(ctx context.Context, j storage.Job) error {
	d := &draft{job: j, id: messageID(j)}
	sent, err := s.prepareMessage(ctx, d)
	if err != nil || sent {
		return err
	}
	if d.refusal == "" {
		if until := s.quietUntil(d); !until.IsZero() {
			return &storage.Postponed{Until: until}
		}
		until, err := s.room(ctx, d)
		if err != nil {
			return err
		}
		if !until.IsZero() {
			return &storage.Postponed{Until: until}
		}
		if err := s.post(ctx, d); err != nil {
			return err
		}
	}
	return s.recordMessage(ctx, d)
}

// prepareMessage reads everything anew. sent says that it was sent already.
func (s *Service) prepareMessage(ctx context.Context, d *draft) (sent bool, err error) {
	e := message.Event(d.job.Event)
	err = s.store.Write(ctx, func(tx *storage.Tx) error {
		found, err := s.readAll(ctx, tx, "Communication/"+d.id, d.job.Recipient)
		if err != nil {
			return err
		}
		if sent = found["Communication/"+d.id] != nil; sent {
			return nil
		}
		if d.about, err = s.readSubject(ctx, tx, d.job.Subject); err != nil {
			return err
		}
		x, who := d.about, found[d.job.Recipient]
		if x == nil || who == nil || d.job.State != x.state && d.job.State != x.settled ||
			!slices.Contains(x.patients, d.job.Recipient) && !slices.Contains(x.practitioners, d.job.Recipient) {
			return errGone
		}
		if d.person = readPerson(who, s.now()); d.person.gone {
			return &storage.Dropped{Why: "the recipient is not to be told any more"}
		}
		switch {
		case x.visit != nil && !x.visit.start.After(s.now()):
			return &storage.Dropped{Why: "the visit has begun"}
		case slices.Contains(d.person.optOut, kindOf(e)):
			d.refusal = "The recipient does not want such messages"
		case d.person.address == "" && s.options.Messages.Mailer != nil:
			d.refusal = "The recipient has no e-mail address"
		}
		return nil
	})
	if err == nil && !sent && e == message.Result {
		err = s.mayRead(ctx, d)
	}
	return sent, err
}

// mayRead makes sure that a patient may read what the message invites to.
func (s *Service) mayRead(ctx context.Context, d *draft) error {
	if !slices.Contains([]string{"final", "amended", "corrected", "appended"}, d.about.node.GetText("status")) {
		return errGone
	}
	scopes, _ := auth.ParseScopes("patient/*.rs")
	p := auth.Principal{User: "messages", Roles: []auth.Role{auth.RolePatient}, FHIRUser: d.job.Recipient, Patient: keyOf(d.job.Recipient).ID, Scopes: scopes}
	r, err := s.rightsOf(&p)
	if err != nil {
		return err
	}
	key := keyOf(d.job.Subject)
	v, err := s.store.Read(acting(context.WithValue(ctx, rightsKey{}, r), auth.Read), key.Type, key.ID)
	if err != nil {
		return err
	}
	if v == nil || v.Deleted {
		return &storage.Dropped{Why: "the recipient may not read it"}
	}
	return nil
}

// quietUntil says until when a message waits; an offer is urgent by the end of the offer.
func (s *Service) quietUntil(d *draft) time.Time {
	if s.options.Messages.Mailer == nil {
		return time.Time{} // it disturbs nobody
	}
	var urgent time.Time
	if d.about.visit != nil {
		urgent = d.about.visit.start
	}
	if message.Event(d.job.Event) == message.Offered {
		urgent = d.about.due
	}
	return s.options.Messages.Quiet.Wait(s.now(), s.zoneOf(d), urgent)
}

// The defaults of Messages.Limit.
const (
	DefaultMessagesPerHour = 20
	DefaultMessagesPerDay  = 60
)

// room counts the message towards the limit of its address, so that whoever books and cancels without end fills nobody's
// mailbox. Where the limit is reached it says until when the message waits: it is lost only if there is nothing to tell by then.
func (s *Service) room(ctx context.Context, d *draft) (time.Time, error) {
	m := s.options.Messages
	if m.Mailer == nil {
		return time.Time{}, nil // it disturbs nobody
	}
	limit := storage.MessageLimit{Hour: cmp.Or(m.Limit.Hour, DefaultMessagesPerHour), Day: cmp.Or(m.Limit.Day, DefaultMessagesPerDay)}
	return s.store.TakeMessage(ctx, d.id, d.person.address, limit)
}

// zoneOf is where it is night for the recipient.
func (s *Service) zoneOf(d *draft) *time.Location {
	var place *time.Location
	if d.about.visit != nil {
		place = d.about.visit.zone
	}
	return cmp.Or(d.person.zone, place, s.options.Messages.Zone, time.UTC)
}

// post puts the message into words and hands it over.
func (s *Service) post(ctx context.Context, d *draft) error {
	m := s.options.Messages
	f := message.Facts{Home: d.person.zone, Portal: m.Portal, Until: d.about.due}
	if v := d.about.visit; v != nil {
		f.Start, f.Zone = v.start, cmp.Or(v.zone, m.Zone)
		f.Other, _ = askedFor(d.about.node)
	}
	language := message.Language(d.person.languages...)
	text, err := m.texts.Write(message.Event(d.job.Event), language, f)
	if err != nil {
		return err
	}
	if m.Mailer == nil {
		err = s.store.KeepMessage(ctx, storage.KeptMessage{ID: d.id, About: d.job.Subject, Recipient: d.job.Recipient, Address: d.person.address,
			Language: language, Title: text.Subject, Body: text.Body})
	} else {
		err = m.Mailer.Send(ctx, Mail{ID: d.id, To: d.person.address, Language: language, Subject: text.Subject, Body: text.Body})
	}
	var refused *Refused
	if errors.As(err, &refused) {
		d.refusal, err = "The mail server does not take it", nil
	}
	if err == nil && m.Logger != nil {
		m.Logger.LogAttrs(ctx, slog.LevelInfo, "message made", slog.String("id", d.id), slog.String("event", d.job.Event), slog.Bool("sent", m.Mailer != nil && d.refusal == ""))
	}
	return err
}

// recordMessage writes the Communication: that somebody was told, of what and when, but not in which words.
func (s *Service) recordMessage(ctx context.Context, d *draft) error {
	coded := func(system, code string) fhir.Node {
		return fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str(system).As("system"), fhir.Str(code).As("code"))).As("coding"))
	}
	status := "completed"
	if d.refusal != "" {
		status = "not-done"
	}
	n := fhir.Obj(fhir.Str("Communication").As("resourceType"), fhir.Str(d.id).As("id"),
		fhir.Arr(fhir.Obj(fhir.Str("urn:ietf:rfc:3986").As("system"), fhir.Str("urn:uuid:"+d.id).As("value"))).As("identifier"),
		fhir.Str(status).As("status"))
	if d.refusal != "" {
		n.Set("statusReason", fhir.Obj(fhir.Str(d.refusal).As("text")))
	}
	n.Set("category", fhir.Arr(coded("http://terminology.hl7.org/CodeSystem/communication-category", kindOf(message.Event(d.job.Event)))))
	switch {
	case s.options.Messages.Mailer != nil:
		n.Set("medium", fhir.Arr(coded("http://terminology.hl7.org/CodeSystem/v3-ParticipationMode", "EMAILWRIT")))
	case d.refusal == "":
		n.Set("medium", fhir.Arr(fhir.Obj(fhir.Str("Kept on this server, which has no mail server").As("text"))))
	}
	if d.about.patient != "" {
		n.Set("subject", reference(d.about.patient))
	}
	n.Set("topic", fhir.Obj(fhir.Str(d.job.Event).As("text")))
	n.Set("about", fhir.Arr(reference(d.job.Subject)))
	if d.refusal == "" {
		n.Set("sent", fhir.Str(fhir.FormatInstant(s.now())))
	}
	n.Set("recipient", fhir.Arr(reference(d.job.Recipient)))
	p, err := s.store.Prepare(&n)
	if err != nil {
		return err
	}
	return s.transact(ctx, itself(), func(tx *storage.Tx) error {
		key := storage.Key{Type: "Communication", ID: d.id}
		if locked, err := tx.LockAll(ctx, key); err != nil || locked[key] != nil {
			return err
		}
		if err := tx.Inherit(ctx, p); err != nil {
			return err
		}
		tx.Insert(p, storage.MethodCreate)
		return nil
	})
}
