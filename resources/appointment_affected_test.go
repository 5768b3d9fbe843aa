package resources

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

const inVienna = `{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":"Europe/Vienna"}`

// openOn is a Schedule's rule: some hours of the Fridays.
func openOn(start, end string) string {
	return `{"url":"https://kiln.example/fhir/StructureDefinition/availability","extension":[{"url":"daysOfWeek","valueCode":"fri"},{"url":"start","valueTime":"` + start + `:00"},{"url":"end","valueTime":"` + end + `:00"}]}`
}

// affected is what $affected tells, a line a visit.
func affected(t testing.TB, s *Service) string {
	t.Helper()
	resp := do(t, s, Request{Interaction: Operate, Type: "Appointment", Operation: "affected", Safe: true})
	var list []string
	for p := range resp.Resource.Get("parameter").Items() {
		part := map[string]string{}
		for x := range p.Get("part").Items() {
			for _, name := range []string{"valueCode", "valueInstant", "valueString"} {
				if v := x.GetText(name); v != "" {
					part[x.GetText("name")] = v
				}
			}
			if r := x.Get("valueReference"); r != nil {
				part[x.GetText("name")] = r.GetText("reference")
			}
		}
		list = append(list, strings.TrimSpace(strings.Join([]string{part["appointment"], part["why"], part["time-zone"], part["agreed"], part["shown"], part["keep"]}, " ")))
	}
	return strings.Join(list, "\n")
}

func TestAffected_lists_visits_whose_clocks_have_changed(t *testing.T) {
	t.Parallel()
	url := ""
	s, _ := clinic(t, func(_ *Options, so *storage.Options) { url = so.URL })
	put(t, s, `{"resourceType":"Schedule","id":"cal","extension":[`+inVienna+`],"actor":[{"reference":"Practitioner/doc"},{"reference":"Location/room"}]}`)
	first, second := mustCreate(t, s, booking("ada", "s9")).ID, mustCreate(t, s, booking("ben", "s10")).ID
	if got := affected(t, s); got != "" {
		t.Fatalf("nothing has changed: %s", got)
	}
	// As if it had been booked when the zone was an hour behind: it was agreed on for nine, and is at ten now.
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var zone, local string
	if err := conn.QueryRow(t.Context(), `SELECT zone, local_start FROM booking WHERE appointment = $1`, "Appointment/"+first).Scan(&zone, &local); err != nil || zone != "Europe/Vienna" || local != "2026-01-16T10:00:00" {
		t.Fatalf("%v %s %s", err, zone, local)
	}
	if _, err := conn.Exec(t.Context(), `UPDATE booking SET local_start = '2026-01-16T09:00:00' WHERE appointment = $1`, "Appointment/"+first); err != nil {
		t.Fatal(err)
	}
	want := "Appointment/" + first + " clock-changed Europe/Vienna 2026-01-16T09:00:00 2026-01-16T10:00:00 2026-01-16T08:00:00.000Z"
	if got := affected(t, s); got != want {
		t.Fatalf("%s\nwant %s", got, want)
	}
	// Moved to what was agreed on, or left where it is on purpose, it is settled.
	mustCall(t, s, "Appointment", first, "reschedule", arg("start", "valueDateTime", `"2026-01-16T08:00:00.000Z"`))
	if got := affected(t, s); got != "" {
		t.Fatalf("after it was moved: %s", got)
	}
	if _, err := conn.Exec(t.Context(), `UPDATE booking SET local_start = '2026-01-16T10:00:00' WHERE appointment = $1`, "Appointment/"+second); err != nil {
		t.Fatal(err)
	}
	mustCall(t, s, "Appointment", second, "reschedule", arg("start", "valueDateTime", `"2026-01-16T10:00:00Z"`))
	if got := affected(t, s); got != "" {
		t.Fatalf("after it was left on purpose: %s", got)
	}
	agrees(t, s)
}

