package resources

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kiln/conformance"
	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/resources/coverage"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// insured is clinic with a payer of each kind and a policy for the coverage of visits. Everything that is written is
// validated, so that what the server makes by itself is FHIR too.
func insured(t testing.TB, mode scheduling.CoverageMode, change ...func(*Options, *storage.Options)) (*Service, *kilntest.Clock) {
	t.Helper()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	validator, err := validate.New(registry, validate.Options{Invariants: true})
	if err != nil {
		t.Fatal(err)
	}
	s, clock := clinic(t, append([]func(*Options, *storage.Options){func(o *Options, _ *storage.Options) {
		o.Validate, o.PayerTimeout = validator.Resource, 20*time.Millisecond
	}}, change...)...)
	for _, adapter := range []string{"local", "sandbox", "unheard"} {
		put(t, s, fmt.Sprintf(`{"resourceType":"Organization","id":%q,"name":"Payer","extension":[{"url":%q,"valueCode":%[1]q}]}`, adapter, coverage.ExtensionPayerAdapter))
	}
	setPolicy(t, s, mode, "none")
	return s, clock
}

func setPolicy(t testing.TB, s *Service, mode scheduling.CoverageMode, approval string) {
	put(t, s, fmt.Sprintf(`{"resourceType":"Schedule","id":"cal","extension":[{"url":%q,"extension":[{"url":"coverage","valueCode":%q},{"url":"approval","valueCode":%q}]}],
		"actor":[{"reference":"Practitioner/doc"},{"reference":"Location/room"}]}`, scheduling.ExtensionBookingPolicy, mode, approval))
}

// cover puts a coverage of a patient; more are further members.
func cover(t testing.TB, s *Service, id, patient, payor, member, more string) {
	t.Helper()
	status := `"active"`
	if strings.Contains(more, `"status"`) {
		status = ""
	}
	if status != "" {
		status = `"status":` + status + ","
	}
	put(t, s, fmt.Sprintf(`{"resourceType":"Coverage","id":%q,%s"beneficiary":{"reference":"Patient/%s"},"payor":[{"reference":"Organization/%s"}],"subscriberId":%q%s}`, id, status, patient, payor, member, more))
}

// insuredVisit is booking with a service and, if any, a coverage.
func insuredVisit(patient, slot string, coverages ...string) string {
	refs := ""
	for i, c := range coverages {
		if i > 0 {
			refs += ","
		}
		refs += fmt.Sprintf(`{"reference":"Coverage/%s"}`, c)
	}
	if refs != "" {
		refs = `"supportingInformation":[` + refs + `],`
	}
	hour := strings.TrimPrefix(slot, "s")
	if len(hour) < 2 {
		hour = "0" + hour
	}
	return fmt.Sprintf(`{"resourceType":"Appointment","status":"booked",%s"serviceType":[{"coding":[{"system":"urn:service","code":"check-up"}]}],"slot":[{"reference":"Slot/%s"}],"start":"2026-01-16T%s:00:00Z","end":"2026-01-16T%[3]s:30:00Z","participant":[{"actor":{"reference":"Patient/%[4]s"},"status":"accepted"}]}`, refs, slot, hour, patient)
}

// codesOf are the stable codes of issues.
func codesOf(issues []fhir.Issue) (list []string) {
	for _, i := range issues {
		list = append(list, i.Detail)
	}
	return list
}

