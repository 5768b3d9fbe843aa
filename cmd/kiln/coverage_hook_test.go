package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// hookPayer is a payer that has nothing but a CDS service, which behaves as it is told to: says is a template of its answer, in
// which VISIT and COVERAGE stand for the ids of what it was asked about.
type hookPayer struct {
	*httptest.Server
	says  atomic.Pointer[string]
	heard atomic.Pointer[string]
	// discovered and asked count calls.
	discovered, asked atomic.Int32
}

func newHookPayer(t *testing.T) *hookPayer {
	t.Helper()
	p := &hookPayer{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodGet && r.URL.Path == "/crd/cds-services" {
			p.discovered.Add(1)
			_, _ = io.WriteString(w, `{"services":[{"hook":"order-sign","id":"other"},{"hook":"appointment-book","id":"book-1","description":"CRD","prefetch":{"patient":"Patient/{{context.patientId}}",
				"coverage":"Coverage?patient={{context.patientId}}&status=active","records":"Condition?patient={{context.patientId}}","user":"Practitioner/{{userPractitionerId}}"}}]}`)
			return
		}
		if r.URL.Path != "/crd/cds-services/book-1" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		p.asked.Add(1)
		text := string(body)
		p.heard.Store(&text)
		var call struct {
			Context struct {
				Appointments struct {
					Entry []struct{ Resource struct{ ID string } }
				}
			}
			Prefetch struct {
				Coverage struct {
					Entry []struct{ Resource struct{ ID string } }
				}
			}
		}
		_ = json.Unmarshal(body, &call)
		if len(call.Context.Appointments.Entry) != 1 || len(call.Prefetch.Coverage.Entry) != 1 {
			w.WriteHeader(http.StatusPreconditionFailed)
			return
		}
		says := *p.says.Load()
		if says == "hang" {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, strings.NewReplacer("VISIT", call.Context.Appointments.Entry[0].Resource.ID, "COVERAGE", call.Prefetch.Coverage.Entry[0].Resource.ID).Replace(says))
	}))
	t.Cleanup(p.Close)
	return p
}

// assertion is an answer with a systemAction that asserts something of the visit.
func assertion(parts string) string {
	return `{"cards":[],"systemActions":[{"type":"update","description":"x","resource":{"resourceType":"Appointment","id":"VISIT","status":"proposed","comment":"of the payer","extension":[
		{"url":"http://hl7.org/fhir/us/davinci-crd/StructureDefinition/ext-coverage-information","extension":[{"url":"coverage","valueReference":{"reference":"Coverage/COVERAGE"}},
		{"url":"date","valueDate":"2026-01-15"},{"url":"coverage-assertion-id","valueString":"a-1"}` + parts + `]}]}}]}`
}

func part(url, value string) string {
	element := "valueCode"
	if url == "satisfied-pa-id" {
		element = "valueString"
	}
	return fmt.Sprintf(`,{"url":%q,%q:%q}`, url, element, value)
}

