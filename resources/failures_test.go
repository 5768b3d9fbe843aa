package resources

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// The failures of real systems that section 11 of the design lists, each as a test with its name.

func slotOf(id, schedule, from, to, status string) string {
	return fmt.Sprintf(`{"resourceType":"Slot","id":%q,"schedule":{"reference":"Schedule/%s"},"status":%q,"start":"2026-01-16T%s:00Z","end":"2026-01-16T%s:00Z"}`, id, schedule, status, from, to)
}

func visitOf(status, from, to string, actors ...string) string {
	text := fmt.Sprintf(`{"resourceType":"Appointment","status":%q,"start":"2026-01-16T%s:00Z","end":"2026-01-16T%s:00Z","participant":[`, status, from, to)
	for i, a := range actors {
		if i > 0 {
			text += ","
		}
		text += fmt.Sprintf(`{"actor":{"reference":%q},"status":"accepted"}`, a)
	}
	return text + "]}"
}

const policyURL = "https://kiln.example/fhir/StructureDefinition/booking-policy"

func minutes(part string, n int) string {
	return fmt.Sprintf(`{"url":%q,"valueDuration":{"value":%d,"unit":"min","system":"http://unitsofmeasure.org","code":"min"}}`, part, n)
}

func TestFailures_of_real_systems(t *testing.T) {
	t.Parallel()
	reason := arg("reason", "valueCodeableConcept", `{"text":"x"}`)
	for name, check := range map[string]func(*testing.T, *Service, func(time.Duration)){
		"01_check_then_insert_without_a_constraint": func(t *testing.T, s *Service, _ func(time.Duration)) {
			var won atomic.Int32
			race(16, func(i int) { // different pieces of the same hour, without any Slot
				_, err := create(s, t, visitOf("booked", fmt.Sprintf("14:%02d", i), "15:00", "Practitioner/doc"))
				if err == nil {
					won.Add(1)
				} else if codeOf(err) != "slot-taken" {
					t.Error(describe(err))
				}
			})
			if won.Load() != 1 {
				t.Errorf("%d won", won.Load())
			}
		},
		"02_booked_without_a_Slot_is_seen_by_Slots_and_find": func(t *testing.T, s *Service, _ func(time.Duration)) {
			mustCreate(t, s, visitOf("booked", "08:45", "09:15", "Practitioner/doc", "Patient/ada"))
			if got := status(t, s, "Slot", "s9"); got != "busy-unavailable" || len(find(t, s)) != 2 {
				t.Error(got, len(find(t, s)))
			}
			v := mustCreate(t, s, visitOf("booked", "10:00", "10:30", "Practitioner/doc", "Patient/ada"))
			if n := read(t, s, "Appointment", v.ID); n.At("slot").Kids[0].GetText("reference") != "Slot/s10" {
				t.Errorf("it has no slot: %s", n.JSON())
			}
		},
		"03_cancel_gives_the_slot_back": func(t *testing.T, s *Service, _ func(time.Duration)) {
			for _, how := range []func(id string) error{
				func(id string) error { return patchStatus(t, s, id, "cancelled") },
				func(id string) error {
					_, err := calls(t, s, "Appointment", id, "cancel", reason)
					return err
				},
				func(id string) error {
					n := read(t, s, "Appointment", id)
					n.Set("status", fhir.Str("cancelled"))
					_, err := s.Do(t.Context(), Request{Interaction: Update, Type: "Appointment", ID: id, Body: n})
					return err
				},
				func(id string) error {
					_, err := s.Do(t.Context(), Request{Interaction: Delete, Type: "Appointment", ID: id})
					return err
				},
			} {
				id := mustCreate(t, s, booking("ada", "s9")).ID
				if err := how(id); err != nil {
					t.Fatal(describe(err))
				}
				if got := status(t, s, "Slot", "s9"); got != "free" {
					t.Error(got)
				}
			}
		},
		"04_second_schedule_of_the_same_person_is_taken_too": func(t *testing.T, s *Service, _ func(time.Duration)) {
			put(t, s, `{"resourceType":"PractitionerRole","id":"role","practitioner":{"reference":"Practitioner/doc"}}`)
			put(t, s, `{"resourceType":"Schedule","id":"other","actor":[{"reference":"PractitionerRole/role"}]}`)
			put(t, s, slotOf("o9", "other", "09:15", "09:45", "free"))
			mustCreate(t, s, booking("ada", "s9"))
			if got := status(t, s, "Slot", "o9"); got != "busy-unavailable" {
				t.Error(got)
			}
			if _, err := create(s, t, booking("ben", "o9")); codeOf(err) != "slot-taken" {
				t.Error(describe(err))
			}
		},
		"05_busy_carries_no_service": func(t *testing.T, s *Service, _ func(time.Duration)) {
			put(t, s, `{"resourceType":"HealthcareService","id":"a"}`)
			put(t, s, `{"resourceType":"HealthcareService","id":"b"}`)
			put(t, s, `{"resourceType":"Schedule","id":"ca","actor":[{"reference":"Practitioner/doc"},{"reference":"HealthcareService/a"}]}`)
			put(t, s, `{"resourceType":"Schedule","id":"cb","actor":[{"reference":"Practitioner/doc"},{"reference":"HealthcareService/b"}]}`)
			put(t, s, slotOf("a", "ca", "13:00", "13:30", "free"))
			put(t, s, slotOf("b", "cb", "13:00", "13:30", "free"))
			mustCreate(t, s, booking("ada", "a"))
			if _, err := create(s, t, booking("ben", "b")); codeOf(err) != "slot-taken" {
				t.Error(describe(err))
			}
		},
		"06_availability_is_not_one_page_of_slots": func(t *testing.T, s *Service, _ func(time.Duration)) {
			for i := range 130 {
				put(t, s, slotOf(fmt.Sprint("m", i), "cal", fmt.Sprintf("%02d:%02d", 12+i/12, i%12*5), fmt.Sprintf("%02d:%02d", 12+(i+1)/12, (i+1)%12*5), "free"))
			}
			if got := len(find(t, s)); got != 133 {
				t.Error(got)
			}
		},
		"07_book_checks_the_grid": func(t *testing.T, s *Service, _ func(time.Duration)) {
			put(t, s, `{"resourceType":"Schedule","id":"cal","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":"Europe/Vienna"},{"url":"`+policyURL+`","extension":[`+minutes("alignment", 30)+`]}],"actor":[{"reference":"Practitioner/doc"}]}`)
			body := parse(t, visitOf("booked", "09:10", "09:20", "Practitioner/doc", "Patient/ada"))
			_, err := s.Do(t.Context(), Request{Principal: patientApp("ada", "patient/*.cruds"), Interaction: Create, Type: "Appointment", Body: body})
			if codeOf(err) != "off-grid" {
				t.Error(describe(err))
			}
		},
		"08_holds_end_and_can_be_released": func(t *testing.T, s *Service, wait func(time.Duration)) {
			hold := func(patient string) string {
				return mustCall(t, s, "Appointment", "", "hold", argRef("appointment-reference", "Appointment/"+find(t, s)[0].Version.ID), argRef("patient", "Patient/"+patient)).Bundle.Entries[0].Version.ID
			}
			id := hold("ada")
			if n := read(t, s, "Appointment", id); n.At("extension").Kids[0].GetText("valueInstant") != "2026-01-15T10:10:00.000Z" {
				t.Errorf("%s", n.JSON())
			}
			mustCall(t, s, "Appointment", id, "cancel")
			hold("ada")
			hold("ada")
			if _, err := calls(t, s, "Appointment", "", "hold", argRef("appointment-reference", "Appointment/"+find(t, s)[0].Version.ID), argRef("patient", "Patient/ada")); codeOf(err) != "limit-reached" {
				t.Error(describe(err))
			}
			wait(10 * time.Minute)
			if got := len(find(t, s)); got != 3 {
				t.Errorf("%d free after the holds have ended", got)
			}
		},
		"09_staff_can_override_with_a_reason": func(t *testing.T, s *Service, _ func(time.Duration)) {
			mustCreate(t, s, booking("ada", "s9"))
			more := `{"name":"appointment-resource","resource":` + booking("ben", "s9") + `}`
			if _, err := calls(t, s, "Appointment", "", "book", more); codeOf(err) != "slot-taken" {
				t.Error(describe(err))
			}
			resp := mustCall(t, s, "Appointment", "", "book", more, arg("override-reason", "valueString", `"Emergency"`))
			if n := parse(t, string(resp.Bundle.Entries[0].Version.Content)); !strings.Contains(n.GetText("comment"), "Emergency") {
				t.Errorf("%s", n.JSON())
			}
		},
		"12_long_visit_keeps_its_second_slot_when_time_passes": func(t *testing.T, s *Service, wait func(time.Duration)) {
			put(t, s, slotOf("h1", "cal", "13:00", "13:30", "free"))
			put(t, s, slotOf("h2", "cal", "13:30", "14:00", "free"))
			mustCreate(t, s, visitOf("booked", "13:00", "14:00", "Practitioner/doc", "Patient/ada"))
			wait(27*time.Hour + 10*time.Minute) // it has begun
			if err := s.Tidy(t.Context()); err != nil {
				t.Fatal(describe(err))
			}
			if a, b := status(t, s, "Slot", "h1"), status(t, s, "Slot", "h2"); a != "busy" || b != "busy" {
				t.Error(a, b)
			}
			if _, err := create(s, t, booking("ben", "h2")); codeOf(err) != "slot-taken" {
				t.Error(describe(err))
			}
		},
		"13_what_find_offers_can_be_booked": func(t *testing.T, s *Service, _ func(time.Duration)) {
			put(t, s, `{"resourceType":"Schedule","id":"cal","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":"Europe/Vienna"},{"url":"`+policyURL+`","extension":[`+minutes("min-notice", 24*60)+`,`+minutes("alignment", 30)+`]}],"actor":[{"reference":"Practitioner/doc"}]}`)
			ada := patientApp("ada", "patient/*.cruds")
			resp := do(t, s, Request{Principal: ada, Interaction: Operate, Type: "Appointment", Operation: "find", Query: "start=2026-01-16&end=2026-01-17"})
			if len(resp.Bundle.Entries) != 2 { // the first is sooner than a day
				t.Fatalf("%d times", len(resp.Bundle.Entries))
			}
			for _, e := range resp.Bundle.Entries {
				body := parse(t, `{"resourceType":"Parameters","parameter":[`+argRef("appointment-reference", "Appointment/"+e.Version.ID)+`]}`)
				do(t, s, Request{Principal: ada, Interaction: Operate, Type: "Appointment", Operation: "book", Body: body})
			}
		},
		"14_a_move_that_fails_leaves_the_old_time": func(t *testing.T, s *Service, _ func(time.Duration)) {
			id := mustCreate(t, s, booking("ada", "s9")).ID
			mustCreate(t, s, booking("ben", "s10"))
			if _, err := calls(t, s, "Appointment", id, "reschedule", arg("start", "valueDateTime", `"2026-01-16T10:00:00Z"`)); codeOf(err) != "slot-taken" {
				t.Error(describe(err))
			}
			if n := read(t, s, "Appointment", id); n.GetText("start") != "2026-01-16T09:00:00.000Z" || n.GetText("status") != "booked" || status(t, s, "Slot", "s9") != "busy" {
				t.Errorf("%s", n.JSON())
			}
			mustCall(t, s, "Appointment", id, "reschedule", arg("start", "valueDateTime", `"2026-01-16T09:10:00Z"`)) // over its own old time
		},
		"15_a_move_keeps_the_ids": func(t *testing.T, s *Service, _ func(time.Duration)) {
			id := mustCreate(t, s, booking("ada", "s9")).ID
			resp := mustCall(t, s, "Appointment", id, "reschedule", arg("start", "valueDateTime", `"2026-01-16T10:00:00Z"`))
			if resp.Version.ID != id || status(t, s, "Slot", "s9") != "free" || status(t, s, "Slot", "s10") != "busy" {
				t.Error(resp.Version.ID)
			}
		},
		"19_participants_can_answer": func(t *testing.T, s *Service, _ func(time.Duration)) {
			id := mustCreate(t, s, strings.Replace(booking("ada", "s9"), `"booked"`, `"pending"`, 1)).ID
			mustCreate(t, s, `{"resourceType":"AppointmentResponse","appointment":{"reference":"Appointment/`+id+`"},"actor":{"reference":"Practitioner/doc"},"participantStatus":"accepted"}`)
			for p := range read(t, s, "Appointment", id).Get("participant").Items() {
				if p.GetText("status") != "accepted" {
					t.Errorf("%s", p.JSON())
				}
			}
		},
		"21_find_over_more_than_a_month_is_refused": func(t *testing.T, s *Service, _ func(time.Duration)) {
			_, err := calls(t, s, "Appointment", "", "find", arg("start", "valueDateTime", `"2026-01-16"`), arg("end", "valueDateTime", `"2026-03-16"`))
			if codeOf(err) != "window-too-wide" || fhir.KindOf(err) != fhir.TooCostly {
				t.Error(describe(err))
			}
		},
		"22_long_texts_are_taken": func(t *testing.T, s *Service, _ func(time.Duration)) {
			n := parse(t, booking("ada", "s9"))
			n.Set("comment", fhir.Str(strings.Repeat("long ", 2000)))
			n.Set("reasonCode", fhir.Arr(fhir.Obj(fhir.Str(strings.Repeat("reason ", 100)).As("text"))))
			do(t, s, Request{Interaction: Create, Type: "Appointment", Body: n})
		},
		"23_find_needs_no_right_to_read_practitioners": func(t *testing.T, s *Service, _ func(time.Duration)) {
			resp := do(t, s, Request{Principal: patientApp("ada", "patient/Appointment.cruds"), Interaction: Operate, Type: "Appointment", Operation: "find",
				Query: "start=2026-01-16&end=2026-01-17&practitioner=" + url.QueryEscape("Practitioner/doc")})
			if len(resp.Bundle.Entries) != 3 {
				t.Error(len(resp.Bundle.Entries))
			}
		},
		"24_a_series_books_every_visit": func(t *testing.T, s *Service, _ func(time.Duration)) {
			resp := mustCall(t, s, "Appointment", "", "book", `{"name":"appointment-resource","resource":`+visitOf("booked", "09:00", "09:30", "Practitioner/doc", "Patient/ada")+`}`,
				arg("timing", "valueTiming", `{"repeat":{"period":1,"periodUnit":"d","count":5}}`))
			if len(resp.Bundle.Entries) != 5 || count(t, s, "Appointment") != 5 {
				t.Error(len(resp.Bundle.Entries))
			}
		},
		"25_a_request_sent_again_books_once": func(t *testing.T, s *Service, _ func(time.Duration)) {
			again := func() (*Response, error) {
				body := parse(t, `{"resourceType":"Parameters","parameter":[{"name":"appointment-resource","resource":`+booking("ada", "s9")+`}]}`)
				return s.Do(t.Context(), Request{Interaction: Operate, Type: "Appointment", Operation: "book", Body: body, IdempotencyKey: "k"})
			}
			one, err1 := again()
			two, err2 := again()
			if err1 != nil || err2 != nil || one.Bundle.Entries[0].Version.ID != two.Bundle.Entries[0].Version.ID || count(t, s, "Appointment") != 1 {
				t.Error(describe(err1), describe(err2))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, clock := clinic(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false; so.PoolSize = 4 })
			check(t, s, func(d time.Duration) { clock.Advance(d) })
			agrees(t, s)
		})
	}
	t.Run("11_reminders_tell_the_zone_of_the_place", func(t *testing.T) {
		t.Parallel()
		o := newOffice(t)
		for zone, want := range map[string]string{"America/New_York": "08:00", "Asia/Kolkata": "18:30"} {
			put(t, o.Service, fmt.Sprintf(`{"resourceType":"Location","id":"room","name":"Room 1","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":%q}]}`, zone))
			id := mustCreate(t, o.Service, visitOf("booked", "13:00", "13:30", "Practitioner/doc", "Location/room", "Patient/ada")).ID
			o.work()
			mails := o.box.take()
			if i := slices.IndexFunc(mails, func(m Mail) bool { return m.To == "ada@example.org" }); i < 0 || !strings.Contains(mails[i].Body, want) || !strings.Contains(mails[i].Body, zone) {
				t.Errorf("%s: %+v", zone, mails)
			}
			mustCall(t, o.Service, "Appointment", id, "cancel", reason)
			o.work()
			o.box.take()
		}
	})
	t.Run("16_includes_and_focus_open_no_other_record", func(t *testing.T) {
		t.Parallel()
		s, _ := clinic(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false })
		put(t, s, `{"resourceType":"Observation","id":"bens","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/ben"},"focus":[{"reference":"Patient/ada"}]}`)
		put(t, s, `{"resourceType":"Observation","id":"adas","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/ada"},"focus":[{"reference":"Patient/ben"}],"derivedFrom":[{"reference":"Observation/bens"}]}`)
		both := mustCreate(t, s, visitOf("booked", "14:00", "14:30", "Practitioner/doc", "Patient/ada")).ID
		ada := patientApp("ada", "patient/*.rs")
		for _, q := range []string{"Observation?_include=Observation:derived-from&_include=Observation:has-member", "Observation?_include=*&_include:iterate=*", "Patient?_revinclude=Observation:focus&_revinclude=*",
			"Observation?focus=Patient/ada", "Appointment?_include=*&_revinclude=*&_id=" + both, "Practitioner?_revinclude:iterate=*"} {
			typ, query, _ := strings.Cut(q, "?")
			for _, e := range do(t, s, Request{Principal: ada, Interaction: SearchType, Type: typ, Query: query}).Bundle.Entries {
				if e.Version.ID == "bens" || e.Version.ID == "ben" {
					t.Errorf("%s shows %s/%s", q, e.Version.Type, e.Version.ID)
				}
			}
		}
		refused(t, s, fhir.NotFound, Request{Principal: ada, Interaction: Read, Type: "Observation", ID: "bens"})
		for _, e := range do(t, s, Request{Principal: ada, Interaction: Operate, Type: "Patient", ID: "ada", Operation: "everything"}).Bundle.Entries {
			if e.Version.ID == "bens" || e.Version.ID == "ben" {
				t.Errorf("$everything shows %s/%s", e.Version.Type, e.Version.ID)
			}
		}
	})
	t.Run("17_patients_write_nobody_elses_record", func(t *testing.T) {
		t.Parallel()
		s, _ := clinic(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false })
		ada := patientApp("ada", "patient/*.write")
		for name, r := range map[string]Request{
			"another Patient":                {Interaction: Create, Type: "Patient", Body: parse(t, `{"resourceType":"Patient"}`)},
			"one with an id":                 {Interaction: Update, Type: "Patient", ID: "new", Body: parse(t, `{"resourceType":"Patient","id":"new"}`)},
			"another's record":               {Interaction: Create, Type: "Observation", Body: parse(t, `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/ben"}}`)},
			"one that names her a performer": {Interaction: Create, Type: "Observation", Body: parse(t, `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/ben"},"performer":[{"reference":"Patient/ada"}]}`)},
			"another's visit":                {Interaction: Create, Type: "Appointment", Body: parse(t, visitOf("booked", "14:00", "14:30", "Practitioner/doc", "Patient/ben"))},
		} {
			r.Principal = ada
			if _, err := s.Do(t.Context(), r); err == nil {
				t.Errorf("%s was written", name)
			} else if k := fhir.KindOf(err); k != fhir.Forbidden && k != fhir.NotFound && k != fhir.BusinessRule {
				t.Errorf("%s: %s", name, describe(err))
			}
		}
		if n := count(t, s, "Patient"); n != 2 {
			t.Errorf("%d Patients", n)
		}
	})
	t.Run("18_a_noshow_may_have_a_reason", func(t *testing.T) {
		t.Parallel()
		s, clock := insured(t, scheduling.CoverageOff) // which has the validator that a server has
		id := mustCreate(t, s, insuredVisit("ada", "s9")).ID
		clock.Advance(24 * time.Hour)
		missed := func(more string) error {
			_, err := s.Do(t.Context(), Request{Interaction: Patch, Type: "Appointment", ID: id, IfMatch: "1", JSONPatch: []byte(more)})
			return err
		}
		const why = `{"op":"add","path":"/cancelationReason","value":{"text":"did not come"}}`
		if err := missed(`[` + why + `]`); err == nil || !strings.Contains(describe(err), "app-4") {
			t.Errorf("a booked visit with a reason why it is not: %s", describe(err))
		}
		if err := missed(`[{"op":"replace","path":"/status","value":"noshow"},` + why + `]`); err != nil {
			t.Error(describe(err))
		}
	})
	t.Run("20_every_state_can_be_left_by_the_table_or_is_an_end", func(t *testing.T) {
		t.Parallel()
		for _, state := range scheduling.States() {
			left := false
			for _, row := range scheduling.Table() {
				for _, from := range row.From {
					left = left || from == state
				}
			}
			if !left && !state.Terminal() {
				t.Errorf("nothing leads out of %s", state)
			}
		}
	})
	t.Run("10_rules_hold_by_the_wall_clock", func(t *testing.T) {
		t.Parallel()
		s, clock := clinic(t)
		for zone, c := range map[string]struct{ day, want string }{
			"Europe/Vienna":       {"2026-03-29", "2026-03-29T07:00"}, // summer time since two o'clock
			"America/New_York":    {"2026-11-01", "2026-11-01T14:00"}, // winter time since two o'clock
			"America/Santiago":    {"2026-09-06", "2026-09-06T12:00"}, // without a midnight
			"Asia/Kolkata":        {"2026-05-04", "2026-05-04T03:30"},
			"Australia/Lord_Howe": {"2026-04-05", "2026-04-04T22:30"},
		} {
			begin, _ := time.Parse(time.DateOnly, c.day)
			clock.Set(begin.Add(-48 * time.Hour))
			id := strings.ReplaceAll(zone[strings.Index(zone, "/")+1:], "_", "-")
			put(t, s, fmt.Sprintf(`{"resourceType":"Practitioner","id":%q}`, id))
			put(t, s, fmt.Sprintf(`{"resourceType":"Schedule","id":%q,"actor":[{"reference":"Practitioner/%[1]s"}],"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":%q},{"url":"https://kiln.example/fhir/StructureDefinition/availability","extension":[{"url":"daysOfWeek","valueCode":"sun"},{"url":"daysOfWeek","valueCode":"mon"},{"url":"start","valueTime":"09:00:00"},{"url":"end","valueTime":"10:00:00"}]}]}`, id, zone))
			mustCall(t, s, "Schedule", id, "generate", arg("from", "valueDate", `"`+c.day+`"`), arg("to", "valueDate", `"`+c.day+`"`))
			list := do(t, s, Request{Interaction: SearchType, Type: "Slot", Query: "schedule=Schedule/" + id + "&_sort=start"}).Bundle.Entries
			if len(list) != 2 || parse(t, string(list[0].Version.Content)).GetText("start")[:16] != c.want {
				t.Errorf("%s: %d Slots, %s", zone, len(list), list[0].Version.Content)
			}
		}
		agrees(t, s)
	})
}
