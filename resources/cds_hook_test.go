package resources

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

const hookInstance = "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea"

// hookCall is a call about visits of a patient.
func hookCall(patient string, visits ...string) string {
	entries := make([]string, len(visits))
	for i, v := range visits {
		entries[i] = `{"resource":` + strings.Replace(v, `"status":"booked"`, `"status":"proposed"`, 1) + `}`
	}
	return fmt.Sprintf(`{"hook":"appointment-book","hookInstance":%q,"context":{"userId":"Practitioner/doc","patientId":%q,"appointments":{"resourceType":"Bundle","type":"collection","entry":[%s]}}}`,
		hookInstance, patient, strings.Join(entries, ","))
}

// TestCDSHooks_cards_say_what_a_booking_would: the cards of the hook and a booking of the same visit agree, for each kind of payer
// and each setting of the service, and the call leaves nothing behind.
func TestCDSHooks_cards_say_what_a_booking_would(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict)
	members := []string{"OK-1", "INACTIVE-1", "EXCLUDED-1", "EXHAUSTED-1", "AUTH-1", "SLOW-1"}
	for i, member := range members {
		patient := fmt.Sprint("p", i)
		put(t, s, fmt.Sprintf(`{"resourceType":"Patient","id":%q}`, patient))
		cover(t, s, "c"+patient, patient, "sandbox", member, "")
	}
	put(t, s, `{"resourceType":"Patient","id":"none"}`)
	slots := 12
	for _, mode := range []scheduling.CoverageMode{scheduling.CoverageStrict, scheduling.CoveragePend, scheduling.CoverageWarn, scheduling.CoverageOff} {
		setPolicy(t, s, mode, "none")
		for i := range len(members) + 1 {
			patient, member := "none", "no coverage"
			var covers []string
			if i < len(members) {
				patient, member = fmt.Sprint("p", i), members[i]
				covers = []string{"c" + patient}
			}
			slots++
			visit := strings.Replace(strings.Replace(insuredVisit(patient, "s10", covers...), "2026-01-16", fmt.Sprintf("2026-02-%02d", slots%28+1), -1), `"slot":[{"reference":"Slot/s10"}],`, "", 1)
			visit = strings.Replace(visit, `"participant":[`, `"participant":[{"actor":{"reference":"Practitioner/doc"},"status":"accepted"},`, 1)
			visit = strings.ReplaceAll(visit, "T10:", fmt.Sprintf("T%02d:", 6+slots%12))
			before := map[string]int64{}
			for _, typ := range []string{"Appointment", "CoverageEligibilityRequest", "CoverageEligibilityResponse", "Task", "Provenance"} {
				before[typ] = count(t, s, typ)
			}
			answer, err := s.AdviseBooking(t.Context(), auth.Operator("test"), parse(t, hookCall(patient, visit)))
			if err != nil {
				t.Fatalf("%s %s: %s", mode, member, describe(err))
			}
			for typ, n := range before {
				if now := count(t, s, typ); now != n {
					t.Errorf("%s %s: the call left %d of %s", mode, member, now-n, typ)
				}
			}
			var codes, indicators []string
			for c := range answer.Get("cards").Items() {
				indicators = append(indicators, c.GetText("indicator"))
				if code := c.At("source", "topic").GetText("code"); code != "" {
					codes = append(codes, code)
				}
				if summary := c.GetText("summary"); summary == "" || len([]rune(summary)) >= 140 || uuid.Validate(c.GetText("uuid")) != nil || c.At("source").GetText("label") == "" {
					t.Errorf("%s", c.JSON())
				}
			}
			resp, err := create(s, t, visit)
			var told []string
			var e *fhir.Error
			status := ""
			switch {
			case errors.As(err, &e):
				told = codesOf(e.Issues)
			case err != nil:
				t.Fatal(err)
			default:
				told, status = codesOf(resp.Issues), parse(t, string(resp.Version.Content)).GetText("status")
			}
			if len(told) > 1 {
				told = told[:1]
			}
			if fmt.Sprint(codes) != fmt.Sprint(told) {
				t.Errorf("%s %s: the card says %v, the booking %v", mode, member, codes, told)
			}
			want := "[info]"
			switch {
			case mode == scheduling.CoverageOff:
				want = "[]"
			case err != nil:
				want = "[critical]"
			case status == "pending" || len(told) > 0:
				want = "[warning]"
			}
			if fmt.Sprint(indicators) != want {
				t.Errorf("%s %s: %v, and the booking is %s %s", mode, member, indicators, status, describe(err))
			}
		}
	}
}

