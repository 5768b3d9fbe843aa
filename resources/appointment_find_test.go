package resources

import (
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/fhir"
)

// TestFind_takes_what_IHE_lets_clients_ask: each parameter of ITI-115 chooses, or says that it does not.
func TestFind_takes_what_IHE_lets_clients_ask(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	put(t, s, `{"resourceType":"Organization","id":"clinic"}`)
	put(t, s, `{"resourceType":"Location","id":"room","name":"North wing, room 1","address":{"city":"Oslo"},"managingOrganization":{"reference":"Organization/clinic"}}`)
	put(t, s, `{"resourceType":"Practitioner","id":"other"}`)
	put(t, s, `{"resourceType":"Schedule","id":"second","actor":[{"reference":"Practitioner/other"}]}`)
	put(t, s, `{"resourceType":"Slot","id":"t9","schedule":{"reference":"Schedule/second"},"status":"free","start":"2026-01-16T09:00:00Z","end":"2026-01-16T09:30:00Z"}`)
	for name, c := range map[string]struct {
		parts []string
		want  int
	}{
		"everything":            {nil, 4},
		"organization":          {[]string{argRef("organization", "Organization/clinic")}, 3},
		"another_organization":  {[]string{argRef("organization", "Organization/none")}, 0},
		"location_by_name":      {[]string{arg("location-string", "valueString", `"north"`)}, 3},
		"location_by_city":      {[]string{arg("location-string", "valueString", `"Oslo"`)}, 3},
		"no_such_location":      {[]string{arg("location-string", "valueString", `"Bergen"`)}, 0},
		"times_of_the_day":      {[]string{arg("timing", "valueTiming", `{"repeat":{"timeOfDay":["09:00:00","11:00:00"]}}`)}, 3},
		"the_day_of_the_week":   {[]string{arg("timing", "valueTiming", `{"repeat":{"dayOfWeek":["fri"]}}`)}, 4},
		"another_day":           {[]string{arg("timing", "valueTiming", `{"repeat":{"dayOfWeek":["mon"]}}`)}, 0},
		"within_bounds":         {[]string{arg("timing", "valueTiming", `{"repeat":{"boundsPeriod":{"start":"2026-01-16T10:00:00Z"}}}`)}, 2},
		"reason":                {[]string{arg("reason", "valueString", `"http://snomed.info/sct|1"`)}, 4},
		"insurance":             {[]string{argRef("insurance-reference", "Coverage/x")}, 4},
		"referral":              {[]string{arg("referral-identifier", "valueString", `"r-1"`)}, 4},
		"organization_and_time": {[]string{argRef("organization", "Organization/clinic"), arg("timing", "valueTiming", `{"repeat":{"timeOfDay":["10:00:00"]}}`)}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := find(t, s, c.parts...); len(got) != c.want {
				t.Errorf("%d times, want %d", len(got), c.want)
			}
		})
	}
	for name, timing := range map[string]string{"a_frequency": `{"repeat":{"frequency":2}}`, "a_code": `{"code":{"text":"x"}}`, "events": `{"event":["2026-01-16T09:00:00Z"]}`} {
		_, err := calls(t, s, "Appointment", "", "find", arg("start", "valueDateTime", `"2026-01-16"`), arg("end", "valueDateTime", `"2026-01-17"`), arg("timing", "valueTiming", timing))
		if fhir.KindOf(err) != fhir.Invalid {
			t.Errorf("%s: %s", name, describe(err))
		}
	}
}

// TestFind_pages_by_links: the pages hold each time once, and total counts all.
func TestFind_pages_by_links(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	query := "start=2026-01-16&end=2026-01-17&_count=2"
	var starts []string
	for range 5 {
		b := do(t, s, Request{Interaction: Operate, Type: "Appointment", Operation: "find", Query: query, Safe: true}).Bundle
		if *b.Total != 3 {
			t.Fatalf("total %d", *b.Total)
		}
		for _, e := range b.Entries {
			starts = append(starts, parse(t, string(e.Version.Content)).GetText("start"))
		}
		i := slices.IndexFunc(b.Links, func(l Link) bool { return l.Relation == "next" })
		if i < 0 {
			break
		}
		_, query, _ = strings.Cut(b.Links[i].URL, "?")
	}
	if len(starts) != 3 || len(slices.Compact(starts)) != 3 {
		t.Errorf("%v", starts)
	}
}

// TestBlock_that_notifies_leaves_a_queue: each visit in time that is closed becomes a Task for staff.
func TestBlock_that_notifies_leaves_a_queue(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	v := mustCreate(t, s, booking("ada", "s9"))
	mustCall(t, s, "Schedule", "cal", "block", arg("start", "valueDateTime", `"2026-01-16T08:00:00Z"`), arg("end", "valueDateTime", `"2026-01-16T09:30:00Z"`), arg("resolve", "valueCode", `"notify"`))
	found := do(t, s, Request{Interaction: SearchType, Type: "Task", Query: "code=rebook&status=requested&focus=Appointment/" + v.ID + "&patient=Patient/ada"}).Bundle.Entries
	if len(found) != 1 || status(t, s, "Appointment", v.ID) != "booked" {
		t.Errorf("%d Tasks, and the visit is %s", len(found), status(t, s, "Appointment", v.ID))
	}
	if _, err := calls(t, s, "Schedule", "cal", "block", arg("start", "valueDateTime", `"2026-01-16T08:00:00Z"`), arg("end", "valueDateTime", `"2026-01-16T09:30:00Z"`), arg("resolve", "valueCode", `"ignore"`)); fhir.KindOf(err) != fhir.Invalid {
		t.Error(describe(err))
	}
}

// TestCancel_of_a_patient_on_the_last_day_is_flagged, and no other.
func TestCancel_of_a_patient_on_the_last_day_is_flagged(t *testing.T) {
	t.Parallel()
	s, clock := clinic(t)
	ada := patientApp("ada", "patient/*.cruds")
	late := func(slot string) bool {
		t.Helper()
		id := mustCreate(t, s, booking("ada", slot)).ID
		resp := do(t, s, Request{Interaction: Operate, Type: "Appointment", ID: id, Operation: "cancel", Principal: ada,
			Body: parse(t, `{"resourceType":"Parameters","parameter":[`+arg("reason", "valueCodeableConcept", `{"coding":[{"system":"`+reasonSystem+`","code":"pat"}]}`)+`]}`)})
		flagged := strings.Contains(string(resp.Version.Content), lateCancellation)
		if told := slices.Contains(codesOf(resp.Issues), lateCancellation); told != flagged {
			t.Errorf("told %t, flagged %t", told, flagged)
		}
		return flagged
	}
	at := time.Date(2026, 1, 16, 9, 0, 0, 0, time.UTC)
	clock.Set(at.Add(-25 * time.Hour))
	if late("s9") {
		t.Error("25 hours before it is flagged")
	}
	clock.Set(at.Add(-2 * time.Hour))
	if !late("s9") {
		t.Error("two hours before it is not flagged")
	}
	id := mustCreate(t, s, booking("ada", "s10")).ID
	if v := mustCall(t, s, "Appointment", id, "cancel", arg("reason", "valueCodeableConcept", `{"text":"x"}`)).Version; strings.Contains(string(v.Content), lateCancellation) {
		t.Error("a cancellation by the practice is flagged")
	}
}
