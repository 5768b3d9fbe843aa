package resources

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
	"kiln/storage/identity"
)

// phone is a caller whose endpoints answer with status, or with fault.
type phone struct {
	mu     sync.Mutex
	calls  []HookCall
	status int
	fault  error
}

func (p *phone) Allowed(endpoint string) error {
	if strings.HasPrefix(endpoint, "https://hooks.example/") {
		return nil
	}
	return errors.New("no")
}

func (p *phone) Call(_ context.Context, c HookCall) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, c)
	return p.status, p.fault
}

func (p *phone) take() []HookCall {
	p.mu.Lock()
	defer p.mu.Unlock()
	calls := p.calls
	p.calls = nil
	return calls
}

// switchboard is a service with a phone, on a database of its own.
func switchboard(t *testing.T) (*Service, *phone) {
	t.Helper()
	p := &phone{status: 200}
	return newService(t, func(o *Options, _ *storage.Options) { o.Messages = &Messages{Hooks: p} }), p
}

const idOnly = `"payload":"application/fhir+json"`

func subscription(criteria, channel string) string {
	if channel != "" {
		channel = "," + channel
	}
	return fmt.Sprintf(`{"resourceType":"Subscription","id":"s","status":"requested","reason":"test","criteria":%q,"channel":{"type":"rest-hook","endpoint":"https://hooks.example/in"%s}}`, criteria, channel)
}

// ring does what jobs of the subscription s would do.
func ring(t *testing.T, s *Service, what string, last bool) error {
	t.Helper()
	j := hookJob("s", what, versions(t, s, "Subscription", "s")[0])
	j.Last = last
	return s.DoJob(t.Context(), j)
}

// activate makes the subscription s and has its handshake succeed.
func activate(t *testing.T, s *Service, p *phone, body string) {
	t.Helper()
	put(t, s, body)
	if err := ring(t, s, hookHandshake, false); err != nil {
		t.Fatal(err)
	}
	if got := status(t, s, "Subscription", "s"); got != "active" {
		t.Fatalf("it is %s", got)
	}
	p.take()
}

// events looks for events and calls; it gives the bodies of the calls.
func events(t *testing.T, s *Service, p *phone) (bodies []string) {
	t.Helper()
	if err := s.Watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := ring(t, s, hookEvents, false); err != nil {
		t.Fatal(err)
	}
	for _, c := range p.take() {
		bodies = append(bodies, string(c.Body))
	}
	return bodies
}

func patientNamed(id, family string) string {
	return fmt.Sprintf(`{"resourceType":"Patient","id":%q,"name":[{"family":%q}]}`, id, family)
}

func TestSubscription_tells_of_what_matches_and_nothing_else(t *testing.T) {
	t.Parallel()
	s, p := switchboard(t)
	put(t, s, patientNamed("before", "Okafor"))
	activate(t, s, p, subscription("Patient?family=Okafor", idOnly))
	put(t, s, patientNamed("a", "Okafor"))
	put(t, s, patientNamed("b", "Brandt"))
	put(t, s, patientNamed("c", "Brandt"))
	got := events(t, s, p)
	if len(got) != 1 || !strings.Contains(got[0], `Patient/a"`) || strings.Contains(got[0], "Patient/b") || strings.Contains(got[0], "before") || strings.Contains(got[0], "Okafor") {
		t.Fatal(got)
	}
	if n := parse(t, got[0]); n.GetText("type") != "history" || !strings.Contains(got[0], `"event-number","valueString":"1"`) || n.ResourceType() != "Bundle" {
		t.Fatal(got)
	}
	if got := events(t, s, p); len(got) != 0 {
		t.Fatal("told twice", got)
	}
	put(t, s, patientNamed("b", "Okafor")) // comes to match
	put(t, s, patientNamed("a", "Brandt")) // does not any more
	do(t, s, Request{Interaction: Delete, Type: "Patient", ID: "c"})
	if got := events(t, s, p); len(got) != 1 || !strings.Contains(got[0], `Patient/b"`) || strings.Contains(got[0], `Patient/a"`) || !strings.Contains(got[0], `"event-number","valueString":"2"`) {
		t.Fatal(got)
	}
}

func TestSubscription_payloads(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		channel     string
		body, names bool
	}{
		"none":    {"", false, false},
		"id_only": {idOnly, true, true},
		"empty":   {idOnly + `,"_payload":{"extension":[{"url":"` + payloadExtension + `","valueCode":"empty"}]}`, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p := switchboard(t)
			activate(t, s, p, subscription("Patient?family=Okafor", c.channel))
			put(t, s, patientNamed("a", "Okafor"))
			got := events(t, s, p)
			if len(got) != 1 || (got[0] != "") != c.body || strings.Contains(got[0], "Patient/a") != c.names {
				t.Fatal(got)
			}
		})
	}
}