func TestCDSHooks_refuse_what_is_not_a_call(t *testing.T) {
	t.Parallel()
	s, _ := insured(t, scheduling.CoverageStrict, func(_ *Options, so *storage.Options) { so.Unrestricted = false })
	good := hookCall("ada", insuredVisit("ada", "s9"))
	change := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatal(old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, c := range map[string]struct{ body, at string }{
		"nothing":           {`{}`, "hook hookInstance context"},
		"another_hook":      {change(`"appointment-book"`, `"order-sign"`), "hook"},
		"hook_a_number":     {change(`"hook":"appointment-book"`, `"hook":7`), "hook"},
		"no_UUID":           {change(hookInstance, "one"), "hookInstance"},
		"context_a_list":    {`{"hook":"appointment-book","hookInstance":"` + hookInstance + `","context":[]}`, "context"},
		"no_user":           {change(`"userId":"Practitioner/doc",`, ""), "context.userId"},
		"user_a_device":     {change("Practitioner/doc", "Device/doc"), "context.userId"},
		"user_without_id":   {change(`"Practitioner/doc"`, `"Practitioner"`), "context.userId"},
		"no_patient":        {change(`"patientId":"ada",`, ""), "context.patientId context.appointments.entry[0].resource.participant"},
		"patient_a_path":    {change(`"patientId":"ada"`, `"patientId":"Patient/ada"`), "context.patientId context.appointments.entry[0].resource.participant"},
		"another_patient":   {change(`"patientId":"ada"`, `"patientId":"ben"`), "context.appointments.entry[0].resource.participant"},
		"another_first":     {change(`"participant":[`, `"participant":[{"actor":{"reference":"Patient/ben"},"status":"needs-action"},`), "context.appointments.entry[0].resource.participant"},
		"encounter_empty":   {change(`"patientId"`, `"encounterId":"","patientId"`), "context.encounterId"},
		"prefetch_a_list":   {change(`"context"`, `"prefetch":[],"context"`), "prefetch"},
		"token_no_server":   {change(`"context"`, `"fhirAuthorization":{},"context"`), "fhirServer"},
		"no_appointments":   {`{"hook":"appointment-book","hookInstance":"` + hookInstance + `","context":{"userId":"Patient/ada","patientId":"ada"}}`, "context.appointments"},
		"a_list_of_them":    {`{"hook":"appointment-book","hookInstance":"` + hookInstance + `","context":{"userId":"Patient/ada","patientId":"ada","appointments":[]}}`, "context.appointments"},
		"none_of_them":      {hookCall("ada"), "context.appointments.entry"},
		"a_booked_one":      {change(`"proposed"`, `"booked"`), "context.appointments.entry[0].resource.status"},
		"an_Observation":    {change(`"Appointment"`, `"Observation"`), "context.appointments.entry[0].resource"},
		"no_start":          {change(`"start":"2026-01-16T09:00:00Z",`, ""), "context.appointments.entry[0].resource.start"},
		"start_no_instant":  {change(`"start":"2026-01-16T09:00:00Z"`, `"start":"tomorrow"`), "context.appointments.entry[0].resource.start"},
		"unknown_element":   {change(`"status":"proposed"`, `"status":"proposed","colour":"red"`), "context.appointments.entry[0].resource.colour"},
		"too_many":          {hookCall("ada", strings.Split(strings.Repeat(insuredVisit("ada", "s9")+"\n", maxProposed+1), "\n")[:maxProposed+1]...), "context.appointments.entry"},
		"second_is_no_good": {hookCall("ada", insuredVisit("ada", "s9"), insuredVisit("ben", "s9")), "context.appointments.entry[1].resource.participant"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.AdviseBooking(t.Context(), auth.Operator("test"), parse(t, c.body))
			var e *fhir.Error
			if !errors.As(err, &e) || e.Kind != fhir.Invalid {
				t.Fatal(describe(err))
			}
			for want := range strings.FieldsSeq(c.at) {
				found := false
				for _, i := range e.Issues {
					found = found || i.Expression[0] == want
				}
				if !found {
					t.Errorf("nothing is said of %s: %s", want, describe(err))
				}
			}
		})
	}
	for name, c := range map[string]struct {
		who  auth.Principal
		want fhir.Kind
	}{
		"without_the_right_to_book": {doctor("doc", "user/Appointment.rs"), fhir.Forbidden},
		"another_patient":           {patientApp("ben", "patient/*.cruds"), fhir.NotFound},
		"a_stranger":                {doctor("doc", "user/*.cruds"), fhir.NotFound},
		"the_patient":               {patientApp("ada", "patient/Appointment.cruds"), 0},
		"the_desk":                  {admin("user/*.cruds"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.AdviseBooking(t.Context(), c.who, parse(t, good)); fhir.KindOf(err) != c.want && (err != nil || c.want != 0) {
				t.Errorf("%s", describe(err))
			}
		})
	}
	if _, err := s.AdviseBooking(t.Context(), auth.Operator("test"), parse(t, hookCall("missing", insuredVisit("missing", "s9")))); fhir.KindOf(err) != fhir.NotFound {
		t.Errorf("a patient who is not there: %s", describe(err))
	}
}
