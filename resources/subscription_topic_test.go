package resources

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
	"kiln/storage/identity"
)

// filterOf is a filter as a member of a Subscription.
func filterOf(filters ...string) string {
	list := make([]string, len(filters))
	for i, f := range filters {
		list[i] = fmt.Sprintf(`{"url":%q,"valueString":%q}`, filterExtension, f)
	}
	return `"_criteria":{"extension":[` + strings.Join(list, ",") + `]}`
}

// onTopic is the Subscription s of a topic.
func onTopic(name, content string, filters ...string) string {
	body := subscription(topicBase+name, idOnly+`,"_payload":{"extension":[{"url":"`+payloadExtension+`","valueCode":"`+content+`"}]}`)
	if len(filters) > 0 {
		body = strings.Replace(body, `"criteria"`, filterOf(filters...)+`,"criteria"`, 1)
	}
	return body
}

// tellEvents looks for events of the subscription s and gives what each is about.
func tellEvents(t *testing.T, s *Service, p *phone) (list []string) {
	t.Helper()
	if err := s.Watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := ring(t, s, hookEvents, false); err != nil {
		t.Fatal(err)
	}
	for _, c := range p.take() {
		for parameter := range parse(t, string(c.Body)).Get("entry").Kids[0].At("resource", "parameter").Items() {
			for part := range parameter.Get("part").Items() {
				if part.GetText("name") == "focus" {
					ref := part.Get("valueReference").GetText("reference")
					list = append(list, ref[strings.LastIndex(ref[:strings.LastIndex(ref, "/")], "/")+1:])
				}
			}
		}
	}
	return list
}

// TestTopic_triggers takes a visit, a Slot and results through their lives: each topic tells of what it says, and of nothing else.
func TestTopic_triggers(t *testing.T) {
	t.Parallel()
	for _, topic := range topics {
		t.Run(topic.name, func(t *testing.T) {
			t.Parallel()
			p := &phone{status: 200}
			s, clock := clinic(t, func(o *Options, _ *storage.Options) { o.Messages = &Messages{Hooks: p} })
			put(t, s, `{"resourceType":"Observation","id":"old","status":"final","code":{"text":"x"}}`)
			clock.Advance(time.Second)
			activate(t, s, p, onTopic(topic.name, "id-only"))
			var visit string
			for _, step := range []struct {
				name string
				do   func()
				// topics are those of which the step is an event, with what it is about.
				topics map[string]string
			}{
				{"book", func() { visit = mustCreate(t, s, booking("ada", "s9")).ID }, map[string]string{"appointment-created": "Appointment/VISIT"}},
				{"comment", func() {
					do(t, s, Request{Interaction: Patch, Type: "Appointment", ID: visit, JSONPatch: []byte(`[{"op":"add","path":"/comment","value":"x"}]`), IfMatch: fmt.Sprint(versions(t, s, "Appointment", visit)[0])})
				}, nil},
				{"reschedule", func() {
					mustCall(t, s, "Appointment", visit, "reschedule", arg("start", "valueDateTime", `"2026-01-16T10:00:00Z"`))
				}, map[string]string{"appointment-time": "Appointment/VISIT", "slot-freed": "Slot/s9"}},
				{"cancel", func() {
					if err := patchStatus(t, s, visit, "cancelled"); err != nil {
						t.Fatal(describe(err))
					}
				}, map[string]string{"appointment-status": "Appointment/VISIT", "slot-freed": "Slot/s10"}},
				{"new_slot", func() {
					put(t, s, `{"resourceType":"Slot","id":"new","schedule":{"reference":"Schedule/cal"},"status":"free","start":"2026-01-17T09:00:00Z","end":"2026-01-17T09:30:00Z"}`)
				}, nil},
				{"preliminary", func() {
					put(t, s, `{"resourceType":"Observation","id":"o","status":"preliminary","code":{"text":"x"}}`)
				}, nil},
				{"final", func() {
					put(t, s, `{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"}}`)
				}, map[string]string{"result-final": "Observation/o"}},
				{"amended", func() {
					put(t, s, `{"resourceType":"Observation","id":"o","status":"amended","code":{"text":"y"},"note":[{"text":"why"}],"extension":[{"url":"`+fhir.CanonicalBase+`StructureDefinition/change-reason","valueString":"typo"}]}`)
				}, nil},
				{"report", func() {
					put(t, s, `{"resourceType":"DiagnosticReport","id":"r","status":"final","code":{"text":"x"}}`)
				}, map[string]string{"result-final": "DiagnosticReport/r"}},
			} {
				step.do()
				got := tellEvents(t, s, p)
				var want []string
				if about := step.topics[topic.name]; about != "" {
					want = []string{strings.Replace(about, "VISIT", visit, 1)}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s: %q, want %q", step.name, got, want)
				}
			}
		})
	}
}

