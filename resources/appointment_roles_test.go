package resources

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// practice is a service in which every case has people and a calendar of its own.
type practice struct {
	*Service
	t     *testing.T
	clock *kilntest.Clock
	n     int
}

// day is when the visits of all cases are: two days after the clock begins.
var day = time.Date(2026, time.January, 17, 9, 0, 0, 0, time.UTC)

// begin makes the people of a case.
func (p *practice) begin(t *testing.T, approval bool) {
	p.t = t
	p.n++
	p.clock.Set(day.Add(-47 * time.Hour))
	policy := ""
	if approval {
		policy = `"extension":[{"url":"https://kiln.example/fhir/StructureDefinition/booking-policy","extension":[{"url":"approval","valueCode":"practitioner"}]}],`
	}
	put(t, p.Service, fmt.Sprintf(`{"resourceType":"Practitioner","id":"d%d"}`, p.n))
	put(t, p.Service, fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","generalPractitioner":[{"reference":"Practitioner/d%[1]d"}]}`, p.n))
	put(t, p.Service, fmt.Sprintf(`{"resourceType":"Schedule","id":"c%d",%s"actor":[{"reference":"Practitioner/d%[1]d"}]}`, p.n, policy))
	for i := range 3 {
		at := day.Add(time.Duration(i) * 30 * time.Minute)
		put(t, p.Service, fmt.Sprintf(`{"resourceType":"Slot","id":"c%d-%d","schedule":{"reference":"Schedule/c%[1]d"},"status":"free","start":%[3]q,"end":%[4]q}`,
			p.n, i, at.Format(time.RFC3339), at.Add(30*time.Minute).Format(time.RFC3339)))
	}
}

func (p *practice) principal(role scheduling.Roles) auth.Principal {
	switch role {
	case scheduling.Patient:
		return patientApp(fmt.Sprint("p", p.n), "patient/*.cruds")
	case scheduling.Practitioner:
		return doctor(fmt.Sprint("d", p.n), "user/*.cruds")
	}
	return admin("user/*.cruds")
}

func (p *practice) appointment(status, more string) string {
	return fmt.Sprintf(`{"resourceType":"Appointment","status":%q%s,"participant":[{"actor":{"reference":"Patient/p%d"},"status":"accepted"},{"actor":{"reference":"Practitioner/d%[3]d"},"status":"accepted"}]}`, status, more, p.n)
}

func (p *practice) at(i int) string {
	at := day.Add(time.Duration(i) * 30 * time.Minute)
	return fmt.Sprintf(`,"start":%q,"end":%q`, at.Format(time.RFC3339), at.Add(30*time.Minute).Format(time.RFC3339))
}

// proposal is the id of the first free time.
func (p *practice) proposal(who auth.Principal) (string, error) {
	resp, err := p.Do(p.t.Context(), Request{Principal: who, Interaction: Operate, Type: "Appointment", Operation: "find",
		Query: fmt.Sprintf("start=2026-01-17&end=2026-01-18&schedule=Schedule/c%d", p.n)})
	if err != nil {
		return "", err
	}
	return "Appointment/" + resp.Bundle.Entries[0].Version.ID, nil
}

// arrange brings an appointment of the case into a state, as whoever runs the server; it gives the id.
func (p *practice) arrange(state scheduling.State) string {
	t, s := p.t, p.Service
	move := func(id string, clock time.Duration, to string) {
		p.clock.Set(day.Add(clock))
		if err := patchStatus(t, s, id, to); err != nil {
			t.Fatalf("arrange %s: %s", state, describe(err))
		}
	}
	switch state {
	case scheduling.None:
		return ""
	case scheduling.Hold:
		first, err := p.proposal(auth.Operator(""))
		if err != nil {
			t.Fatal(describe(err))
		}
		return mustCall(t, s, "Appointment", "", "hold", argRef("appointment-reference", first), argRef("patient", fmt.Sprint("Patient/p", p.n))).Bundle.Entries[0].Version.ID
	case scheduling.Proposed:
		return mustCreate(t, s, p.appointment("proposed", p.at(0))).ID
	case scheduling.Waitlist:
		return mustCreate(t, s, p.appointment("waitlist", `,"requestedPeriod":[{"start":"2026-01-17","end":"2026-01-17"}]`)).ID
	case scheduling.Awaiting:
		return mustCreate(t, s, p.appointment("pending", p.at(0))).ID
	}
	id := mustCreate(t, s, p.appointment("booked", p.at(0))).ID
	switch state {
	case scheduling.Arrived:
		move(id, -time.Hour, "arrived")
	case scheduling.CheckedIn:
		move(id, -time.Hour, "checked-in")
	case scheduling.NoShow:
		move(id, 20*time.Minute, "noshow")
	case scheduling.Cancelled:
		move(id, -47*time.Hour, "cancelled")
	case scheduling.Fulfilled:
		p.encounter(id, "in-progress")
		move(id, 5*time.Minute, "fulfilled")
	}
	return id
}

// encounter makes the visit of an appointment. One that has begun when it learns of the appointment leaves it as it is.
func (p *practice) encounter(appointment, status string) {
	if status == "in-progress" {
		put(p.t, p.Service, fmt.Sprintf(`{"resourceType":"Encounter","id":"e%d","status":%q,"class":{"code":"AMB"},"subject":{"reference":"Patient/p%[1]d"}}`, p.n, status))
	}
	put(p.t, p.Service, fmt.Sprintf(`{"resourceType":"Encounter","id":"e%d","status":%q,"class":{"code":"AMB"},"subject":{"reference":"Patient/p%[1]d"},"appointment":[{"reference":"Appointment/%[3]s"}]}`, p.n, status, appointment))
}

// act does what a trigger is, as a role; it gives the id of the appointment.
func (p *practice) act(trigger scheduling.Trigger, role scheduling.Roles, id string, to scheduling.State) (string, error) {
	who := p.principal(role)
	operate := func(typ, id, name string, parts ...string) (*Response, error) {
		body := parse(p.t, `{"resourceType":"Parameters","parameter":[`+strings.Join(parts, ",")+`]}`)
		return p.Do(p.t.Context(), Request{Principal: who, Interaction: Operate, Type: typ, ID: id, Operation: name, Body: body})
	}
	made := func(resp *Response, err error) (string, error) {
		if err != nil {
			return "", err
		}
		if resp.Bundle != nil {
			return resp.Bundle.Entries[0].Version.ID, nil
		}
		return resp.Version.ID, nil
	}
	code := "prov"
	if role == scheduling.Patient {
		code = "pat"
	}
	switch trigger {
	case scheduling.ByFind:
		_, err := p.proposal(who)
		return "", err
	case scheduling.ByHold, scheduling.ByBook:
		name := strings.TrimPrefix(string(trigger), "$")
		if id == "" {
			first, err := p.proposal(who)
			if err != nil {
				return "", err
			}
			return made(operate("Appointment", "", name, argRef("appointment-reference", first), argRef("patient", fmt.Sprint("Patient/p", p.n))))
		}
		return made(operate("Appointment", "", name, argRef("appointment-reference", "Appointment/"+id)))
	case scheduling.ByPost:
		status, more := to.Status(), p.at(0)
		if to == scheduling.Waitlist {
			more = `,"requestedPeriod":[{"start":"2026-01-17"}]`
		}
		if id == "" {
			return made(p.Do(p.t.Context(), Request{Principal: who, Interaction: Create, Type: "Appointment", Body: parse(p.t, p.appointment(status, more))}))
		}
		fallthrough
	case scheduling.ByStatus:
		patch := fmt.Sprintf(`[{"op":"replace","path":"/status","value":%q}`, to.Status())
		if to == scheduling.EnteredInError || to == scheduling.Arrived {
			patch += `,{"op":"add","path":"/comment","value":"A mistake"}`
		}
		return made(p.Do(p.t.Context(), Request{Principal: who, Interaction: Patch, Type: "Appointment", ID: id, JSONPatch: []byte(patch + "]")}))
	case scheduling.ByEncounter:
		_, err := p.Do(p.t.Context(), Request{Principal: who, Interaction: Create, Type: "Encounter", Body: parse(p.t, fmt.Sprintf(
			`{"resourceType":"Encounter","status":"in-progress","class":{"code":"AMB"},"appointment":[{"reference":"Appointment/%s"}]}`, id))})
		return id, err
	case scheduling.ByReschedule:
		return made(operate("Appointment", id, "reschedule", arg("start", "valueDateTime", `"`+day.Add(time.Hour).Format(time.RFC3339)+`"`)))
	case scheduling.ByCancel:
		return made(operate("Appointment", id, "cancel", arg("reason", "valueCodeableConcept", `{"coding":[{"system":"`+reasonSystem+`","code":"`+code+`"}]}`)))
	}
	actor := fmt.Sprint("Practitioner/d", p.n)
	if role == scheduling.Patient {
		actor = fmt.Sprint("Patient/p", p.n)
	}
	more := ""
	if trigger == scheduling.ByCounter {
		more = p.at(1)
	}
	_, err := p.Do(p.t.Context(), Request{Principal: who, Interaction: Create, Type: "AppointmentResponse", Body: parse(p.t, fmt.Sprintf(
		`{"resourceType":"AppointmentResponse","appointment":{"reference":"Appointment/%s"},"actor":{"reference":%q},"participantStatus":%q,"comment":"So be it"%s}`, id, actor, trigger, more))})
	return id, err
}

// TestEach_transition_with_each_role takes every step of the table as every role, in the way that the trigger says: it is
// possible exactly for those whom the table names.
func TestEach_transition_with_each_role(t *testing.T) {
	t.Parallel()
	s, clock := clinic(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false })
	p := &practice{Service: s, clock: clock}
	tried := 0
	for _, row := range scheduling.Table() {
		for _, from := range row.From {
			for _, trigger := range row.Triggers {
				if trigger == scheduling.ByCoverage { // TestPayer_that_is_slow_is_asked_again
					continue
				}
				if row.Who&scheduling.Server != 0 && (trigger == scheduling.ByExpiry || trigger == scheduling.ByOffer) {
					tried++
					t.Run(fmt.Sprintf("row_%d_%s_to_%s_by_%s_%s", row.Row, from, row.To, trigger, scheduling.Server), func(t *testing.T) { p.serves(t, row, from, trigger) })
					continue
				}
				for _, role := range []scheduling.Roles{scheduling.Patient, scheduling.Practitioner, scheduling.Admin} {
					tried++
					t.Run(fmt.Sprintf("row_%d_%s_to_%s_by_%s_%s", row.Row, from, row.To, trigger, role), func(t *testing.T) {
						p.begin(t, row.Row == 3)
						id := p.arrange(from)
						switch {
						case trigger == scheduling.ByAccept && role == scheduling.Patient:
							if _, err := p.act(scheduling.ByCounter, scheduling.Practitioner, id, scheduling.Awaiting); err != nil {
								t.Fatal(describe(err))
							}
						case row.To == scheduling.Fulfilled && trigger == scheduling.ByStatus:
							p.encounter(id, "in-progress")
						case slices.Contains(row.Conditions, scheduling.VisitRetracted):
							p.encounter(id, "entered-in-error")
						}
						switch row.To {
						case scheduling.Arrived, scheduling.CheckedIn, scheduling.Fulfilled:
							if p.clock.Now().Before(day.Add(-time.Hour)) {
								p.clock.Set(day.Add(-time.Hour))
							}
						case scheduling.NoShow:
							p.clock.Set(day.Add(20 * time.Minute))
						}
						got, err := p.act(trigger, role, id, row.To)
						_, _, _, want := scheduling.Find(from, row.To, trigger, role)
						if trigger == scheduling.ByEncounter && role == scheduling.Admin {
							want = false // the policy of roles: administrators write no records, and set the status instead
						}
						reached := err == nil
						if got != "" && err == nil {
							b := bookingOf(t, s, got)
							reached = b == string(row.To)
							if want && !reached {
								t.Errorf("it is %s", b)
							}
						}
						if reached != want {
							t.Errorf("allowed %t, want %t: %s", reached, want, describe(err))
						}
						if k := fhir.KindOf(err); err != nil && k != fhir.Forbidden && k != fhir.Conflict && k != fhir.NotFound {
							t.Errorf("refused with %s", describe(err))
						}
					})
				}
			}
		}
	}
	if tried < 100 {
		t.Errorf("only %d cases", tried)
	}
	agrees(t, s)
}

// serves is a step that the server takes by the clock: what was held or waited for ends, and free time is offered.
func (p *practice) serves(t *testing.T, row scheduling.Transition, from scheduling.State, trigger scheduling.Trigger) {
	p.begin(t, false)
	id := p.arrange(from)
	if got := bookingOf(t, p.Service, id); got != string(from) {
		t.Fatalf("it is %s", got)
	}
	if trigger == scheduling.ByExpiry {
		p.clock.Set(day.Add(48 * time.Hour))
	}
	if err := p.Tidy(t.Context()); err != nil {
		t.Fatal(describe(err))
	}
	if got := bookingOf(t, p.Service, id); got != string(row.To) {
		t.Errorf("it is %s", got)
	}
}

func bookingOf(t *testing.T, s *Service, id string) (state string) {
	t.Helper()
	err := s.store.Write(everything(t.Context()), func(tx *storage.Tx) error {
		b, err := tx.Booking(t.Context(), "Appointment/"+id)
		if b != nil {
			state = b.State
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return state
}