// TestGate takes each step of the gate with each policy.
func TestGate(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageOff)
	put(t, s, fmt.Sprintf(`{"resourceType":"Organization","id":"strictly","name":"Payer","extension":[{"url":%q,"valueCode":"sandbox"},{"url":%q,"valueString":"OK-[0-9]{4}"}]}`, coverage.ExtensionPayerAdapter, coverage.ExtensionMemberID))
	cover(t, s, "bens", "ben", "sandbox", "OK-1", "")
	put(t, s, `{"resourceType":"InsurancePlan","id":"narrow","status":"active","name":"Narrow","ownedBy":{"reference":"Organization/local"},"network":[{"reference":"Organization/others"}],
		"coverage":[{"type":{"text":"medical"},"benefit":[{"type":{"coding":[{"system":"urn:service","code":"check-up"}]}}]}]}`)
	for _, c := range []struct {
		name string
		code coverage.Code
		make func()
		use  string
	}{
		{"no_coverage", coverage.Missing, func() {}, ""},
		{"passes", "", func() { cover(t, s, "c", "ada", "sandbox", "OK-1", "") }, ""},
		{"step_1_inactive", coverage.Inactive, func() { cover(t, s, "c", "ada", "sandbox", "OK-1", `,"status":"cancelled"`) }, ""},
		{"step_1_mismatch", coverage.Mismatch, func() {}, "bens"},
		{"step_2_period_is_over", coverage.Period, func() { cover(t, s, "c", "ada", "sandbox", "OK-1", `,"period":{"end":"2026-01-15"}`) }, ""},
		{"step_2_period_has_not_begun", coverage.Period, func() { cover(t, s, "c", "ada", "sandbox", "OK-1", `,"period":{"start":"2026-01-17"}`) }, ""},
		{"step_2_last_day_counts", "", func() {
			cover(t, s, "c", "ada", "sandbox", "OK-1", `,"period":{"start":"2026-01-16","end":"2026-01-16"}`)
		}, ""},
		{"step_3_member_id_of_another_form", coverage.Identifier, func() { cover(t, s, "c", "ada", "strictly", "12", "") }, ""},
		{"step_3_member_id", "", func() { cover(t, s, "c", "ada", "strictly", "OK-1234", "") }, ""},
		{"step_4_not_in_force", coverage.NotInForce, func() { cover(t, s, "c", "ada", "sandbox", "INACTIVE-1", "") }, ""},
		{"step_4_unverified", coverage.Unverified, func() {
			put(t, s, `{"resourceType":"Coverage","id":"c","status":"active","beneficiary":{"reference":"Patient/ada"},"payor":[{"display":"My insurance"}]}`)
		}, ""},
		{"step_4_payer_knows_no_such_member", coverage.NotInForce, func() { cover(t, s, "c", "ada", "sandbox", "XYZ-1", "") }, ""},
		{"step_4_payer_cannot_be_asked", coverage.NotInForce, func() { cover(t, s, "c", "ada", "unheard", "OK-1", "") }, ""},
		{"step_5_excluded", coverage.Excluded, func() { cover(t, s, "c", "ada", "sandbox", "EXCLUDED-1", "") }, ""},
		{"step_5_out_of_network", coverage.OutOfNetwork, func() { cover(t, s, "c", "ada", "local", "1", "") }, ""},
		{"step_5_excluded_by_a_CDS_service", coverage.Excluded, func() { cover(t, s, "c", "ada", "sandbox", "CRD-EXCLUDED-1", "") }, ""},
		{"step_5_out_of_network_by_a_CDS_service", coverage.OutOfNetwork, func() { cover(t, s, "c", "ada", "sandbox", "CRD-NETWORK-1", "") }, ""},
		{"step_5_conditional", coverage.Conditional, func() { cover(t, s, "c", "ada", "sandbox", "CRD-CONDITIONAL-1", "") }, ""},
		{"step_7_authorization_by_a_CDS_service", coverage.Authorization, func() { cover(t, s, "c", "ada", "sandbox", "CRD-AUTH-1", "") }, ""},
		{"step_7_authorized_by_a_CDS_service", "", func() { cover(t, s, "c", "ada", "sandbox", "CRD-SATISFIED-1", "") }, ""},
		{"passes_a_CDS_service", "", func() { cover(t, s, "c", "ada", "sandbox", "CRD-OK-1", "") }, ""},
		{"step_6_exhausted", coverage.Exhausted, func() { cover(t, s, "c", "ada", "sandbox", "EXHAUSTED-1", "") }, ""},
		{"step_7_authorization", coverage.Authorization, func() { cover(t, s, "c", "ada", "sandbox", "AUTH-1", "") }, ""},
		{"step_8_no_answer", coverage.Pending, func() { cover(t, s, "c", "ada", "sandbox", "SLOW-1", "") }, ""},
	} {
		c.make()
		for _, mode := range []scheduling.CoverageMode{scheduling.CoverageStrict, scheduling.CoveragePend, scheduling.CoverageWarn, scheduling.CoverageOff} {
			t.Run(c.name+"_"+string(mode), func(t *testing.T) {
				setPolicy(t, s, mode, "none")
				body := insuredVisit("ada", "s9")
				if c.use != "" {
					body = insuredVisit("ada", "s9", c.use)
				}
				resp, err := create(s, t, body)
				var step coverage.Step
				for _, x := range coverage.Steps() {
					if x.Code == c.code {
						step = x
					}
				}
				waits, warns := coverage.Finding{Code: c.code}.Waits(), coverage.Finding{Code: c.code}.Warns()
				if c.code != "" && mode == scheduling.CoverageStrict && !waits && !warns {
					e, ok := err.(*fhir.Error)
					if !ok || e.Kind != fhir.BusinessRule || !slices.Contains(codesOf(e.Issues), string(c.code)) {
						t.Fatal(describe(err))
					}
					for _, i := range e.Issues {
						if i.Detail == string(c.code) && (len(i.Expression) != 1 || i.Expression[0] != step.At || i.Severity != fhir.SeverityError) {
							t.Errorf("%+v, want it at %s", i, step.At)
						}
					}
					return
				}
				if err != nil {
					t.Fatal(describe(err))
				}
				id := resp.Version.ID
				want := "booked"
				if c.code != "" && !warns && (mode == scheduling.CoveragePend || mode == scheduling.CoverageStrict) {
					want = "pending"
				}
				if got := status(t, s, "Appointment", id); got != want {
					t.Errorf("it is %s, want %s", got, want)
				}
				if told := codesOf(resp.Issues); mode != scheduling.CoverageOff && c.code != "" && !slices.Contains(told, string(c.code)) {
					t.Errorf("told %q, want %s", told, c.code)
				} else if (mode == scheduling.CoverageOff || c.code == "") && len(told) > 0 {
					t.Errorf("told %q", told)
				}
				tasks := count(t, s, "Task")
				if wantTask := c.code == coverage.Authorization && mode != scheduling.CoverageOff || c.code == coverage.Unverified && want == "pending" || mode == scheduling.CoveragePend && want == "pending" && !waits; (tasks > 0) != wantTask {
					t.Errorf("%d Tasks", tasks)
				}
				if err := patchStatus(t, s, id, "cancelled"); err != nil {
					t.Fatal(describe(err))
				}
				do(t, s, Request{Interaction: Delete, Type: "Appointment", ID: id})
				for _, e := range do(t, s, Request{Interaction: SearchType, Type: "Task"}).Bundle.Entries {
					do(t, s, Request{Interaction: Delete, Type: "Task", ID: e.Version.ID})
				}
			})
		}
		if c.use == "" && c.code != coverage.Missing {
			do(t, s, Request{Interaction: Delete, Type: "Coverage", ID: "c"})
		}
	}
	agrees(t, s)
}