// Several changes between two looks are each an event, in their order, by what each version was.
func TestTopic_every_version_counts(t *testing.T) {
	t.Parallel()
	s, p := switchboard(t)
	activate(t, s, p, onTopic("result-final", "id-only", "Observation?code=glucose"))
	observation := func(id, status, code string) {
		put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":%q,"code":{"coding":[{"code":%q}]}}`, id, status, code))
	}
	observation("a", "preliminary", "glucose")
	observation("a", "final", "glucose")
	observation("b", "final", "sodium")
	observation("c", "final", "glucose")
	put(t, s, `{"resourceType":"DiagnosticReport","id":"r","status":"final","code":{"text":"x"}}`) // a filter is of its type
	if got := tellEvents(t, s, p); !slices.Equal(got, []string{"Observation/a", "Observation/c", "DiagnosticReport/r"}) {
		t.Errorf("%q", got)
	}
}

// TestTopic_filters narrow by what the version was that made the event, not by what it has become.
func TestTopic_filters(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		filters []string
		want    int
	}{
		"none":             {nil, 2},
		"status":           {[]string{"Appointment?status=arrived"}, 1},
		"either":           {[]string{"Appointment?status=arrived,checked-in"}, 2},
		"both":             {[]string{"Appointment?status=arrived&patient=Patient/ada"}, 1},
		"two_filters":      {[]string{"Appointment?status=arrived", "Appointment?patient=Patient/ben"}, 0},
		"practitioner":     {[]string{"Appointment?practitioner=Practitioner/doc"}, 2},
		"other":            {[]string{"Appointment?practitioner=Practitioner/other"}, 0},
		"status_it_was_in": {[]string{"Appointment?status=booked"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &phone{status: 200}
			s, clock := clinic(t, func(o *Options, _ *storage.Options) { o.Messages = &Messages{Hooks: p} })
			clock.Advance(instant(new(fhir.Str("2026-01-16T08:30:00Z"))).Sub(s.now()))
			visit := mustCreate(t, s, booking("ada", "s9")).ID
			activate(t, s, p, onTopic("appointment-status", "id-only", c.filters...))
			for _, to := range []string{"arrived", "checked-in"} {
				if err := patchStatus(t, s, visit, to); err != nil {
					t.Fatal(describe(err))
				}
			}
			if got := tellEvents(t, s, p); len(got) != c.want {
				t.Errorf("%q, want %d", got, c.want)
			}
		})
	}
}

// TestTopic_contents: what a notification tells, by its content, and that $status and $events say the topic.
func TestTopic_contents(t *testing.T) {
	t.Parallel()
	topic := `"name":"topic","valueCanonical":"` + topicBase + `result-final"`
	for content, c := range map[string]struct{ names, holds, topic bool }{
		"empty":         {false, false, false},
		"id-only":       {true, false, true},
		"full-resource": {true, true, true},
	} {
		t.Run(content, func(t *testing.T) {
			t.Parallel()
			s, p := switchboard(t)
			s.options.Audit = true
			activate(t, s, p, onTopic("result-final", content))
			put(t, s, `{"resourceType":"Patient","id":"ada"}`)
			put(t, s, `{"resourceType":"Observation","id":"o","status":"final","code":{"text":"sugar"},"subject":{"reference":"Patient/ada"}}`)
			got := events(t, s, p)
			if len(got) != 1 {
				t.Fatal(got)
			}
			n := parse(t, got[0])
			for text, want := range map[string]bool{"Observation/o": c.names, "sugar": c.holds, topic: c.topic, `"name":"focus"`: c.names} {
				if strings.Contains(got[0], text) != want {
					t.Errorf("%s: %t, want %t in %s", text, !want, want, got[0])
				}
			}
			if n.GetText("type") != "history" || n.Get("entry").Kids[0].Get("resource").ResourceType() != "Parameters" {
				t.Error(got[0])
			}
			for name, want := range map[string]bool{"status": true, "events": c.topic} {
				if text := string(mustCall(t, s, "Subscription", "s", name).Resource.JSON()); strings.Contains(text, topic) != want {
					t.Errorf("$%s: %s", name, text)
				}
			}
			for as, holds := range map[string]bool{"empty": false, "id-only": false, "full-resource": true} {
				if text := string(mustCall(t, s, "Subscription", "s", "events", arg("content", "valueCode", `"`+as+`"`)).Resource.JSON()); strings.Contains(text, "sugar") != holds {
					t.Errorf("$events of %s: %s", as, text)
				}
			}
			if _, err := s.ChainAudit(t.Context()); err != nil {
				t.Fatal(err)
			}
			logged := do(t, s, Request{Interaction: SearchType, Type: "AuditEvent", Query: "subtype=" + ActNotify})
			if len(logged.Bundle.Entries) > 0 != c.holds {
				t.Errorf("%d entries in the log", len(logged.Bundle.Entries))
			}
			read := do(t, s, Request{Interaction: SearchType, Type: "AuditEvent", Query: "subtype=operation&patient=Patient/ada"})
			times := 1 // $events of full-resource
			if c.holds {
				times = 2
			}
			if len(read.Bundle.Entries) != times {
				t.Errorf("%d entries in the log of what the patient's record was read by", len(read.Bundle.Entries))
			}
			if _, err := calls(t, s, "Subscription", "s", "events", arg("content", "valueCode", `"all"`)); fhir.KindOf(err) != fhir.Invalid {
				t.Error(describe(err))
			}
		})
	}
}