func TestSubscription_its_status_is_the_servers(t *testing.T) {
	t.Parallel()
	s, p := switchboard(t)
	for _, to := range []string{"active", "error"} {
		body := parse(t, strings.Replace(subscription("Patient?family=x", ""), "requested", to, 1))
		if e := refused(t, s, fhir.BusinessRule, Request{Interaction: Update, Type: "Subscription", ID: "s", Body: body}); e.Issues[0].Detail != "status-is-the-servers" {
			t.Fatal(describe(e))
		}
	}
	put(t, s, subscription("Patient?family=x", ""))
	if got := status(t, s, "Subscription", "s"); got != "requested" {
		t.Fatal(got)
	}
	p.status = 500
	if err := ring(t, s, hookHandshake, false); err == nil || status(t, s, "Subscription", "s") != "requested" {
		t.Fatal(err)
	}
	p.status = 200
	if err := ring(t, s, hookHandshake, false); err != nil || status(t, s, "Subscription", "s") != "active" {
		t.Fatal(err)
	}
	// A client that changes it has it requested again, one that ends it is not called any more.
	put(t, s, strings.Replace(subscription("Patient?family=y", ""), "requested", "active", 1))
	if got := status(t, s, "Subscription", "s"); got != "requested" {
		t.Fatal(got)
	}
	put(t, s, strings.Replace(subscription("Patient?family=y", ""), "requested", "off", 1))
	p.take()
	if err := ring(t, s, hookHandshake, false); err == nil || len(p.take()) != 0 {
		t.Fatal("one that is off was called")
	}
	do(t, s, Request{Interaction: Delete, Type: "Subscription", ID: "s"})
	if list, err := s.store.Subscriptions(t.Context()); err != nil || len(list) != 0 {
		t.Fatal(list, err)
	}
}

func TestSubscription_endpoints_that_fail_get_everything_later(t *testing.T) {
	t.Parallel()
	s, p := switchboard(t)
	activate(t, s, p, subscription("Patient?family=Okafor", idOnly))
	put(t, s, patientNamed("a", "Okafor"))
	p.status = 503
	if err := s.Watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := ring(t, s, hookEvents, false); err == nil {
			t.Fatal("a failure was taken for an answer")
		}
	}
	if n := read(t, s, "Subscription", "s"); n.GetText("status") != "error" || !strings.Contains(n.GetText("error"), "503") {
		t.Fatalf("%s", n.JSON())
	}
	first := p.take()
	put(t, s, patientNamed("b", "Okafor")) // while it is away
	p.status = 200
	got := events(t, s, p)
	if len(got) != 1 || !strings.Contains(got[0], "Patient/a") || !strings.Contains(got[0], "Patient/b") || status(t, s, "Subscription", "s") != "active" {
		t.Fatal(got)
	}
	id := func(c HookCall) string {
		for _, h := range c.Headers {
			if strings.HasPrefix(h, "X-Kiln-Delivery") {
				return h
			}
		}
		return ""
	}
	if len(first) != 2 || id(first[0]) == "" || id(first[0]) != id(first[1]) {
		t.Error("the same call has another id")
	}
}

func TestSubscription_that_is_given_up_or_gone_ends(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		fault  error
		last   bool
	}{"gone": {410, nil, false}, "given_up": {0, errors.New("does not answer"), true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, p := switchboard(t)
			activate(t, s, p, subscription("Patient?family=Okafor", idOnly))
			put(t, s, patientNamed("a", "Okafor"))
			if err := s.Watch(t.Context()); err != nil {
				t.Fatal(err)
			}
			p.status, p.fault = c.status, c.fault
			_ = ring(t, s, hookEvents, c.last) // an error where it was the last try, none where there is nothing to try
			if n := read(t, s, "Subscription", "s"); n.GetText("status") != "off" || n.GetText("error") == "" {
				t.Fatalf("%s", n.JSON())
			}
			// Asked for again it begins anew: it gets what it missed and has not been told.
			p.status, p.fault = 200, nil
			activate(t, s, p, subscription("Patient?family=Okafor", idOnly))
		})
	}
}

