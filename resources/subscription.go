package resources

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// What a Subscription says beyond R4: the Subscriptions R5 Backport's extensions, and one of ours.
const (
	backport           = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
	payloadExtension   = backport + "backport-payload-content"
	heartbeatExtension = backport + "backport-heartbeat-period"
	countExtension     = backport + "backport-max-count"
	channelExtension   = backport + "backport-channel-type"
	// secretExtension is taken out when a Subscription is written: nobody reads it again.
	secretExtension = fhir.CanonicalBase + "StructureDefinition/signing-secret"
)

const (
	// maxSubscriptions is how many can be live at a time.
	maxSubscriptions = 500
	// leastBeat and mostBeat bound how often an endpoint is called for nothing.
	leastBeat, mostBeat = time.Minute, 24 * time.Hour
	// maxHookHeaders bounds what a client adds to calls.
	maxHookHeaders = 10
	// leastSecret is how long a secret has to be.
	leastSecret = 16
)

// The states of a Subscription.
const (
	subRequested = "requested"
	subActive    = "active"
	subError     = "error"
	subOff       = "off"
)

// hook is what a Subscription asks for.
type hook struct {
	// types are those of the resources that it is about; of criteria there is one.
	types    []string
	criteria string
	// topic is what it names instead of criteria, or nil; filters narrow it, by type.
	topic    *topic
	filters  map[string]string
	endpoint string
	headers  []string
	// bundle says that a notification has a body; without, the call is empty.
	bundle bool
	// content says whether the body names what the events are about, or holds it.
	content string
	// atOnce is how many events one call tells of.
	atOnce int
	beat   time.Duration
	ends   time.Time
}

// What a notification says of what its events are about. Spec: Subscriptions R5 Backport, CodeSystem backport-content-code-system.
const (
	contentEmpty = "empty"
	contentIDs   = "id-only"
	contentFull  = "full-resource"
)

// readHook reads a Subscription and collects what is wrong with it.
func readHook(n *fhir.Node) (h *hook, faults *fhir.Error) {
	faults = &fhir.Error{Kind: fhir.BusinessRule}
	fault := func(at, code, detail, text string) {
		faults.Issues = append(faults.Issues, fhir.Issue{Severity: fhir.SeverityError, Code: code, Detail: detail, Text: text, Expression: []string{at}})
	}
	channel := n.Get("channel")
	h = &hook{endpoint: channel.GetText("endpoint"), content: contentIDs, atOnce: eventsAtOnce}
	filters := n.Get("_criteria").Get("extension")
	if h.topic = topicOf(n.GetText("criteria")); h.topic != nil {
		h.types = h.topic.types()
		h.filters = h.topic.readFilters(filters, func(text string) { fault("Subscription.criteria.extension", fhir.CodeValue, "filter", text) })
	} else {
		typ, criteria, _ := strings.Cut(n.GetText("criteria"), "?")
		h.types, h.criteria = []string{typ}, criteria
		for e := range filters.Items() {
			if e.GetText("url") == filterExtension {
				fault("Subscription.criteria.extension", fhir.CodeValue, "filter", "A filter narrows a topic; criteria that are a search say all themselves")
			}
		}
	}
	for e := range channel.Get("_type").Get("extension").Items() {
		if e.GetText("url") == channelExtension {
			fault("Subscription.channel.type", fhir.CodeNotSupported, "channel-not-offered", "This server offers rest-hook, and no channels of other kinds")
		}
	}
	if channel.GetText("type") != "rest-hook" {
		fault("Subscription.channel.type", fhir.CodeNotSupported, "channel-not-offered", "This server offers rest-hook; it sends no e-mail, message or websocket to subscribers")
	}
	switch channel.GetText("payload") {
	case "":
	case "application/fhir+json":
		h.bundle = true
	default:
		fault("Subscription.channel.payload", fhir.CodeNotSupported, "payload-not-offered", "The payload is application/fhir+json, or left out for calls without a body")
	}
	for _, from := range []*fhir.Node{channel.Get("_payload"), channel} {
		for e := range from.Get("extension").Items() {
			switch e.GetText("url") {
			case payloadExtension:
				switch h.content = e.GetText("valueCode"); h.content {
				case contentEmpty, contentIDs:
				case contentFull:
					if !isSealed(h.endpoint) {
						fault("Subscription.channel.payload", fhir.CodeNotSupported, "payload-not-offered", "Whole resources (full-resource) are sent by https, or to this machine, alone")
					}
				default:
					fault("Subscription.channel.payload", fhir.CodeNotSupported, "payload-not-offered", "Notifications are empty, id-only or full-resource")
				}
			case countExtension:
				count, err := strconv.Atoi(literal(e.Get("valuePositiveInt")))
				if err != nil || count < 1 {
					fault("Subscription.channel.extension", fhir.CodeValue, "max-count", "At least one event comes with a call")
				}
				h.atOnce = max(1, min(count, eventsAtOnce))
			case heartbeatExtension:
				seconds, err := strconv.Atoi(literal(e.Get("valueUnsignedInt")))
				if h.beat = time.Duration(seconds) * time.Second; err != nil || h.beat < leastBeat || h.beat > mostBeat {
					fault("Subscription.channel.extension", fhir.CodeValue, "heartbeat", "A heartbeat comes every 60 to 86400 seconds")
				}
			}
		}
	}
	for header := range channel.Get("header").Items() {
		h.headers = append(h.headers, header.Text)
		if !goodHeader(header.Text) {
			fault("Subscription.channel.header", fhir.CodeValue, "header", "A header is a line such as Authorization: Bearer …, and not one that the server sets")
		}
	}
	if len(h.headers) > maxHookHeaders {
		fault("Subscription.channel.header", fhir.CodeTooLong, "header", "Ten headers at most")
	}
	if end := instant(n.Get("end")); !end.IsZero() {
		h.ends = end
	}
	return h, faults
}

