package resources

import (
	"context"
	"math"
	"slices"
	"strconv"
	"strings"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// notification is the Bundle that tells of events, as the Subscriptions R5 Backport writes it for R4: a history whose first
// entry is the status of the Subscription. Resources are in it as whoever is told sees them now.
func (d *delivery) notification(what string, events []notice) (*fhir.Node, error) {
	status := d.status(what, events)
	entries := []fhir.Node{entryFor("Subscription/"+d.subscription.ID+"/$status", d.options.Base, &status)}
	for i, e := range events {
		told := func(o notice) bool { return o.Key == e.Key }
		if d.hook.content == contentEmpty || slices.ContainsFunc(events[:i], told) { // each resource once
			continue
		}
		var resource *fhir.Node
		if d.hook.content == contentFull && e.version != nil {
			var err error
			if resource, err = fhir.ParseJSON(e.version.Content); err != nil {
				return nil, err
			}
		}
		entries = append(entries, entryFor(e.Type+"/"+e.ID, d.options.Base, resource))
	}
	n := fhir.Obj(fhir.Str("Bundle").As("resourceType"), fhir.Str(d.options.NewID()).As("id"), fhir.Str("history").As("type"),
		fhir.Str(fhir.FormatInstant(d.now())).As("timestamp"), fhir.Arr(entries...).As("entry"))
	return &n, nil
}

func entryFor(path, base string, resource *fhir.Node) fhir.Node {
	e := fhir.Obj(fhir.Str(base + "/" + path).As("fullUrl"))
	if resource != nil {
		e.Set("resource", *resource)
	}
	e.Set("request", fhir.Obj(fhir.Str("GET").As("method"), fhir.Str(path).As("url")))
	e.Set("response", fhir.Obj(fhir.Str("200").As("status")))
	return e
}

// status is the status of a Subscription as Parameters.
func (d *delivery) status(what string, events []notice) fhir.Node {
	v := d.subscription
	parameter := func(name, element, value string) fhir.Node {
		return fhir.Obj(fhir.Str(name).As("name"), fhir.Str(value).As(element))
	}
	state := v.Status
	if what == hookHandshake {
		state = subRequested
	}
	list := []fhir.Node{
		fhir.Obj(fhir.Str("subscription").As("name"), reference(d.options.Base+"/Subscription/"+v.ID).As("valueReference")),
		parameter("status", "valueCode", state),
		parameter("type", "valueCode", what),
		parameter("events-since-subscription-start", "valueString", strconv.FormatInt(v.Events, 10)),
	}
	if d.hook.topic != nil && (d.hook.content != contentEmpty || what == hookQuery) { // empty ones are not to tell it
		list = slices.Insert(list, 1, parameter("topic", "valueCanonical", d.hook.topic.url()))
	}
	for _, e := range events {
		part := []fhir.Node{parameter("event-number", "valueString", strconv.FormatInt(e.Number, 10)), parameter("timestamp", "valueInstant", fhir.FormatInstant(e.At))}
		if d.hook.content != contentEmpty {
			part = append(part, fhir.Obj(fhir.Str("focus").As("name"), reference(d.options.Base+"/"+e.Type+"/"+e.ID).As("valueReference")))
		}
		list = append(list, fhir.Obj(fhir.Str("notification-event").As("name"), fhir.Arr(part...).As("part")))
	}
	return *parameters(list...)
}

// openSubscription is one that the caller may read, as well as the types that it is about: even the number of events tells of
// those.
func (s *Service) openSubscription(ctx context.Context, c *call, id string) (context.Context, *delivery, error) {
	ctx, err := s.identified(ctx, &c.Principal)
	if err != nil {
		return nil, nil, err
	}
	if err := permitted(ctx, auth.Read, "Subscription"); err != nil {
		return nil, nil, err
	}
	ctx = acting(ctx, auth.Read)
	stored, err := s.store.Read(ctx, "Subscription", id)
	if err != nil {
		return nil, nil, err
	}
	v, err := s.store.Subscription(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if stored == nil || stored.Deleted || v == nil {
		return nil, nil, notFound(storage.Key{Type: "Subscription", ID: id})
	}
	n, err := fhir.ParseJSON(stored.Content)
	if err != nil {
		return nil, nil, err
	}
	h, _ := readHook(n)
	for _, typ := range h.types {
		if err := permitted(ctx, auth.Read, typ); err != nil {
			return nil, nil, err
		}
	}
	return ctx, &delivery{Service: s, hook: h, subscription: v}, nil
}

// subscriptionStatus is $status: how far a Subscription is, or on the type, how far those are that the caller may read, with what
// they are about.
//
// Errors: Forbidden for who may not read what the Subscription is about.
func (s *Service) subscriptionStatus(ctx context.Context, c *call) (*Response, error) {
	ids, err := s.askedSubscriptions(ctx, c)
	if err != nil {
		return nil, err
	}
	entries := fhir.Arr()
	for _, id := range ids {
		_, d, err := s.openSubscription(ctx, c, id)
		if k := fhir.KindOf(err); c.ID == "" && err != nil && (k == fhir.NotFound || k == fhir.Forbidden) {
			continue
		}
		if err != nil {
			return nil, err
		}
		status := d.status(hookQuery, nil)
		entries.Kids = append(entries.Kids, fhir.Obj(fhir.Str(s.options.Base+"/Subscription/"+id+"/$status").As("fullUrl"), status.As("resource"),
			fhir.Obj(fhir.Str("match").As("mode")).As("search")))
	}
	n := fhir.Obj(fhir.Str("Bundle").As("resourceType"), fhir.Str("searchset").As("type"), fhir.Num(strconv.Itoa(len(entries.Kids))).As("total"))
	if len(entries.Kids) > 0 {
		n.Set("entry", entries)
	}
	return &Response{Resource: &n}, nil
}

// askedSubscriptions are the ids that a call of $status is about: that of the instance, or those that its parameters name and
// the caller may search for.
func (s *Service) askedSubscriptions(ctx context.Context, c *call) (ids []string, err error) {
	if c.ID != "" {
		return []string{c.ID}, nil
	}
	if ctx, err = s.identified(ctx, &c.Principal); err != nil {
		return nil, err
	}
	if err := permitted(ctx, auth.Search, "Subscription"); err != nil {
		return nil, err
	}
	criteria := ""
	for parameter, name := range map[string]string{"id": "_id", "status": "status"} {
		var values []string
		for _, a := range c.all(parameter) {
			values = append(values, escape(a.value.Text))
		}
		if len(values) > 0 {
			criteria += "&" + name + "=" + strings.Join(values, ",")
		}
	}
	if criteria == "" {
		criteria = "&status=" + strings.Join([]string{subRequested, subActive, subError, subOff}, ",")
	}
	keys, err := s.match(ctx, nil, "Subscription", criteria[1:], maxSubscriptions)
	sortKeys(keys)
	for _, k := range keys {
		ids = append(ids, k.ID)
	}
	return ids, err
}

// subscriptionEvents is $events: events told of before, for who missed them. It names those that the caller may read.
//
// Errors: Forbidden for who may not read what the Subscription is about.
func (s *Service) subscriptionEvents(ctx context.Context, c *call) (*Response, error) {
	ctx, d, err := s.openSubscription(ctx, c, c.ID)
	if err != nil {
		return nil, err
	}
	if wanted := c.first("content"); wanted != nil {
		if d.hook.content = wanted.value.Text; !slices.Contains([]string{contentEmpty, contentIDs, contentFull}, d.hook.content) {
			return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue, "content is empty, id-only or full-resource").At(wanted.at)
		}
	}
	from, to := int64(1), int64(math.MaxInt64)
	for name, field := range map[string]*int64{"eventsSinceNumber": &from, "eventsUntilNumber": &to} {
		for _, a := range c.all(name) {
			if *field, err = strconv.ParseInt(a.value.Text, 10, 64); err != nil || *field < 0 {
				return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue, "The number of an event is a whole number").At(a.at)
			}
		}
	}
	events, err := s.store.SubscriptionEvents(ctx, c.ID, from, to, d.hook.atOnce)
	if err != nil {
		return nil, err
	}
	if d.events, err = s.visibleEvents(ctx, events); err != nil {
		return nil, err
	}
	d.events = d.events[:d.fitting()]
	resp := &Response{}
	if d.hook.content == contentFull {
		for _, e := range d.events {
			resp.holds = append(resp.holds, e.version)
		}
	}
	resp.Resource, err = d.notification("query-event", d.events)
	return resp, err
}