func TestCoverage_and_answer_are_linked_and_vouched_for(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict)
	cover(t, s, "second", "ada", "sandbox", "OK-2", `,"order":2`)
	cover(t, s, "first", "ada", "sandbox", "OK-1", `,"order":1`)
	v := mustCreate(t, s, insuredVisit("ada", "s9"))
	n := read(t, s, "Appointment", v.ID)
	var linked []string
	for ref := range n.Get("supportingInformation").Items() {
		linked = append(linked, ref.GetText("reference"))
	}
	if len(linked) != 2 || linked[0] != "Coverage/first" {
		t.Fatalf("linked %q", linked)
	}
	answer := read(t, s, "CoverageEligibilityResponse", keyOf(linked[1]).ID)
	question := read(t, s, "CoverageEligibilityRequest", keyOf(answer.Get("request").GetText("reference")).ID)
	for _, n := range []*fhir.Node{answer, question, n} {
		if issues, err := s.validate(t.Context(), nil, n); err != nil {
			t.Errorf("%s: %s %v", n.ResourceType(), describe(err), issues)
		}
	}
	if question.GetText("servicedDate") != "2026-01-16" || answer.GetText("outcome") != "complete" || question.Get("provider").GetText("reference") != "Practitioner/doc" {
		t.Errorf("%s %s", question.JSON(), answer.JSON())
	}
	found := do(t, s, Request{Interaction: SearchType, Type: "Provenance", Query: "target=" + linked[1]}).Bundle.Entries
	if len(found) != 1 {
		t.Fatalf("%d Provenances", len(found))
	}
	if text := string(found[0].Version.Content); !strings.Contains(text, "adapter sandbox") || !strings.Contains(text, "Organization/sandbox") {
		t.Error(text)
	}
	// The same question has the same answer for three days.
	if err := patchStatus(t, s, v.ID, "cancelled"); err != nil {
		t.Fatal(describe(err))
	}
	mustCreate(t, s, insuredVisit("ada", "s10"))
	if n := count(t, s, "CoverageEligibilityResponse"); n != 1 {
		t.Errorf("%d answers", n)
	}
}

