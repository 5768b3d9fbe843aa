package resources

import (
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/storage"
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

// TestFind_by_modality: only services of the mode offer, and the visit says which service it is for.
func TestFind_by_modality(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	const mode = "http://hl7.org/fhir/service-mode"
	for id, code := range map[string]string{"video": "videoconference", "visit": "in-person"} {
		put(t, s, `{"resourceType":"HealthcareService","id":"`+id+`","characteristic":[{"coding":[{"system":"`+mode+`","code":"`+code+`"}]}]}`)
	}
	put(t, s, `{"resourceType":"Practitioner","id":"remote"}`)
	put(t, s, `{"resourceType":"Schedule","id":"v","actor":[{"reference":"Practitioner/remote"},{"reference":"HealthcareService/video"}]}`)
	put(t, s, `{"resourceType":"Schedule","id":"both","actor":[{"reference":"Practitioner/doc"},{"reference":"HealthcareService/visit"},{"reference":"HealthcareService/video"}]}`)
	put(t, s, slotOf("v14", "v", "14:00", "14:30", "free"))
	put(t, s, slotOf("b15", "both", "15:00", "15:30", "free"))
	by := func(values ...string) (parts []string) {
		for _, v := range values {
			parts = append(parts, arg("modality", "valueString", `"`+v+`"`))
		}
		return parts
	}
	for name, c := range map[string]struct {
		parts   []string
		starts  string
		service string
	}{
		"video":                    {by(mode + "|videoconference"), "14:00 15:00", "HealthcareService/video"},
		"in_person":                {by(mode + "|in-person"), "15:00", "HealthcareService/visit"},
		"without_system":           {by("videoconference"), "14:00 15:00", "HealthcareService/video"},
		"either":                   {by(mode+"|in-person", mode+"|videoconference"), "14:00 15:00", ""},
		"nobody":                   {by(mode + "|chat"), "", ""},
		"with_a_practitioner":      {append(by(mode+"|videoconference"), argRef("practitioner", "Practitioner/doc")), "15:00", "HealthcareService/video"},
		"of_a_service":             {append(by(mode+"|in-person"), argRef("healthcare-service", "HealthcareService/visit")), "15:00", "HealthcareService/visit"},
		"of_a_service_of_another":  {append(by(mode+"|in-person"), argRef("healthcare-service", "HealthcareService/video")), "", ""},
		"without_it_all_are_there": {nil, "09:00 10:00 11:00 14:00 15:00", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var starts []string
			for _, e := range find(t, s, c.parts...) {
				n := parse(t, string(e.Version.Content))
				starts = append(starts, n.GetText("start")[11:16])
				if c.service != "" && !s.names(n, c.service) {
					t.Errorf("it is not for %s: %s", c.service, n.JSON())
				}
			}
			if got := strings.Join(starts, " "); got != c.starts {
				t.Errorf("%q, want %q", got, c.starts)
			}
		})
	}
	offer := find(t, s, by(mode+"|in-person")...)[0].Version.ID
	booked := mustCall(t, s, "Appointment", "", "book", argRef("appointment-reference", "Appointment/"+offer), argRef("patient", "Patient/ada")).Bundle.Entries[0].Version
	if n := parse(t, string(booked.Content)); !s.names(n, "HealthcareService/visit") {
		t.Errorf("%s", n.JSON())
	}
	agrees(t, s)
}

