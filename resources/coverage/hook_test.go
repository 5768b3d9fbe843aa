package coverage_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/conformance"
	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/resources/coverage"
)

// asked is a question about a visit.
func asked(t testing.TB) *coverage.Question {
	t.Helper()
	q := &coverage.Question{
		Request: parse(t, `{"resourceType":"CoverageEligibilityRequest","id":"q","status":"active","purpose":["benefits"],"patient":{"reference":"Patient/p"},"created":"2026-01-15","insurer":{"reference":"Organization/o"},
			"extension":[{"url":"`+coverage.ExtensionVisitPeriod+`","valuePeriod":{"start":"2026-01-16T09:00:00Z","end":"2026-01-16T09:30:00Z"}}],"item":[{"productOrService":{"coding":[{"system":"urn:service","code":"check-up"}]}}]}`),
		Patient:   parse(t, `{"resourceType":"Patient","id":"p","name":[{"family":"Abara"}],"telecom":[{"value":"secret"}]}`),
		Provider:  parse(t, `{"resourceType":"Practitioner","id":"doc","name":[{"family":"Okafor"}],"telecom":[{"value":"secret"}]}`),
		Payor:     parse(t, `{"resourceType":"Organization","id":"o","name":"Payer"}`),
		Coverages: []*fhir.Node{parse(t, `{"resourceType":"Coverage","id":"c","status":"active","subscriberId":"1","beneficiary":{"reference":"Patient/p"},"extension":[{"url":"urn:note","valueString":"secret"}]}`)},
		Asked:     time.Unix(0, 0), From: "2026-01-16", To: "2026-01-16",
	}
	q.Items = coverage.ItemsOf(q.Request)
	return q
}