func TestAnswer_older_than_three_days_is_asked_for_again(t *testing.T) {
	t.Parallel()
	s, clock := insured(t, scheduling.CoverageStrict)
	cover(t, s, "c", "ada", "sandbox", "OK-1", "")
	late := strings.Replace(insuredVisit("ada", "s9"), `"slot":[{"reference":"Slot/s9"}],"start":"2026-01-16T09:00:00Z","end":"2026-01-16T09:30:00Z"`, `"start":"2026-01-20T09:00:00Z","end":"2026-01-20T09:30:00Z"`, 1)
	late = strings.Replace(late, `"participant":[`, `"participant":[{"actor":{"reference":"Practitioner/doc"},"status":"accepted"},`, 1)
	v := mustCreate(t, s, late)
	for i, want := range []int64{1, 2} {
		clock.Advance(time.Duration(i) * 73 * time.Hour)
		if err := patchStatus(t, s, v.ID, "cancelled"); err != nil {
			t.Fatal(describe(err))
		}
		v = mustCreate(t, s, late)
		if n := count(t, s, "CoverageEligibilityResponse"); n != want {
			t.Errorf("%d answers, want %d", n, want)
		}
	}
}

// A response that a client posts is a record like any other: it opens no gate.
func TestPosted_response_never_counts(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict)
	cover(t, s, "c", "ada", "sandbox", "EXCLUDED-1", "")
	refusedAs := func(err error) {
		t.Helper()
		if codeOf(err) != string(coverage.Excluded) {
			t.Fatal(describe(err))
		}
	}
	_, err := create(s, t, insuredVisit("ada", "s9"))
	refusedAs(err)
	real := do(t, s, Request{Interaction: SearchType, Type: "CoverageEligibilityResponse"}).Bundle.Entries[0].Version
	n := parse(t, string(real.Content))
	n.At("insurance", "item").Kids[0].Set("excluded", fhir.Boolean(false))
	forged := string(n.JSON())
	n.Remove("id")
	id := do(t, s, Request{Interaction: Create, Type: "CoverageEligibilityResponse", Body: n}).Version.ID
	_, err = create(s, t, strings.Replace(insuredVisit("ada", "s9", "c"), `"supportingInformation":[`, `"supportingInformation":[{"reference":"CoverageEligibilityResponse/`+id+`"},`, 1))
	refusedAs(err)
	// Nor does one that is written over a real one: the payer is asked again.
	put(t, s, forged)
	_, err = create(s, t, insuredVisit("ada", "s9"))
	refusedAs(err)
	if n := count(t, s, "CoverageEligibilityResponse"); n != 3 {
		t.Errorf("%d responses", n)
	}
}