// Whole resources are sent with the rights of the moment, as the resource is then, and no more than fit.
func TestTopic_full_resources_are_those_of_the_moment(t *testing.T) {
	t.Parallel()
	s, p := switchboard(t)
	ctx := t.Context()
	if err := s.store.Identity().AddClient(ctx, &identity.Client{ID: "lab", Name: "Lab", AuthMethod: identity.AuthSecret, Secret: make([]byte, 32), GrantTypes: []string{"client_credentials"}, Scope: "x"}); err != nil {
		t.Fatal(err)
	}
	scopes, _ := auth.ParseScopes("system/Observation.rs?category=laboratory system/DiagnosticReport.rs system/Subscription.cruds")
	body := parse(t, onTopic("result-final", "full-resource"))
	body.Remove("id")
	if _, err := s.Do(ctx, Request{Principal: auth.Principal{Client: "lab", Scopes: scopes}, Interaction: Create, Type: "Subscription", Body: body}); err != nil {
		t.Fatal(describe(err))
	}
	few, _ := auth.ParseScopes("system/Observation.rs system/Subscription.cruds")
	if _, err := s.Do(ctx, Request{Principal: auth.Principal{Client: "lab", Scopes: few}, Interaction: Create, Type: "Subscription", Body: parse(t, strings.Replace(onTopic("result-final", "id-only"), `"id":"s",`, "", 1))}); fhir.KindOf(err) != fhir.Forbidden {
		t.Errorf("subscribed to half of what it may not read: %s", describe(err))
	}
	list, err := s.store.Subscriptions(ctx)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	call := func(what string) {
		t.Helper()
		if err := s.DoJob(ctx, hookJob(list[0].ID, what, versions(t, s, "Subscription", list[0].ID)[0])); err != nil {
			t.Fatal(err)
		}
	}
	call(hookHandshake)
	p.take()
	observation := func(id, category, text string) {
		put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","code":{"text":%q},"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":%q}]}]}`, id, text, category))
	}
	observation("seen", "laboratory", "sugar")
	observation("hidden", "vital-signs", "pulse")
	observation("later", "laboratory", "salt")
	for i := range 3 {
		observation(fmt.Sprint("big", i), "laboratory", strings.Repeat("x", 1<<20)+strings.Repeat("y", 1<<19))
	}
	if err := s.Watch(ctx); err != nil {
		t.Fatal(err)
	}
	do(t, s, Request{Interaction: Patch, Type: "Observation", ID: "later", JSONPatch: []byte(`[{"op":"replace","path":"/category/0/coding/0/code","value":"vital-signs"},{"op":"replace","path":"/status","value":"amended"},{"op":"add","path":"/extension","value":[{"url":"` + fhir.CanonicalBase + `StructureDefinition/change-reason","valueString":"another kind"}]}]`)})
	call(hookEvents)
	var all []string
	for _, c := range p.take() {
		if len(c.Body) > maxNotification+(1<<20) {
			t.Errorf("a call of %d bytes", len(c.Body))
		}
		all = append(all, string(c.Body))
	}
	text := strings.Join(all, "")
	if len(all) != 2 || !strings.Contains(text, "sugar") || strings.Contains(text, "pulse") || strings.Contains(text, "salt") || strings.Contains(text, "later") || !strings.Contains(text, "big0") || !strings.Contains(text, "big2") {
		t.Errorf("%d calls, %.300s", len(all), text)
	}
}

// A call tells of no more events than its client wants.
func TestSubscription_max_count(t *testing.T) {
	t.Parallel()
	s, p := switchboard(t)
	activate(t, s, p, subscription("Patient?family=Okafor", idOnly+`,"extension":[{"url":"`+countExtension+`","valuePositiveInt":2}]`))
	for i := range 5 {
		put(t, s, patientNamed(fmt.Sprint("p", i), "Okafor"))
	}
	if got := events(t, s, p); len(got) != 3 || strings.Count(got[0], `"event-number"`) != 2 {
		t.Errorf("%d calls: %q", len(got), got)
	}
}

var updateTopics = flag.Bool("update-topics", false, "write the table of topics in docs/messages.md anew")

// TestTopics_in_the_docs are those of the code.
func TestTopics_in_the_docs(t *testing.T) {
	t.Parallel()
	const file, begin, end = "../docs/messages.md", "<!-- topics -->\n", "<!-- end of topics -->"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(data), begin)
	has, after, ok2 := strings.Cut(rest, end)
	switch want := topicTable(); {
	case !ok1 || !ok2:
		t.Fatalf("%s has no place for the topics", file)
	case has == want:
	case !*updateTopics:
		t.Errorf("the table in %s is not that of the code; run go test ./resources -run TestTopics_in -update-topics", file)
	default:
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
