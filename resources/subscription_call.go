package resources

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"kiln/fhir"
	"kiln/storage"
)

// Caller calls the endpoints of Subscriptions.
type Caller interface {
	// Allowed says whether the operator lets a URL be called.
	Allowed(endpoint string) error
	// Call posts, and gives the status of the answer. It calls no address of a private network unless the operator
	// said so, follows no redirect, and does not wait long. What its errors say is kept: no bodies, no headers.
	Call(context.Context, HookCall) (status int, err error)
}

// HookCall is one call of an endpoint.
type HookCall struct {
	Endpoint string
	// Headers are lines.
	Headers []string
	Body    []byte
}

// taskHook is the task of calling an endpoint, hook… what for.
const (
	taskHook      = "hook"
	hookHandshake = "handshake"
	hookHeartbeat = "heartbeat"
	hookEvents    = "event-notification"
	hookQuery     = "query-status"
)

const (
	// eventsAtOnce is how many events one call tells of, callsAtOnce how many calls one job makes.
	eventsAtOnce, callsAtOnce = 100, 20
)

func hookJob(id, what string, version int) storage.Job {
	return storage.Job{Task: taskHook, Subject: "Subscription/" + id, Event: what, Version: version, Queue: storage.QueueHooks, Repeats: true}
}

// callHook calls an endpoint: to see whether it is there, to show that we are, or with events.
func (s *Service) callHook(ctx context.Context, j storage.Job) error {
	id := keyOf(j.Subject).ID
	for range callsAtOnce {
		more, err := s.callOnce(ctx, id, j)
		if err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
	return &storage.Postponed{Until: time.Now()}
}

// callOnce makes one call. more says that there are more events to tell of.
func (s *Service) callOnce(ctx context.Context, id string, j storage.Job) (more bool, err error) {
	v, err := s.store.Subscription(ctx, id)
	if err != nil {
		return false, err
	}
	stored, err := s.store.Read(ctx, "Subscription", id)
	if err != nil {
		return false, err
	}
	if v == nil || stored == nil || stored.Deleted || v.Status == subOff || s.options.Messages.Hooks == nil ||
		(j.Event == hookHandshake) != (v.Status == subRequested) || j.Event == hookHandshake && j.Version != stored.Number {
		return false, errGone
	}
	n, err := fhir.ParseJSON(stored.Content)
	if err != nil {
		return false, err
	}
	h, _ := readHook(n)
	if !h.ends.IsZero() && !h.ends.After(s.now()) {
		return false, s.turn(ctx, id, subOff, "")
	}
	c := &delivery{Service: s, hook: h, subscription: v, what: j.Event}
	if err := c.prepare(ctx); err != nil {
		if errors.Is(err, errNoRights) {
			return false, s.turn(ctx, id, subOff, "The subscriber may not read this any more")
		}
		return false, err
	}
	if c.what == hookEvents && c.last == v.Delivered {
		return false, nil
	}
	call, err := c.call()
	if err != nil {
		return false, err
	}
	status, err := s.options.Messages.Hooks.Call(ctx, call)
	if fault := c.disclosed(ctx); fault != nil {
		return false, fault
	}
	switch {
	case err == nil && status >= 200 && status < 300:
		if err := s.store.Delivered(ctx, id, c.last); err != nil {
			return false, err
		}
		return c.what == hookEvents && c.last < v.Events, s.turn(ctx, id, subActive, "")
	case err == nil && status == 410:
		return false, s.turn(ctx, id, subOff, "The endpoint is gone (410)")
	case err == nil:
		err = fmt.Errorf("the endpoint answered %d", status)
	}
	next := subError
	if j.Event == hookHandshake && !j.Last {
		next = subRequested // it has not begun yet
	}
	if j.Last {
		next = subOff
	}
	if next != subRequested {
		if turned := s.turn(ctx, id, next, "The last call failed: "+err.Error()); turned != nil {
			return false, turned
		}
	}
	return false, err
}

// turn sets the status in a transaction of its own.
func (s *Service) turn(ctx context.Context, id, status, fault string) error {
	return s.store.Write(ctx, func(tx *storage.Tx) error { return s.setSubscription(ctx, tx, id, status, fault) })
}

// delivery is one call in the making.
type delivery struct {
	*Service
	hook         *hook
	subscription *storage.Subscription
	what         string
	events       []notice
	last         int64
}

// notice is an event that is told of, with what it is about as whoever is told sees it now.
type notice struct {
	storage.SubscriptionEvent
	version *storage.Version
}

// prepare reads the next events and leaves out what the subscriber may not see any more.
func (d *delivery) prepare(ctx context.Context) error {
	v := d.subscription
	d.last = v.Delivered
	owned, err := d.asOwner(ctx, v.Owner, d.hook.types)
	if err != nil || d.what != hookEvents {
		return err
	}
	events, err := d.store.SubscriptionEvents(ctx, v.ID, v.Delivered+1, v.Events, d.hook.atOnce)
	if err != nil || len(events) == 0 {
		return err
	}
	d.last = events[len(events)-1].Number
	if d.events, err = d.visibleEvents(owned, events); err != nil {
		return err
	}
	if n := d.fitting(); n < len(d.events) {
		d.last, d.events = d.events[n].Number-1, d.events[:n]
	}
	return nil
}

// maxNotification is how many bytes of resources one call holds, but for a first one that is longer.
const maxNotification = 4 << 20

// fitting is how many of the events fit into one call.
func (d *delivery) fitting() int {
	size := 0
	for i, e := range d.events {
		if d.hook.content == contentFull && e.version != nil {
			size += len(e.version.Content)
		}
		if size > maxNotification && i > 0 {
			return i
		}
	}
	return len(d.events)
}

// visibleEvents leaves out events of what the caller of ctx may not see, or what is gone.
func (s *Service) visibleEvents(ctx context.Context, events []storage.SubscriptionEvent) (list []notice, err error) {
	keys := make([]storage.Key, len(events))
	for i, e := range events {
		keys[i] = e.Key
	}
	err = s.store.Write(ctx, func(tx *storage.Tx) error {
		list = nil
		seen, err := tx.Read(ctx, keys...)
		if err != nil {
			return err
		}
		for i, e := range events {
			v := seen[keys[i]]
			if v == nil || v.Deleted {
				continue
			}
			if v, err = s.store.Alone(ctx, v); err != nil {
				return err
			}
			list = append(list, notice{e, v})
		}
		return nil
	})
	return list, err
}

// call writes the call. Its id is the same each time that the same is told.
func (d *delivery) call() (HookCall, error) {
	c := HookCall{Endpoint: d.hook.endpoint, Headers: append([]string{}, d.hook.headers...)}
	if d.hook.bundle {
		n, err := d.notification(d.what, d.events)
		if err != nil {
			return c, err
		}
		c.Body = n.JSON()
		c.Headers = append(c.Headers, "Content-Type: application/fhir+json")
	}
	stamp := strconv.FormatInt(d.now().Unix(), 10)
	id := d.subscription.ID + "/" + d.what + "/" + strconv.FormatInt(d.last, 10)
	c.Headers = append(c.Headers, "X-Kiln-Delivery: "+id, "X-Kiln-Timestamp: "+stamp)
	if secret := d.subscription.Secret; secret != "" {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(stamp + "." + id + "."))
		mac.Write(c.Body)
		c.Headers = append(c.Headers, "X-Kiln-Signature: sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	return c, nil
}

// disclosed writes to the audit log that resources have gone to the endpoint: also where it did not answer well, since it may
// have read them.
func (d *delivery) disclosed(ctx context.Context) error {
	if d.hook.content != contentFull || !d.hook.bundle || len(d.events) == 0 || !d.options.Audit {
		return nil
	}
	var o owner
	if err := json.Unmarshal(d.subscription.Owner, &o); err != nil {
		return err
	}
	e := NewAct(d.now(), o.principal(), ActNotify, "Subscription/"+d.subscription.ID)
	for _, x := range d.events {
		e.Compartments = append(e.Compartments, x.version.Compartments...)
	}
	slices.Sort(e.Compartments)
	e.Compartments = slices.Compact(e.Compartments)
	return d.store.Audit(ctx, e)
}