// ownHeaders are those that only the server sets.
var ownHeaders = []string{"host", "content-type", "content-length", "content-encoding", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect",
	"proxy-authorization", "proxy-connection", "keep-alive", "user-agent"}

func goodHeader(line string) bool {
	name, value, ok := strings.Cut(line, ":")
	if !ok || name == "" || len(line) > 2000 || slices.Contains(ownHeaders, strings.ToLower(name)) || strings.HasPrefix(strings.ToLower(name), "x-kiln-") {
		return false
	}
	for _, c := range name {
		if c > '~' || c <= ' ' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c) {
			return false
		}
	}
	return !strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c > '~' })
}

// allowSubscription is the rule of Subscriptions: what they ask for must be something that this server does, for somebody
// who may see it, and their status is the server's: a client asks (requested) or ends it (off).
func (s *Service) allowSubscription(ctx context.Context, c *change) error {
	if c.after == nil {
		return nil
	}
	before, err := c.current()
	if err != nil {
		return err
	}
	secret, err := takeSecret(c)
	if err != nil {
		return err
	}
	c.secret = secret
	status := c.after.GetText("status")
	switch {
	case status == subOff:
		return nil
	case s.options.Messages == nil && c.request.Principal.IsOperator():
		return s.shelveHook(c, before)
	case status == subActive || status == subError:
		if before.GetText("status") != status {
			return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "The server says when a Subscription is active; write it as requested").
				Coded("status-is-the-servers").At("Subscription.status")
		}
	}
	if status != subRequested || before.GetText("error") != "" && c.after.Get("error") != nil {
		c.after.Set("status", fhir.Str(subRequested))
		c.after.Remove("error")
		c.changed = true
	}
	return s.checkHook(ctx, c)
}

// shelveHook turns off what an import brings: whom it would call, this server has not been asked about.
func (s *Service) shelveHook(c *change, before *fhir.Node) error {
	c.after.Set("status", fhir.Str(subOff))
	c.changed = true
	var err error
	if before != nil {
		c.keep, err = c.changesNothing()
	}
	return err
}

// checkHook refuses what cannot be done.
func (s *Service) checkHook(ctx context.Context, c *change) error {
	h, faults := readHook(c.after)
	if s.options.Messages == nil || s.options.Messages.Hooks == nil {
		return fhir.NewError(fhir.NotSupported, fhir.CodeNotSupported, "The operator of this server has allowed no endpoints (KILN_WEBHOOKS)").Coded("no-endpoints")
	}
	if err := s.options.Messages.Hooks.Allowed(h.endpoint); err != nil {
		faults.Issues = append(faults.Issues, fhir.Issue{Severity: fhir.SeverityError, Code: fhir.CodeBusinessRule, Detail: "endpoint-not-allowed",
			Text: "This endpoint is not on the list of those that the operator allows (KILN_WEBHOOKS)", Expression: []string{"Subscription.channel.endpoint"}})
	}
	if !h.ends.IsZero() && !h.ends.After(s.now()) {
		faults.Issues = append(faults.Issues, fhir.Issue{Severity: fhir.SeverityError, Code: fhir.CodeValue, Detail: "ended", Text: "The end is in the past", Expression: []string{"Subscription.end"}})
	}
	if len(faults.Issues) > 0 {
		return faults
	}
	if h.topic == nil && (!s.isType(h.types[0]) || h.criteria == "") {
		return fhir.NewError(fhir.BusinessRule, fhir.CodeValue, "The criteria are a search of one type, such as Observation?code=8302-2, or a topic: "+strings.Join(TopicURLs(), ", ")).
			Coded("criteria").At("Subscription.criteria")
	}
	for _, typ := range h.types {
		for _, action := range []auth.Actions{auth.Search, auth.Read} {
			if err := permitted(ctx, action, typ); err != nil {
				return err
			}
		}
		at, criteria := "Subscription.criteria", h.criteria
		if h.topic != nil {
			at, criteria = "Subscription.criteria.extension", h.filters[typ]
		}
		if err := s.tryCriteria(ctx, c.tx, typ, criteria); err != nil {
			e, ok := err.(*fhir.Error)
			if !ok || e.Kind == fhir.Internal || e.Kind == fhir.Transient || e.Kind == fhir.Forbidden {
				return err
			}
			e.Kind = fhir.BusinessRule
			return e.At(at)
		}
		if h.topic != nil {
			if _, err := s.conditions(typ, criteria); err != nil {
				return err
			}
		}
	}
	if err := s.checkOwner(ctx, c, h); err != nil {
		return err
	}
	if n, err := c.tx.OtherSubscriptions(ctx, c.key.ID); err != nil {
		return err
	} else if n >= maxSubscriptions {
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "There are as many Subscriptions as this server takes; end others").Coded("limit-reached")
	}
	return nil
}