// TestCoverage_of_a_payers_CDS_service books over HTTP with a payer that is asked by the hook appointment-book alone.
func TestCoverage_of_a_payers_CDS_service(t *testing.T) {
	t.Parallel()
	p := newHookPayer(t)
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	origin, stop := serve(t, "--database-url="+startedDB(t), "--payer-hosts="+u.Host, "--payer-private", "--payer-timeout=5s") // as long as a payer that answers may take on a busy machine
	base := origin + "/fhir/"
	put := func(typ, id, body string) {
		t.Helper()
		if a := send(t.Context(), "PUT", base+typ+"/"+id, fmt.Sprintf(`{"resourceType":%q,"id":%q%s}`, typ, id, body)); a.err != nil || a.status > 201 {
			t.Fatalf("%s/%s: %+v", typ, id, a)
		}
	}
	const extension = "https://kiln.example/fhir/StructureDefinition/"
	put("Endpoint", "e", `,"status":"active","connectionType":{"system":"http://terminology.hl7.org/CodeSystem/endpoint-connection-type","code":"cds-hooks-service"},"payloadType":[{"text":"any"}],"address":"`+p.URL+`/crd"`)
	put("Organization", "payer", `,"name":"Payer","extension":[{"url":"`+extension+`payer-adapter","valueCode":"fhir"}],"endpoint":[{"reference":"Endpoint/e"}]`)
	put("Practitioner", "doc", `,"identifier":[{"system":"http://hl7.org/fhir/sid/us-npi","value":"1"}],"name":[{"family":"Okafor"}],"telecom":[{"system":"phone","value":"12345"}]`)
	put("Schedule", "cal", `,"actor":[{"reference":"Practitioner/doc"}],"extension":[{"url":"`+extension+`booking-policy","extension":[{"url":"coverage","valueCode":"strict"}]}]`)
	day := time.Now().UTC().Truncate(24 * time.Hour).Add(10 * 24 * time.Hour)
	n := 0
	book := func(says string) answer {
		t.Helper()
		p.says.Store(&says)
		n++
		put("Patient", fmt.Sprint("p", n), `,"name":[{"family":"Abara"}],"address":[{"city":"Lagos"}]`)
		put("Coverage", fmt.Sprint("c", n), fmt.Sprintf(`,"status":"active","subscriberId":"S%d","beneficiary":{"reference":"Patient/p%[1]d"},"payor":[{"reference":"Organization/payer"}]`, n))
		put("Coverage", fmt.Sprint("other", n), fmt.Sprintf(`,"status":"active","order":9,"subscriberId":"secret","beneficiary":{"reference":"Patient/p%d"},"payor":[{"display":"Another payer"}]`, n))
		put("Condition", fmt.Sprint("sick", n), fmt.Sprintf(`,"code":{"text":"secret"},"subject":{"reference":"Patient/p%d"},"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]}`, n))
		start := day.Add(time.Duration(n) * time.Hour)
		return send(t.Context(), "POST", base+"Appointment/$book", fmt.Sprintf(`{"resourceType":"Parameters","parameter":[{"name":"coverage","valueReference":{"reference":"Coverage/c%d"}},{"name":"appointment-resource","resource":{"resourceType":"Appointment","status":"booked","start":%q,"end":%q,"comment":"secret",
			"reasonCode":[{"text":"secret"}],"serviceType":[{"coding":[{"system":"urn:service","code":"check-up"}]}],
			"participant":[{"actor":{"reference":"Practitioner/doc"},"status":"accepted"},{"actor":{"reference":"Patient/p%[1]d"},"status":"accepted"}]}}]}`, n, start.Format(time.RFC3339), start.Add(30*time.Minute).Format(time.RFC3339)))
	}
	visit := func(a answer) map[string]any {
		entries, _ := a.body["entry"].([]any)
		if len(entries) == 0 {
			return nil
		}
		resource, _ := entries[0].(map[string]any)["resource"].(map[string]any)
		return resource
	}
	// explained are the responses that a visit refers to.
	explained := func(v map[string]any) string {
		text := ""
		for _, ref := range v["supportingInformation"].([]any) {
			if name, _ := ref.(map[string]any)["reference"].(string); strings.HasPrefix(name, "CoverageEligibilityResponse/") {
				body, _ := json.Marshal(send(t.Context(), "GET", base+name, "").body)
				text += string(body)
			}
		}
		return text
	}
	covered := part("covered", "covered")
	elsewhere := strings.Replace(assertion(part("covered", "not-covered")), `"id":"VISIT"`, `"id":"of-another"`, 1)
	for name, c := range map[string]struct {
		says string
		// want is a status of the visit, or a code of the refusal.
		want string
		// warns is a code that the answer names, because something that the stored response explains it by.
		warns, because string
	}{
		"covered":              {assertion(covered + part("pa-needed", "no-auth")), "booked", "", `"a-1"`},
		"not_covered":          {assertion(part("covered", "not-covered")), "service-excluded", "", ""},
		"no_such_member":       {assertion(part("covered", "not-covered") + `,{"url":"reason","valueCodeableConcept":{"coding":[{"system":"http://hl7.org/fhir/us/davinci-crd/CodeSystem/temp","code":"no-member-found"}]}}`), "coverage-not-in-force", "", ""},
		"authorization_needed": {assertion(covered + part("pa-needed", "auth-needed")), "pending", "authorization-required", `"authorizationRequired":true`},
		"authorization_exists": {assertion(covered + part("pa-needed", "satisfied") + part("satisfied-pa-id", "PA-7")), "booked", "", `"preAuthRef":["PA-7"]`},
		"conditional":          {assertion(part("covered", "conditional")), "booked", "coverage-conditional", `"conditional"`},
		"documents_wanted":     {assertion(covered + part("doc-needed", "clinical")), "booked", "coverage-conditional", `"clinical"`},
		"out_of_network":       {assertion(covered + `,{"url":"reason","valueCodeableConcept":{"coding":[{"code":"auth-out-network"}]}}`), "booked", "out-of-network", `"out"`},
		"by_a_suggestion": {`{"cards":[{"summary":"Ask first","indicator":"info","source":{"label":"x"},"suggestions":[{"label":"x","actions":` +
			strings.TrimSuffix(strings.SplitN(assertion(covered+part("pa-needed", "auth-needed")), `"systemActions":`, 2)[1], "}") + `}]}]}`, "pending", "authorization-required", "Ask first"},
		"nothing_said":       {`{"cards":[]}`, "pending", "coverage-unverified", ""},
		"cannot_say":         {assertion(part("covered", "indeterminate")), "pending", "coverage-unverified", ""},
		"of_another_visit":   {elsewhere, "pending", "coverage-unverified", ""},
		"of_another_member":  {strings.Replace(assertion(covered), "Coverage/COVERAGE", "Coverage/c1", 1), "pending", "coverage-unverified", ""},
		"code_it_made_up":    {assertion(part("covered", "maybe")), "pending", "coverage-unverified", ""},
		"hangs":              {"hang", "pending", "coverage-pending", ""},
		"a_page":             {"<h1>Maintenance</h1>", "pending", "coverage-pending", ""},
		"another_object":     {"{}", "pending", "coverage-pending", ""},
		"lists_of_the_wrong": {`{"cards":{"a":1},"systemActions":7}`, "pending", "coverage-pending", ""},
		"too_much":           {`{"cards":[],"x":"` + strings.Repeat("x", 2<<20) + `"}`, "pending", "coverage-pending", ""},
		"very_deep":          {`{"cards":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, "pending", "coverage-pending", ""},
	} {
		if name == "of_another_member" && n == 0 {
			book(assertion(covered))
		}
		a := book(c.says)
		v := visit(a)
		if v == nil {
			if a.status != 422 || !strings.Contains(fmt.Sprint(a.body), c.want) {
				t.Errorf("%s: %d %v", name, a.status, a.body)
			}
			continue
		}
		if text := explained(v); v["status"] != c.want || !strings.Contains(fmt.Sprint(a.body), c.warns) || !strings.Contains(text, strings.ReplaceAll(c.because, `:["PA-7"]`, `:"PA-7"`)) {
			t.Errorf("%s: the visit is %v, %s, by %s", name, v["status"], a.body, text)
		}
		if fmt.Sprint(v["comment"]) != "secret" || v["extension"] != nil {
			t.Errorf("%s: the payer wrote on the appointment: %v", name, v)
		}
	}
	if p.discovered.Load() != 1 {
		t.Errorf("discovered %d times", p.discovered.Load())
	}
	heard := *p.heard.Load()
	for _, secret := range []string{"secret", "Lagos", "12345", "Another payer", "Condition", "records", "fhirServer"} {
		if strings.Contains(heard, secret) {
			t.Errorf("the payer was told %q: %s", secret, heard)
		}
	}
	for _, needed := range []string{`"hook":"appointment-book"`, `"userId":"Practitioner/doc"`, "Abara", "us-npi", `"start"`, "check-up"} {
		if !strings.Contains(heard, needed) {
			t.Errorf("the payer was not told %q: %s", needed, heard)
		}
	}
	if stop() != 0 {
		t.Error("it did not end well")
	}
}