func TestSelf_pay_is_explicit(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict)
	node := func(slot string) string {
		return `{"name":"appointment-resource","resource":` + insuredVisit("ada", slot) + `}`
	}
	if _, err := calls(t, s, "Appointment", "", "book", node("s9")); codeOf(err) != string(coverage.Missing) {
		t.Fatal(describe(err))
	}
	resp := mustCall(t, s, "Appointment", "", "book", node("s9"), arg("self-pay", "valueBoolean", "true"))
	n := parse(t, string(resp.Bundle.Entries[0].Version.Content))
	pay := s.supports(n, "Coverage")
	if n.GetText("status") != "booked" || len(pay) != 1 || !coverage.IsSelfPay(read(t, s, "Coverage", keyOf(pay[0]).ID)) {
		t.Fatalf("%s", n.JSON())
	}
	// It is not chosen unless it is named, and there is one only.
	if _, err := calls(t, s, "Appointment", "", "book", node("s10")); codeOf(err) != string(coverage.Missing) {
		t.Fatal(describe(err))
	}
	mustCall(t, s, "Appointment", "", "book", node("s10"), arg("self-pay", "valueBoolean", "true"))
	mustCall(t, s, "Appointment", "", "book", node("s11"), argRef("coverage", pay[0]))
	if got := count(t, s, "Coverage"); got != 1 {
		t.Errorf("%d coverages", got)
	}
	if _, err := calls(t, s, "Appointment", "", "book", node("s9"), argRef("coverage", pay[0]), arg("self-pay", "valueBoolean", "true")); fhir.KindOf(err) != fhir.Invalid {
		t.Error(describe(err))
	}
}

// plan is a plan of the local payer that allows some visits a year.
func plan(visits int, more string) string {
	return fmt.Sprintf(`{"resourceType":"InsurancePlan","id":"plan","status":"active","name":"Basic","ownedBy":{"reference":"Organization/local"},"coverage":[{"type":{"text":"medical"},
		"benefit":[{"type":{"coding":[{"system":"urn:service","code":"check-up"}],"text":"check-ups"},"limit":[{"value":{"value":%d,"unit":"visits"}}]%s}]}]}`, visits, more)
}

// Two bookings want the last visit of a benefit: one of them gets it.
func TestRace_for_the_last_of_a_benefit(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict)
	put(t, s, plan(1, ""))
	cover(t, s, "c", "ada", "local", "1", "")
	var won atomic.Int32
	slots := []string{"s9", "s10", "s11"}
	race(len(slots), func(i int) {
		switch _, err := create(s, t, insuredVisit("ada", slots[i])); {
		case err == nil:
			won.Add(1)
		case codeOf(err) != string(coverage.Exhausted):
			t.Error(describe(err))
		}
	})
	if won.Load() != 1 {
		t.Errorf("%d have the one visit that is left", won.Load())
	}
}

func TestLocal_rules_count_what_the_record_shows(t *testing.T) {
	t.Parallel()
	s, clock := insured(t, scheduling.CoverageStrict)
	put(t, s, plan(3, ""))
	cover(t, s, "c", "ada", "local", "1", "")
	encounter := func(id, date, more string) {
		put(t, s, fmt.Sprintf(`{"resourceType":"Encounter","id":%q,"status":"finished","class":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"AMB"},"subject":{"reference":"Patient/ada"},"period":{"start":%q,"end":%[2]q},"serviceType":{"coding":[{"system":"urn:service","code":"check-up"}]}%s}`, id, date, more))
	}
	encounter("last-year", "2025-12-30", "")
	encounter("one", "2026-01-02", "")
	first := mustCreate(t, s, insuredVisit("ada", "s9"))
	clock.Set(time.Date(2026, time.January, 16, 8, 30, 0, 0, time.UTC))
	encounter("of-a-visit", "2026-01-16", `,"appointment":[{"reference":"Appointment/`+first.ID+`"}]`)
	second := mustCreate(t, s, insuredVisit("ada", "s10"))
	_, err := create(s, t, insuredVisit("ada", "s11"))
	if codeOf(err) != string(coverage.Exhausted) || !strings.Contains(err.Error(), "3 visits are allowed") {
		t.Fatal(describe(err))
	}
	if err := patchStatus(t, s, second.ID, "cancelled"); err != nil {
		t.Fatal(describe(err))
	}
	mustCreate(t, s, insuredVisit("ada", "s11")) // what was given back can be used
}