// TestHookRequest_prefetch: a template is resolved among those whom the question is about, whatever it asks for, or its key is left out.
func TestHookRequest_prefetch(t *testing.T) {
	t.Parallel()
	for template, want := range map[string]string{
		"Patient/{{context.patientId}}":                                                           "Patient/p",
		"Patient/{{ context.patientId }}":                                                         "Patient/p",
		"{{context.userId}}":                                                                      "Practitioner/doc",
		"Practitioner/{{userPractitionerId}}":                                                     "Practitioner/doc",
		"Practitioner?_id={{userPractitionerId}}":                                                 "Practitioner/doc",
		"Patient?_id={{context.patientId}}":                                                       "Patient/p",
		"Coverage?patient={{context.patientId}}":                                                  "Coverage/c",
		"Coverage?beneficiary=Patient/{{context.patientId}}&status=active,draft":                  "Coverage/c",
		"Coverage?patient={{context.patientId}}&status=active&_include=Coverage:payor":            "Coverage/c Organization/o",
		"Coverage?patient={{context.patientId}}&status=cancelled&_include=Coverage:payor":         "none",
		"Coverage?patient=another":                                                                "none",
		"Patient/another":                                                                         "left out",
		"Patient?name=Abara":                                                                      "left out",
		"Patient":                                                                                 "left out",
		"Condition?patient={{context.patientId}}":                                                 "left out",
		"Coverage?patient={{context.patientId}}&_include=Coverage:subscriber":                     "left out",
		"Coverage?patient={{context.patientId}}&_revinclude=Claim:insurer":                        "left out",
		"Patient/{{context.encounterId}}":                                                         "left out",
		"Patient/{{userPatientId}}":                                                               "left out",
		"Patient/{{context.patientId":                                                             "left out",
		"Patient/{{context.patientId}}/../../Patient/another":                                     "left out",
		"Coverage?patient=%zz":                                                                    "left out",
		"Practitioner?_id={{context.appointments.Appointment.participant.actor.resolve().id}}":    "left out",
		"Patient/{{context.patientId}}" + strings.Repeat(" ", 1000):                               "left out",
		"https://elsewhere.example/Patient/{{context.patientId}}":                                 "left out",
		"Organization/o":                                                                          "Organization/o",
		"Coverage?_id=c&patient={{context.patientId}}&_include=Coverage:payor:Organization&_id=d": "none",
	} {
		services := fhir.Obj(fhir.Arr(fhir.Obj(fhir.Str("appointment-book").As("hook"), fhir.Str("s").As("id"), fhir.Obj(fhir.Str(template).As("key")).As("prefetch"))).As("services"))
		h, ok := coverage.ReadServices(&services)
		if !ok || h == nil {
			t.Fatal(template)
		}
		request := h.Request(asked(t))
		if strings.Contains(string(request.JSON()), "secret") {
			t.Errorf("%s: %s", template, request.JSON())
		}
		got := "left out"
		if n := request.At("prefetch", "key"); n != nil {
			got = "none"
			var names []string
			if n.ResourceType() != "Bundle" {
				names = append(names, n.ResourceType()+"/"+n.ID())
			}
			for e := range n.Get("entry").Items() {
				names = append(names, e.Get("resource").ResourceType()+"/"+e.Get("resource").ID())
			}
			if len(names) > 0 {
				got = strings.Join(names, " ")
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", template, got, want)
		}
	}
}

// TestReadServices finds the service for the hook, and takes no id that leads elsewhere.
func TestReadServices(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"services":[]}`: "none",
		`{"services":[{"hook":"order-sign","id":"a"},{"hook":"appointment-book","id":"b"},{"hook":"appointment-book","id":"c"}]}`: "b",
		`{"services":[{"hook":"appointment-book","id":"../../admin"},{"hook":"appointment-book","id":"c"}]}`:                      "c",
		`{"services":[{"hook":"appointment-book","id":".."}]}`:                                                                    "none",
		`{"services":[{"hook":"appointment-book","id":"a?b=c"}]}`:                                                                 "none",
		`{"services":[{"hook":"appointment-book","id":7}]}`:                                                                       "none",
		`{"services":[{"hook":"appointment-book"}]}`:                                                                              "none",
		`{"services":[7,null,{"hook":"appointment-book","id":"a","prefetch":[1]}]}`:                                               "a",
		`{"services":{"hook":"appointment-book","id":"a"}}`:                                                                       "nothing",
		`{}`: "nothing",
		`[]`: "nothing",
		`{"services":[` + strings.Repeat(`{"hook":"x","id":"x"},`, 100) + `{"hook":"appointment-book","id":"late"}]}`: "none",
	} {
		h, ok := coverage.ReadServices(parse(t, text))
		got := "nothing"
		if ok {
			if got = "none"; h != nil {
				got = h.ID
			}
		}
		if got != want {
			t.Errorf("%.80s: %s, want %s", text, got, want)
		}
	}
}

// information is an answer of a CDS service with the parts of several coverage-information.
func information(parts ...string) string {
	list := make([]string, len(parts))
	for i, p := range parts {
		list[i] = `{"url":"` + coverage.CoverageInformation + `","extension":[{"url":"coverage","valueReference":{"reference":"https://ehr.example/fhir/Coverage/c"}}` + p + `]}`
	}
	return `{"cards":[],"systemActions":[{"type":"update","resource":{"resourceType":"Appointment","id":"q","extension":[` + strings.Join(list, ",") + `]}}]}`
}

func code(url, value string) string { return fmt.Sprintf(`,{"url":%q,"valueCode":%q}`, url, value) }

// TestHear judges by what a FHIR server of the payer and its CDS service said together: the worse counts. What is judged is
// what is stored.
func TestHear(t *testing.T) {
	t.Parallel()
	const yes = `{"resourceType":"CoverageEligibilityResponse","outcome":"complete","insurance":[{"coverage":{"reference":"Coverage/c"},"inforce":true,"item":[{"category":{"text":"x"}%s}]}]}`
	covered := code("covered", "covered")
	for name, c := range map[string]struct {
		// server is what its FHIR server said more; "-" for a payer without one.
		server, hook string
		want         []coverage.Code
	}{
		"both_say_yes":                     {"", information(covered + code("pa-needed", "no-auth")), nil},
		"hook_says_nothing":                {"", `{"cards":[]}`, nil},
		"hook_says_no":                     {"", information(code("covered", "not-covered")), []coverage.Code{coverage.Excluded}},
		"server_says_no":                   {`,"excluded":true`, information(covered), []coverage.Code{coverage.Excluded}},
		"hook_wants_authorization":         {"", information(covered + code("pa-needed", "auth-needed")), []coverage.Code{coverage.Authorization}},
		"performer_has_to_ask":             {"", information(covered + code("pa-needed", "performpa")), []coverage.Code{coverage.Authorization}},
		"server_wants_it_hook_has_it":      {`,"authorizationRequired":true`, information(covered + code("pa-needed", "satisfied") + `,{"url":"satisfied-pa-id","valueString":"7"}`), nil},
		"one_code_has_it_another_needs_it": {"", information(covered+code("pa-needed", "satisfied"), covered+code("pa-needed", "auth-needed")), []coverage.Code{coverage.Authorization}},
		"one_code_covered_another_not":     {"", information(covered, code("covered", "not-covered")), []coverage.Code{coverage.Conditional}},
		"conditional":                      {"", information(code("covered", "conditional") + code("pa-needed", "conditional")), []coverage.Code{coverage.Conditional}},
		"documents":                        {"", information(covered + code("doc-needed", "admin")), []coverage.Code{coverage.Conditional}},
		"no_documents":                     {"", information(covered + code("doc-needed", "no-doc")), nil},
		"hook_does_not_know_the_member":    {"", information(code("covered", "not-covered") + `,{"url":"reason","valueCodeableConcept":{"coding":[{"code":"no-active-coverage"}]}}`), []coverage.Code{coverage.NotInForce}},
		"hook_alone_says_yes":              {"-", information(covered), nil},
		"hook_alone_says_nothing":          {"-", `{"cards":[]}`, []coverage.Code{coverage.Unverified}},
		"hook_alone_cannot_say":            {"-", information(code("covered", "indeterminate")), []coverage.Code{coverage.Unverified}},
		"hook_cannot_say":                  {"", information(code("covered", "indeterminate")), []coverage.Code{coverage.Conditional}},
		"hook_alone_is_out_of_network":     {"-", information(covered + `,{"url":"reason","valueCodeableConcept":{"coding":[{"code":"auth-out-network"}]}}`), []coverage.Code{coverage.OutOfNetwork}},
		"benefit_of_the_server_is_used_up": {`,"benefit":[{"type":{"text":"x"},"allowedUnsignedInt":1,"usedUnsignedInt":1}]`, information(covered), []coverage.Code{coverage.Exhausted}},
		"about_another_coverage":           {"-", strings.Replace(information(covered), "Coverage/c", "Coverage/cc", 1), []coverage.Code{coverage.Unverified}},
		"about_an_Appointment_of_another":  {"-", strings.Replace(information(covered), `"id":"q"`, `"id":"other"`, 1), []coverage.Code{coverage.Unverified}},
		"on_a_ServiceRequest":              {"-", strings.Replace(information(covered), `"Appointment"`, `"ServiceRequest"`, 1), []coverage.Code{coverage.Unverified}},
		"deletes_it":                       {"-", strings.Replace(information(covered), `"update"`, `"delete"`, 1), []coverage.Code{coverage.Unverified}},
		"more_than_anybody_would_say":      {"-", information(slices.Repeat([]string{covered}, 1000)...), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &coverage.Answer{Outcome: coverage.Complete}
			if c.server != "-" {
				a, _ = coverage.ReadAnswer(parse(t, fmt.Sprintf(yes, c.server)), "Coverage/c")
			}
			q := asked(t)
			h, ok := coverage.ReadHook(parse(t, c.hook), q)
			if !ok {
				t.Fatal("not understood")
			}
			a.Hear(q, h)
			stored := a.Node("a", q)
			read, ok := coverage.ReadAnswer(&stored)
			if !ok {
				t.Fatalf("%s", stored.JSON())
			}
			if got := codes(read.Judge(coverage.Visit{Coverage: "Coverage/c", Date: "2026-01-16"})); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q by %s", got, c.want, stored.JSON())
			}
		})
	}
}

// FuzzReadHook reads what a CDS service may send: whatever is taken of it, what is stored is FHIR, and not long.
func FuzzReadHook(f *testing.F) {
	f.Add(information(code("covered", "covered") + code("doc-needed", "clinical")))
	f.Add(`{"cards":[{"summary":"x\ny","suggestions":[{"actions":[{"type":"create","resource":{"resourceType":"Appointment","id":"q"}}]}]}]}`)
	f.Add(`{"cards":[1,null,[]],"systemActions":[{"type":7,"resource":[]}]}`)
	f.Add(information(`,{"url":"covered","valueCode":"covered"},{"url":"reason","valueCodeableConcept":{"coding":[{"code":" "},7],"text":""}}`))
	registry, err := conformance.R4()
	if err != nil {
		f.Fatal(err)
	}
	validator, err := validate.New(registry, validate.Options{Invariants: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := fhir.ParseJSON([]byte(text))
		if err != nil {
			return
		}
		if h, ok := coverage.ReadServices(n); ok && h != nil {
			h.Request(asked(t))
		}
		q := asked(t)
		h, ok := coverage.ReadHook(n, q)
		if !ok {
			return
		}
		a := &coverage.Answer{Outcome: coverage.Complete}
		a.Hear(q, h)
		a.Judge(coverage.Visit{Coverage: "Coverage/c", Date: "2026-01-16"})
		out := a.Node("a", q)
		for _, i := range validator.Resource(&out) {
			if i.Severity == fhir.SeverityError {
				t.Errorf("%+v in %s", i, out.JSON())
			}
		}
		if len(out.JSON()) > 200_000 {
			t.Errorf("%d bytes", len(out.JSON()))
		}
	})
}