// TestFind_by_the_clocks_of_a_zone: days begin and end there, and times are told as they are there.
func TestFind_by_the_clocks_of_a_zone(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	put(t, s, slotOf("early", "cal", "00:30", "01:00", "free"))
	put(t, s, slotOf("late", "cal", "23:15", "23:45", "free"))
	starts := func(query, prefer string) string {
		t.Helper()
		b := do(t, s, Request{Interaction: Operate, Type: "Appointment", Operation: "find", Query: query, TimeZone: prefer, Safe: true}).Bundle
		var list []string
		for _, e := range b.Entries {
			list = append(list, parse(t, string(e.Version.Content)).GetText("start"))
		}
		if i := slices.IndexFunc(b.Links, func(l Link) bool { return l.Relation == "self" }); prefer != "" && (i < 0 || !strings.Contains(b.Links[i].URL, "time-zone=")) {
			t.Errorf("the link self does not say the zone: %v", b.Links)
		}
		return strings.Join(list, " ")
	}
	const day = "start=2026-01-16&end=2026-01-16"
	utc := "2026-01-16T00:30:00.000Z 2026-01-16T09:00:00.000Z 2026-01-16T10:00:00.000Z 2026-01-16T11:00:00.000Z 2026-01-16T23:15:00.000Z"
	oslo := "2026-01-16T01:30:00.000+01:00 2026-01-16T10:00:00.000+01:00 2026-01-16T11:00:00.000+01:00 2026-01-16T12:00:00.000+01:00"
	for _, c := range []struct{ query, prefer, want string }{
		{day, "", utc},
		{day + "&time-zone=Europe/Oslo", "", oslo},
		{day, "Europe/Oslo", oslo},
		{day + "&time-zone=UTC", "Europe/Oslo", utc},
		{day + "&time-zone=Asia/Kolkata", "", "2026-01-16T06:00:00.000+05:30 2026-01-16T14:30:00.000+05:30 2026-01-16T15:30:00.000+05:30 2026-01-16T16:30:00.000+05:30"},
		{"start=2026-01-16T10:00:00Z&end=2026-01-16T12:00:00Z&time-zone=America/New_York", "", "2026-01-16T05:00:00.000-05:00 2026-01-16T06:00:00.000-05:00"},
	} {
		if got := starts(c.query, c.prefer); got != c.want {
			t.Errorf("%s, Prefer %q: %s", c.query, c.prefer, got)
		}
	}
	for _, name := range []string{"Mars/Base", "Local", "../etc/passwd", "+01:00"} {
		_, err := s.Do(t.Context(), Request{Interaction: Operate, Type: "Appointment", Operation: "find", Query: day + "&time-zone=" + escape(name), Safe: true})
		if fhir.KindOf(err) != fhir.Invalid {
			t.Errorf("%s: %s", name, describe(err))
		}
	}
	// What was proposed by other clocks is booked as the same instant.
	offer := find(t, s, arg("time-zone", "valueString", `"Asia/Kolkata"`))[0].Version.ID
	booked := mustCall(t, s, "Appointment", "", "book", argRef("appointment-reference", "Appointment/"+offer), argRef("patient", "Patient/ada")).Bundle.Entries[0].Version
	if got := parse(t, string(booked.Content)).GetText("start"); got != "2026-01-16T00:30:00.000Z" {
		t.Error(got)
	}
}

// TestFind_reads_days_by_the_zone_of_the_server where nobody says another.
func TestFind_reads_days_by_the_zone_of_the_server(t *testing.T) {
	t.Parallel()
	oslo, err := time.LoadLocation("Europe/Oslo")
	if err != nil {
		t.Fatal(err)
	}
	s, _ := clinic(t, func(_ *Options, so *storage.Options) { so.Zone = oslo })
	put(t, s, slotOf("late", "cal", "23:15", "23:45", "free"))
	got := mustCall(t, s, "Appointment", "", "find", arg("start", "valueDateTime", `"2026-01-17"`), arg("end", "valueDateTime", `"2026-01-17"`)).Bundle.Entries
	if len(got) != 1 {
		t.Errorf("%d times on the 17th", len(got))
	}
}

// TestFind_with_too_many_times says so: a part would look like all of them.
func TestFind_with_too_many_times(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	put(t, s, `{"resourceType":"Practitioner","id":"quick"}`)
	put(t, s, `{"resourceType":"Schedule","id":"quick","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":"UTC"},{"url":"`+policyURL+`","extension":[`+minutes("duration", 5)+`]},
		{"url":"https://kiln.example/fhir/StructureDefinition/availability","extension":[{"url":"daysOfWeek","valueCode":"sat"},{"url":"daysOfWeek","valueCode":"sun"},{"url":"daysOfWeek","valueCode":"mon"},{"url":"daysOfWeek","valueCode":"tue"},{"url":"start","valueTime":"00:00:00"},{"url":"end","valueTime":"00:00:00"}]}],"actor":[{"reference":"Practitioner/quick"}]}`)
	mustCall(t, s, "Schedule", "quick", "generate", arg("from", "valueDate", `"2026-01-17"`), arg("to", "valueDate", `"2026-01-20"`))
	ask := func(end string) (*Response, error) {
		return calls(t, s, "Appointment", "", "find", arg("start", "valueDateTime", `"2026-01-17"`), arg("end", "valueDateTime", `"`+end+`"`), argRef("practitioner", "Practitioner/quick"), arg("_count", "valueInteger", "3"))
	}
	if resp, err := ask("2026-01-19"); err != nil || *resp.Bundle.Total != 3*288 || len(resp.Bundle.Entries) != 3 {
		t.Fatalf("three days: %s", describe(err))
	}
	if _, err := ask("2026-01-20"); fhir.KindOf(err) != fhir.TooCostly || codeOf(err) != "window-too-wide" {
		t.Fatalf("four days: %s", describe(err))
	}
}