func TestLocal_rules_sum_up_money(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict)
	put(t, s, strings.Replace(plan(100, ""), `"unit":"visits"`, `"system":"urn:iso:std:iso:4217","code":"EUR"`, 1))
	cover(t, s, "c", "ada", "local", "1", "")
	pays := func(id, amount string) {
		put(t, s, fmt.Sprintf(`{"resourceType":"ExplanationOfBenefit","id":%q,"status":"active","type":{"text":"x"},"use":"claim","patient":{"reference":"Patient/ada"},"created":"2026-01-10","insurer":{"reference":"Organization/local"},"provider":{"reference":"Practitioner/doc"},"outcome":"complete",
			"insurance":[{"focal":true,"coverage":{"reference":"Coverage/c"}}],"item":[{"sequence":1,"productOrService":{"coding":[{"system":"urn:service","code":"check-up"}]}}],"payment":{"amount":{"value":%s,"currency":"EUR"}}}`, id, amount))
	}
	pays("a", "99.90")
	mustCreate(t, s, insuredVisit("ada", "s9"))
	pays("b", "0.10")
	cover(t, s, "c", "ada", "local", "2", "") // another version of the coverage: asked again
	if _, err := create(s, t, insuredVisit("ada", "s10")); codeOf(err) != string(coverage.Exhausted) || !strings.Contains(err.Error(), "100.00 EUR") {
		t.Fatal(describe(err))
	}
}

func TestLocal_rules_exclusion_authorization_network(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict)
	rule := func(name string) string {
		return fmt.Sprintf(`,"extension":[{"url":%q,"extension":[{"url":%q,"valueBoolean":true}]}]`, coverage.ExtensionBenefitRule, name)
	}
	cover(t, s, "c", "ada", "local", "1", "")
	put(t, s, plan(9, rule("excluded")))
	if _, err := create(s, t, insuredVisit("ada", "s9")); codeOf(err) != string(coverage.Excluded) {
		t.Fatal(describe(err))
	}
	put(t, s, plan(9, rule("authorization-required")))
	cover(t, s, "c", "ada", "local", "2", "")
	if v := mustCreate(t, s, insuredVisit("ada", "s9")); status(t, s, "Appointment", v.ID) != "pending" {
		t.Error("it needs no authorization")
	}
	networked := strings.Replace(plan(9, ""), `"coverage":[`, `"network":[{"reference":"Organization/net"}],"plan":[{"specificCost":[{"category":{"text":"x"},"benefit":[{"type":{"coding":[{"system":"urn:service","code":"check-up"}]},"cost":[{"type":{"text":"coinsurance"},"applicability":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/applicability","code":"out-of-network"}]},"value":{"value":40,"unit":"%"}}]}]}]}],"coverage":[`, 1)
	put(t, s, networked)
	cover(t, s, "c", "ada", "local", "3", "")
	resp, err := create(s, t, insuredVisit("ada", "s10"))
	if err != nil || !slices.Contains(codesOf(resp.Issues), string(coverage.OutOfNetwork)) || !strings.Contains(resp.Issues[0].Text, "coinsurance 40 %") {
		t.Fatalf("%s %+v", describe(err), resp)
	}
	put(t, s, `{"resourceType":"PractitionerRole","id":"r","practitioner":{"reference":"Practitioner/doc"},"organization":{"reference":"Organization/practice"}}`)
	put(t, s, `{"resourceType":"OrganizationAffiliation","id":"a","participatingOrganization":{"reference":"Organization/practice"},"network":[{"reference":"Organization/net"}]}`)
	cover(t, s, "c", "ada", "local", "4", "")
	if resp, err = create(s, t, insuredVisit("ada", "s11")); err != nil || len(resp.Issues) > 0 {
		t.Fatalf("%s %+v", describe(err), resp)
	}
}