func TestAffected_lists_visits_outside_of_changed_rules_and_in_leave(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t)
	rules := func(start, end string) {
		put(t, s, `{"resourceType":"Schedule","id":"week","extension":[`+openOn(start, end)+`,`+inVienna+`],"actor":[{"reference":"PractitionerRole/role"}]}`)
	}
	role := func(more string) {
		put(t, s, `{"resourceType":"PractitionerRole","id":"role","practitioner":{"reference":"Practitioner/kim"}`+more+`}`)
	}
	put(t, s, `{"resourceType":"Practitioner","id":"kim"}`)
	role("")
	rules("09:00", "12:00")
	// The same person by another calendar, whose rules do not know of those hours.
	put(t, s, `{"resourceType":"Schedule","id":"evening","extension":[`+openOn("18:00", "19:00")+`,`+inVienna+`],"actor":[{"reference":"PractitionerRole/role"}]}`)
	put(t, s, slotOf("w9", "week", "08:00", "08:30", "free"))
	put(t, s, slotOf("w11", "week", "10:00", "10:30", "free"))
	early, late := mustCreate(t, s, booking("ada", "w9")).ID, mustCreate(t, s, booking("ben", "w11")).ID
	// At night, because the doctor wanted it so: no rule was ever asked.
	mustCreate(t, s, `{"resourceType":"Appointment","status":"booked","start":"2026-01-16T21:00:00Z","end":"2026-01-16T21:30:00Z","participant":[{"actor":{"reference":"Practitioner/kim"},"status":"accepted"},{"actor":{"reference":"Patient/ada"},"status":"accepted"}]}`)
	check := func(what string, ids ...string) {
		t.Helper()
		var want []string
		for _, id := range ids {
			want = append(want, "Appointment/"+id+" outside")
		}
		if got := affected(t, s); got != strings.Join(want, "\n") {
			t.Errorf("%s: %s", what, got)
		}
	}
	check("as it was booked")
	rules("10:00", "12:00")
	check("open later", early)
	resp := mustCall(t, s, "Schedule", "evening", "generate", arg("from", "valueDate", `"2026-01-16"`), arg("to", "valueDate", `"2026-01-16"`), arg("dry-run", "valueBoolean", "true"))
	if text := string(resp.Resource.JSON()); strings.Contains(text, "outside") {
		t.Errorf("another calendar's visits: %s", text)
	}
	rules("09:00", "12:00")
	role(`,"notAvailable":[{"description":"leave","during":{"start":"2026-01-16T11:00:00+01:00","end":"2026-01-16T18:00:00+01:00"}}]`)
	check("in leave", late)
	mustCall(t, s, "Appointment", late, "cancel", because)
	check("cancelled")
	agrees(t, s)
}

func TestAffected_is_for_administrators_and_shows_what_they_see(t *testing.T) {
	t.Parallel()
	url := ""
	s, _ := clinic(t, func(_ *Options, so *storage.Options) { so.Unrestricted, so.PoolSize, url = false, 4, so.URL })
	put(t, s, `{"resourceType":"Schedule","id":"cal","extension":[`+inVienna+`],"actor":[{"reference":"Practitioner/doc"}]}`)
	id := mustCreate(t, s, booking("ada", "s9")).ID
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `UPDATE booking SET local_start = '2026-01-16T09:00:00'`); err != nil {
		t.Fatal(err)
	}
	ask := func(who auth.Principal) (string, error) {
		resp, err := s.Do(t.Context(), Request{Principal: who, Interaction: Operate, Type: "Appointment", Operation: "affected", Safe: true})
		if err != nil {
			return "", err
		}
		return string(resp.Resource.JSON()), nil
	}
	for name, who := range map[string]auth.Principal{"patient": patientApp("ada", "patient/*.cruds"), "practitioner": doctor("doc", "user/*.cruds"), "backend": backend("system/*.cruds"), "no scope": admin("user/Patient.rs")} {
		if text, err := ask(who); fhir.KindOf(err) != fhir.Forbidden {
			t.Errorf("%s: %s %s", name, text, describe(err))
		}
	}
	if text, err := ask(admin("user/*.cruds")); err != nil || !strings.Contains(text, id) {
		t.Errorf("%s %s", text, describe(err))
	}
	put(t, s, strings.Replace(string(read(t, s, "Appointment", id).JSON()), `"meta":{`, `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"V"}],`, 1))
	hidden, err := s.Do(t.Context(), Request{Principal: admin("user/*.cruds"), Interaction: Read, Type: "Appointment", ID: id})
	if text, askErr := ask(admin("user/*.cruds")); askErr != nil || strings.Contains(text, id) != (hidden != nil && err == nil) {
		t.Errorf("it tells more or less than a read: %s %s, read %s", text, describe(askErr), describe(err))
	}
}

func TestWall_time_survives_a_change_of_clocks(t *testing.T) {
	t.Parallel()
	s, clock := clinic(t)
	clock.Set(time.Date(2026, 3, 20, 8, 0, 0, 0, time.UTC))
	put(t, s, `{"resourceType":"Schedule","id":"week","extension":[`+openOn("09:00", "11:00")+`,`+inVienna+`],"actor":[{"reference":"Practitioner/doc"}]}`)
	mustCall(t, s, "Schedule", "week", "generate", arg("from", "valueDate", `"2026-03-20"`), arg("to", "valueDate", `"2026-04-10"`))
	for _, e := range do(t, s, Request{Interaction: SearchType, Type: "Slot", Query: "schedule=Schedule/week&start=gt2026-03-26"}).Bundle.Entries {
		mustCreate(t, s, booking("ada", e.Version.ID))
	}
	// Winter and summer time, booked in winter time: nine is nine.
	if got := affected(t, s); got != "" {
		t.Error(got)
	}
}