func TestSubscription_rights_are_those_of_the_moment(t *testing.T) {
	t.Parallel()
	s, p := switchboard(t)
	ctx := t.Context()
	if err := s.store.Identity().AddClient(ctx, &identity.Client{ID: "lab", Name: "Lab", AuthMethod: identity.AuthSecret, Secret: make([]byte, 32), GrantTypes: []string{"client_credentials"}, Scope: "x"}); err != nil {
		t.Fatal(err)
	}
	scopes, _ := auth.ParseScopes("system/Observation.rs?category=laboratory system/Subscription.cruds")
	lab := auth.Principal{Client: "lab", Scopes: scopes}
	body := parse(t, subscription("Observation?status=preliminary", idOnly))
	if _, err := s.Do(ctx, Request{Principal: lab, Interaction: Create, Type: "Subscription", Body: body}); err != nil {
		t.Fatal(describe(err))
	}
	other := parse(t, subscription("Patient?family=x", idOnly))
	if _, err := s.Do(ctx, Request{Principal: lab, Interaction: Create, Type: "Subscription", Body: other}); fhir.KindOf(err) != fhir.Forbidden {
		t.Fatalf("subscribed to what it may not read: %s", describe(err))
	}
	nobody := auth.Principal{Client: "gone", Scopes: scopes}
	if _, err := s.Do(ctx, Request{Principal: nobody, Interaction: Create, Type: "Subscription", Body: parse(t, subscription("Observation?status=preliminary", idOnly))}); fhir.KindOf(err) != fhir.Forbidden {
		t.Fatalf("subscribed for a client that is not registered: %s", describe(err))
	}
	list, err := s.store.Subscriptions(ctx)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	id := list[0].ID
	call := func(what string) error {
		j := hookJob(id, what, versions(t, s, "Subscription", id)[0])
		return s.DoJob(ctx, j)
	}
	if err := call(hookHandshake); err != nil {
		t.Fatal(err)
	}
	p.take()
	observation := func(id, category string) {
		put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"preliminary","code":{"text":"x"},"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":%q}]}]}`, id, category))
	}
	observation("mine", "laboratory")
	observation("nothis", "vital-signs")
	if err := s.Watch(ctx); err != nil {
		t.Fatal(err)
	}
	if err := call(hookEvents); err != nil {
		t.Fatal(err)
	}
	calls := p.take()
	if len(calls) != 1 || !strings.Contains(string(calls[0].Body), "Observation/mine") || strings.Contains(string(calls[0].Body), "nothis") {
		t.Fatalf("%d calls", len(calls))
	}
	// Between the event and the call the resource becomes one that it may not see.
	observation("later", "laboratory")
	if err := s.Watch(ctx); err != nil {
		t.Fatal(err)
	}
	observation("later", "vital-signs")
	if err := call(hookEvents); err != nil {
		t.Fatal(err)
	}
	for _, c := range p.take() {
		if strings.Contains(string(c.Body), "later") {
			t.Error("told of what it may not see any more")
		}
	}
	// And the client goes.
	if err := s.store.Identity().RemoveClient(ctx, "lab"); err != nil {
		t.Fatal(err)
	}
	observation("after", "laboratory")
	if err := s.Watch(ctx); err != nil {
		t.Fatal(err)
	}
	if got := status(t, s, "Subscription", id); got != "off" || len(p.take()) != 0 {
		t.Fatalf("it is %s", got)
	}
}

func TestSubscription_two_servers_find_each_event_once(t *testing.T) {
	t.Parallel()
	s, p := switchboard(t)
	activate(t, s, p, subscription("Patient?family=Okafor", idOnly))
	for i := range 30 {
		put(t, s, patientNamed(fmt.Sprintf("p%d", i), "Okafor"))
	}
	race(8, func(int) {
		if err := s.Watch(background); err != nil {
			t.Error(err)
		}
	})
	if got := strings.Join(events(t, s, p), ""); strings.Count(got, `"event-number"`) != 30 || !strings.Contains(got, `"event-number","valueString":"30"`) {
		t.Fatal(got)
	}
}

func TestSubscription_secrets_sign_and_are_never_read_again(t *testing.T) {
	t.Parallel()
	s, p := switchboard(t)
	const secret = "correct horse battery"
	activate(t, s, p, subscription("Patient?family=Okafor", idOnly+`,"extension":[{"url":"`+secretExtension+`","valueString":"`+secret+`"}]`))
	if n := read(t, s, "Subscription", "s"); strings.Contains(string(n.JSON()), "correct") {
		t.Fatal("it can be read")
	}
	for _, e := range do(t, s, Request{Interaction: HistoryInstance, Type: "Subscription", ID: "s"}).Bundle.Entries {
		if strings.Contains(string(e.Version.Content), "correct") {
			t.Fatal("it is in the history")
		}
	}
	put(t, s, patientNamed("a", "Okafor"))
	if err := s.Watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := ring(t, s, hookEvents, false); err != nil {
		t.Fatal(err)
	}
	c := p.take()[0]
	header := map[string]string{}
	for _, h := range c.Headers {
		name, value, _ := strings.Cut(h, ": ")
		header[name] = value
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(header["X-Kiln-Timestamp"] + "." + header["X-Kiln-Delivery"] + "."))
	mac.Write(c.Body)
	if header["X-Kiln-Signature"] != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
		t.Fatal(header)
	}
}

func TestSubscription_what_cannot_be_done_is_refused(t *testing.T) {
	t.Parallel()
	s, _ := switchboard(t)
	with := func(from, to string) string {
		return strings.Replace(subscription("Patient?family=x", ""), from, to, 1)
	}
	for name, body := range map[string]string{
		"channel":               with("rest-hook", "websocket"),
		"endpoint_not_allowed":  with("https://hooks.example/in", "https://169.254.169.254/latest"),
		"no_endpoint":           with(`,"endpoint":"https://hooks.example/in"`, ""),
		"payload":               with(`"endpoint"`, `"payload":"application/fhir+xml","endpoint"`),
		"another_content":       with(`"endpoint"`, idOnly+`,"_payload":{"extension":[{"url":"`+payloadExtension+`","valueCode":"everything"}]},"endpoint"`),
		"full_resource_in_open": strings.Replace(with(`"endpoint"`, idOnly+`,"_payload":{"extension":[{"url":"`+payloadExtension+`","valueCode":"full-resource"}]},"endpoint"`), "https://hooks.example/in", "http://hooks.example/in", 1),
		"unknown_topic":         subscription(topicBase+"nosuch", ""),
		"topic_of_another":      subscription("http://hl7.org/SubscriptionTopic/admission", ""),
		"filter_of_a_search":    with(`"criteria"`, filterOf("Patient?family=x")+`,"criteria"`),
		"filter_not_allowed":    strings.Replace(subscription(topicBase+"appointment-status", ""), `"criteria"`, filterOf("Appointment?date=2026")+`,"criteria"`, 1),
		"filter_with_modifier":  strings.Replace(subscription(topicBase+"appointment-status", ""), `"criteria"`, filterOf("Appointment?status:not=booked")+`,"criteria"`, 1),
		"filter_of_a_chain":     strings.Replace(subscription(topicBase+"appointment-status", ""), `"criteria"`, filterOf("Appointment?patient.name=x")+`,"criteria"`, 1),
		"filter_of_other_type":  strings.Replace(subscription(topicBase+"appointment-status", ""), `"criteria"`, filterOf("Slot?schedule=Schedule/x")+`,"criteria"`, 1),
		"filter_without_type":   strings.Replace(subscription(topicBase+"appointment-status", ""), `"criteria"`, filterOf("patient=Patient/x")+`,"criteria"`, 1),
		"filter_without_value":  strings.Replace(subscription(topicBase+"appointment-status", ""), `"criteria"`, filterOf("Appointment?")+`,"criteria"`, 1),
		"channel_of_its_own":    with(`"endpoint"`, `"_type":{"extension":[{"url":"`+channelExtension+`","valueCoding":{"code":"zulip"}}]},"endpoint"`),
		"no_event_a_call":       with(`"endpoint"`, `"extension":[{"url":"`+countExtension+`","valuePositiveInt":0}],"endpoint"`),
		"unknown_parameter":     subscription("Patient?nosuch=1", ""),
		"unknown_type":          subscription("Nosuch?family=1", ""),
		"no_criteria":           subscription("Patient", ""),
		"result_parameter":      subscription("Patient?family=x&_include=Patient:link", ""),
		"past":                  with(`"criteria"`, `"end":"2020-01-01T00:00:00Z","criteria"`),
		"header_of_the_server":  with(`"endpoint"`, `"header":["Host: evil.example"],"endpoint"`),
		"header_of_our_own":     with(`"endpoint"`, `"header":["X-Kiln-Signature: sha256=0"],"endpoint"`),
		"header_without_a_name": with(`"endpoint"`, `"header":[": x"],"endpoint"`),
		"heartbeat_too_often":   with(`"endpoint"`, `"extension":[{"url":"`+heartbeatExtension+`","valueUnsignedInt":1}],"endpoint"`),
		"short_secret":          with(`"endpoint"`, `"extension":[{"url":"`+secretExtension+`","valueString":"short"}],"endpoint"`),
	} {
		n := parse(t, body)
		_, err := s.Do(t.Context(), Request{Interaction: Update, Type: "Subscription", ID: "s", Body: n})
		if k := fhir.KindOf(err); err == nil || k != fhir.BusinessRule {
			t.Errorf("%s: %s", name, describe(err))
		}
	}
	if list, err := s.store.Subscriptions(t.Context()); err != nil || len(list) != 0 {
		t.Fatal(list, err)
	}
	if n, err := s.store.CountJobs(t.Context()); err != nil || len(n) != 0 {
		t.Fatal(n, err)
	}
}

func TestSubscription_without_endpoints_allowed_is_refused(t *testing.T) {
	t.Parallel()
	s := newService(t, func(o *Options, _ *storage.Options) { o.Messages = &Messages{} })
	refused(t, s, fhir.NotSupported, Request{Interaction: Update, Type: "Subscription", ID: "s", Body: parse(t, subscription("Patient?family=x", ""))})
	imported := newService(t)
	put(t, imported, subscription("Patient?family=x", ""))
	if got := status(t, imported, "Subscription", "s"); got != "off" {
		t.Errorf("an imported one is %s", got)
	}
}

func TestSubscription_heartbeats(t *testing.T) {
	t.Parallel()
	s, p := switchboard(t)
	activate(t, s, p, subscription("Patient?family=x", idOnly+`,"extension":[{"url":"`+heartbeatExtension+`","valueUnsignedInt":60}]`))
	for _, c := range []struct {
		later time.Duration
		jobs  int64
	}{{0, 1}, {2 * time.Minute, 2}} { // the handshake's is there as well
		s.options.Now = func() time.Time { return time.Now().Add(c.later) }
		if err := s.Watch(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, err := s.store.CountJobs(t.Context()); err != nil || n["available"] != c.jobs {
			t.Fatal(n, err)
		}
	}
	if err := ring(t, s, hookHeartbeat, false); err != nil {
		t.Fatal(err)
	}
	if calls := p.take(); len(calls) != 1 || !strings.Contains(string(calls[0].Body), "heartbeat") {
		t.Fatalf("%d calls", len(calls))
	}
}

func TestSubscription_status_and_events_for_who_missed_them(t *testing.T) {
	t.Parallel()
	s, p := switchboard(t)
	activate(t, s, p, subscription("Patient?family=Okafor", idOnly))
	for _, id := range []string{"a", "b", "c"} {
		put(t, s, patientNamed(id, "Okafor"))
	}
	events(t, s, p)
	answer := func(name string, parts ...string) string {
		t.Helper()
		return string(mustCall(t, s, "Subscription", "s", name, parts...).Resource.JSON())
	}
	if got := answer("status"); !strings.Contains(got, `"events-since-subscription-start","valueString":"3"`) || !strings.Contains(got, `"valueCode":"active"`) {
		t.Error(got)
	}
	if got := answer("events", arg("eventsSinceNumber", "valueString", `"2"`)); strings.Contains(got, "Patient/a") || !strings.Contains(got, "Patient/b") || !strings.Contains(got, "Patient/c") {
		t.Error(got)
	}
	if _, err := calls(t, s, "Subscription", "s", "events", arg("eventsSinceNumber", "valueString", `"x"`)); fhir.KindOf(err) != fhir.Invalid {
		t.Error(describe(err))
	}
	for want, parts := range map[string][]string{
		"1":  {},
		"1 ": {arg("id", "valueId", `"s"`), arg("id", "valueId", `"nosuch"`)},
		"0":  {arg("id", "valueId", `"nosuch"`)},
		"0 ": {arg("status", "valueCode", `"off"`)},
	} {
		if got := mustCall(t, s, "Subscription", "", "status", parts...).Resource; got.Get("total").Text != strings.TrimSpace(want) {
			t.Errorf("%v: %s", parts, got.JSON())
		}
	}
	if _, err := calls(t, s, "Subscription", "nosuch", "status"); fhir.KindOf(err) != fhir.NotFound {
		t.Error(describe(err))
	}
	// How many events there were is told to nobody who may not read Patients.
	for _, name := range []string{"status", "events"} {
		for text, want := range map[string]bool{"user/Subscription.rs": false, "user/Subscription.rs user/Patient.rs": true} {
			_, err := s.Do(t.Context(), Request{Principal: admin(text), Interaction: Operate, Type: "Subscription", ID: "s", Operation: name, Safe: true})
			if allowed := fhir.KindOf(err) != fhir.Forbidden; allowed != want {
				t.Errorf("$%s by %s: %s", name, text, describe(err))
			}
		}
	}
}