// checkOwner refuses who could not be looked up again when there is something to tell: a token of kiln token, say, which belongs to
// no account and no client, and is gone in a day.
func (s *Service) checkOwner(ctx context.Context, c *change, h *hook) error {
	o, err := json.Marshal(ownerOf(&c.request.Principal))
	if err != nil {
		return err
	}
	if _, err = s.asOwner(ctx, o, h.types); errors.Is(err, errNoRights) {
		return forbidden("A Subscription lasts as long as the account or the registered client that asked for it, with their rights; this token is of neither").Coded("no-owner")
	}
	return err
}

// tryCriteria says whether a search can be made.
func (s *Service) tryCriteria(ctx context.Context, tx *storage.Tx, typ, criteria string) error {
	_, err := s.match(ctx, tx, typ, strings.TrimPrefix(criteria+"&_id=none", "&"), 1)
	return err
}

// isSealed says whether nobody on the way reads what is sent to an endpoint.
func isSealed(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	ip, _ := netip.ParseAddr(u.Hostname())
	return u.Scheme == "https" || u.Hostname() == "localhost" || ip.IsLoopback()
}

// takeSecret takes the secret for signatures out of a Subscription; nil where there is none.
func takeSecret(c *change) (*string, error) {
	channel := c.after.Get("channel")
	list := channel.Get("extension")
	if list == nil {
		return nil, nil
	}
	var secret *string
	kept := make([]fhir.Node, 0, len(list.Kids))
	for e := range list.Items() {
		if e.GetText("url") != secretExtension {
			kept = append(kept, *e)
			continue
		}
		text := e.GetText("valueString")
		if len(text) < leastSecret {
			return nil, fhir.NewError(fhir.BusinessRule, fhir.CodeValue, "A secret has 16 characters at least").Coded("secret").At("Subscription.channel.extension")
		}
		secret = &text
	}
	if secret != nil {
		if channel.Remove("extension"); len(kept) > 0 {
			channel.Set("extension", fhir.Arr(kept...))
		}
		c.changed = true
	}
	return secret, nil
}

// followSubscription notes what was asked for, and orders the first call.
func (s *Service) followSubscription(ctx context.Context, c *change) error {
	switch {
	case c.after == nil:
		c.tx.DropSubscription(c.key.ID)
		return nil
	case c.after.GetText("status") == subOff:
		c.tx.SetSubscriptionStatus(c.key.ID, subOff)
		return nil
	}
	h, _ := readHook(c.after)
	owner, err := json.Marshal(ownerOf(&c.request.Principal))
	if err != nil {
		return err
	}
	c.tx.SaveSubscription(&storage.Subscription{ID: c.key.ID, Types: h.types, Status: subRequested, Owner: owner, Beat: h.beat}, c.secret)
	return c.tx.Enqueue(ctx, hookJob(c.key.ID, hookHandshake, c.next()))
}

// owner is who asked for a Subscription: enough to find out what they may see today.
type owner struct {
	Operator           bool          `json:"operator,omitempty"`
	Name               string        `json:"name,omitempty"`
	User               string        `json:"user,omitempty"`
	Client             string        `json:"client,omitempty"`
	Roles              []string      `json:"roles,omitempty"`
	FHIRUser           string        `json:"fhirUser,omitempty"`
	Represents         string        `json:"represents,omitempty"`
	Others             []auth.Record `json:"others,omitempty"`
	Patient, Encounter string
	Purpose            string `json:"purpose,omitempty"`
	Scope              string `json:"scope,omitempty"`
}

func ownerOf(p *auth.Principal) owner {
	o := owner{Operator: p.IsOperator(), Name: p.Name, User: p.User, Client: p.Client, FHIRUser: p.FHIRUser, Represents: p.Represents, Others: p.Others, Patient: p.Patient, Encounter: p.Encounter, Purpose: p.Purpose}
	for _, r := range p.Roles {
		o.Roles = append(o.Roles, string(r))
	}
	scopes := make([]string, len(p.Scopes))
	for i, scope := range p.Scopes {
		scopes[i] = scope.Text
	}
	o.Scope = strings.Join(scopes, " ")
	return o
}

// principal is who asked, without roles and scopes: those are looked up.
func (o *owner) principal() auth.Principal {
	return auth.Principal{User: o.User, Name: o.Name, Client: o.Client, FHIRUser: o.FHIRUser, Represents: o.Represents, Others: o.Others, Patient: o.Patient, Encounter: o.Encounter, Purpose: o.Purpose}
}
