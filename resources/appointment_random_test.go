package resources

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"kiln/fhir"
)

// TestRandom_work_agrees does whatever comes to mind, in any order, most of it refused: nothing fails for a fault of ours,
// and what is written about the schedule agrees all the time.
func TestRandom_work_agrees(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			s, clock := clinic(t)
			r := rand.New(rand.NewPCG(seed, 9))
			put(t, s, `{"resourceType":"Schedule","id":"group","extension":[{"url":"`+policyURL+`","extension":[{"url":"capacity","valuePositiveInt":2},`+minutes("buffer-after", 10)+`]}],"actor":[{"reference":"Device/hall"}]}`)
			put(t, s, `{"resourceType":"Schedule","id":"second","actor":[{"reference":"Practitioner/doc"}]}`)
			var ids, slots []string
			for i := range 12 {
				slots = append(slots, fmt.Sprint("r", i))
			}
			at := func() string {
				return time.Date(2026, 1, 16, 8, 0, 0, 0, time.UTC).Add(time.Duration(r.IntN(16)) * 15 * time.Minute).Format(time.RFC3339)
			}
			pick := func(list ...string) string { return list[r.IntN(len(list))] }
			some := func() string {
				if len(ids) == 0 {
					return "none"
				}
				return pick(ids...)
			}
			period := func() string {
				start, _ := time.Parse(time.RFC3339, at())
				return fmt.Sprintf(`"start":%q,"end":%q`, start.Format(time.RFC3339), start.Add(time.Duration(1+r.IntN(4))*15*time.Minute).Format(time.RFC3339))
			}
			patch := func(typ, id, path, value string) (*Response, error) {
				return s.Do(t.Context(), Request{Interaction: Patch, Type: typ, ID: id, JSONPatch: []byte(fmt.Sprintf(`[{"op":"add","path":%q,"value":%q}]`, path, value))})
			}
			refused, done := 0, 0
			for i := range 160 {
				var resp *Response
				var err error
				switch what := r.IntN(16); what {
				case 0, 1, 2:
					resp, err = create(s, t, fmt.Sprintf(`{"resourceType":"Appointment","status":%q,%s,"participant":[{"actor":{"reference":%q},"status":"accepted"},{"actor":{"reference":%q},"status":"accepted"}]}`,
						pick("booked", "pending", "proposed", "arrived"), period(), pick("Patient/ada", "Patient/ben"), pick("Practitioner/doc", "Device/hall", "Location/room")))
				case 3:
					resp, err = create(s, t, booking(pick("ada", "ben"), pick(append(slots, "s9", "s10", "s11")...)))
				case 4:
					resp, err = calls(t, s, "Appointment", some(), "cancel", arg("reason", "valueCodeableConcept", `{"text":"x"}`))
				case 5:
					resp, err = calls(t, s, "Appointment", some(), "reschedule", arg("start", "valueDateTime", `"`+at()+`"`))
				case 6, 7:
					id := pick(slots...)
					n := parse(t, fmt.Sprintf(`{"resourceType":"Slot","id":%q,"schedule":{"reference":"Schedule/%s"},"status":%q,%s}`, id, pick("cal", "group", "second"), pick("free", "free", "busy", "busy-unavailable", "busy-tentative", "entered-in-error"), period()))
					resp, err = s.Do(t.Context(), Request{Interaction: Update, Type: "Slot", ID: id, Body: n})
				case 8:
					typ, id := "Slot", pick(slots...)
					if r.IntN(2) == 0 {
						typ, id = "Appointment", some()
					}
					resp, err = s.Do(t.Context(), Request{Interaction: Delete, Type: typ, ID: id})
				case 9:
					resp, err = calls(t, s, "Schedule", pick("cal", "group", "second"), "block", arg("start", "valueDateTime", `"`+at()+`"`), arg("end", "valueDateTime", `"2026-01-16T11:00:00Z"`), arg("resolve", "valueCode", `"`+pick("list", "refuse")+`"`))
				case 10:
					var found *Response
					if found, err = calls(t, s, "Appointment", "", "find", arg("start", "valueDateTime", `"2026-01-16"`), arg("end", "valueDateTime", `"2026-01-17"`)); err == nil && len(found.Bundle.Entries) > 0 {
						resp, err = calls(t, s, "Appointment", "", pick("hold", "book"), argRef("appointment-reference", "Appointment/"+found.Bundle.Entries[r.IntN(len(found.Bundle.Entries))].Version.ID), argRef("patient", pick("Patient/ada", "Patient/ben")))
					}
				case 11:
					resp, err = patch("Appointment", some(), "/status", pick("cancelled", "booked", "pending", "arrived", "noshow", "entered-in-error"))
				case 12:
					resp, err = create(s, t, fmt.Sprintf(`{"resourceType":"AppointmentResponse","appointment":{"reference":"Appointment/%s"},"actor":{"reference":%q},"participantStatus":%q,"comment":"x",%s}`,
						some(), pick("Practitioner/doc", "Patient/ada", "Patient/ben", "Device/hall"), pick("accepted", "declined", "tentative"), period()))
				case 14:
					resp, err = calls(t, s, "Appointment", "", "book", `{"name":"appointment-resource","resource":`+booking(pick("ada", "ben"), pick(append(slots, "s9", "s10", "s11")...))+`}`, arg("override-reason", "valueString", `"x"`))
				case 15:
					resp, err = create(s, t, waitFor(pick("ada", "ben"), `{"start":"2026-01-16T08:00:00Z","end":"2026-01-16T12:00:00Z"}`, "Appointment/"+some()))
				case 13:
					clock.Advance(time.Duration(r.IntN(7)) * time.Minute)
					err = s.Tidy(t.Context())
				}
				if err != nil {
					refused++
					if k := fhir.KindOf(err); k == fhir.Internal || k == fhir.Transient {
						t.Fatalf("step %d: %s", i, describe(err))
					}
				} else {
					done++
				}
				if resp != nil && resp.Version != nil && resp.Version.Type == "Appointment" {
					ids = append(ids, resp.Version.ID)
				}
				if resp != nil && resp.Bundle != nil && len(resp.Bundle.Entries) > 0 {
					ids = append(ids, resp.Bundle.Entries[0].Version.ID)
				}
				agrees(t, s)
			}
			t.Logf("%d done, %d refused", done, refused)
		})
	}
}
