package load

import (
	"context"
	"fmt"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources"
)

// history are the states of visits that are over, with what each needs; the visits lie at lunch, one a day.
var clinicHistory = []string{"fulfilled", "fulfilled", "fulfilled", "noshow", "cancelled"}

// appointments makes past visits as records, and books coming ones like anybody would.
func (c *clinic) appointments(ctx context.Context) error {
	if c.Patients == 0 {
		return nil
	}
	for i := range clinicNames {
		for back := 1; back <= 20; back++ {
			start := c.Now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -back).Add(11 * time.Hour)
			status, more := clinicHistory[(i+back)%len(clinicHistory)], ""
			if status == "cancelled" {
				more = `,"cancelationReason":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason","code":"pat"}]}`
			}
			if err := c.add(ctx, `{"resourceType":"Appointment","id":"clinic-past-%d-%d","status":%q%s,"start":%q,"end":%q,"participant":[{"actor":{"reference":"Patient/clinic-%d"},"status":"accepted"},{"actor":{"reference":"Practitioner/clinic-p%d"},"status":"accepted"}]}`,
				i, back, status, more, start.Format(time.RFC3339), start.Add(30*time.Minute).Format(time.RFC3339), c.random.IntN(c.Patients), i); err != nil {
				return err
			}
		}
	}
	if err := c.flush(ctx); err != nil {
		return err
	}
	if err := c.today(ctx); err != nil {
		return err
	}
	share := max(min(c.Patients/2, 600)/len(clinicNames), 3)
	for i := range clinicNames {
		resp, err := c.service.Do(ctx, resources.Request{Interaction: resources.SearchType, Type: "Slot", Query: fmt.Sprintf("schedule=Schedule/clinic-s%d&status=free&_sort=start&_count=1000", i)})
		if err != nil {
			return err
		}
		slots := resp.Bundle.Entries
		for n := range min(share, len(slots)) {
			slot, err := fhir.ParseJSON(slots[n*len(slots)/share].Version.Content)
			if err != nil {
				return err
			}
			if err := c.book(ctx, slot, i, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// clinicWishes are what becomes of the visits that are asked for, in turn; services that need approval leave what is booked
// waiting for it, every other time.
var clinicWishes = []string{"booked", "booked", "waitlist", "booked", "proposed", "hold", "cancelled", "entered-in-error", "booked"}

// book asks for one Slot in the way of one state.
func (c *clinic) book(ctx context.Context, slot *fhir.Node, practitioner, n int) error {
	patient := c.random.IntN(c.Patients)
	wish, status := clinicWishes[(n+3*practitioner)%len(clinicWishes)], "booked"
	times := fmt.Sprintf(`"slot":[{"reference":"Slot/%s"}],"start":%q,"end":%q`, slot.ID(), slot.GetText("start"), slot.GetText("end"))
	switch {
	case wish == "waitlist":
		status = wish
		times = fmt.Sprintf(`"requestedPeriod":[{"start":%q,"end":%q}]`, c.Now.UTC().AddDate(0, 0, 2).Format(time.DateOnly), c.Now.UTC().AddDate(0, 0, 5).Format(time.DateOnly))
	case wish == "proposed":
		status = wish
	case wish == "hold", wish == "booked" && clinicServices[practitioner%len(clinicServices)].approval != "none" && n%2 == 0:
		status = "pending"
	}
	id := fmt.Sprintf("clinic-next-%d-%d", practitioner, n)
	body := fmt.Sprintf(`{"resourceType":"Appointment","id":%q,"status":%q,%s,"participant":[{"actor":{"reference":"Patient/clinic-%d"},"status":"accepted"},{"actor":{"reference":"Practitioner/clinic-p%d"},"status":"accepted"}]}`,
		id, status, times, patient, practitioner)
	if wish == "hold" {
		return c.operate(ctx, "", "hold", fmt.Sprintf(`{"name":"appointment-resource","resource":%s}`, body))
	}
	if made, err := c.write(ctx, body); err != nil || !made {
		return err
	}
	switch wish {
	case "cancelled":
		return c.operate(ctx, id, "cancel", `{"name":"reason","valueCodeableConcept":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason","code":"pat-fb"}]}}`)
	case "entered-in-error":
		return c.becomes(ctx, id, wish)
	}
	return nil
}

// today has visits at noon (UTC) for which patients have come; the practitioners are those who begin later.
func (c *clinic) today(ctx context.Context) error {
	start := c.Now.UTC().Truncate(24 * time.Hour).Add(12 * time.Hour)
	for i := 0; i < len(clinicNames); i += 2 {
		id, state := fmt.Sprint("clinic-today-", i), []string{"arrived", "checked-in"}[i/2%2]
		status := "booked"
		if start.Add(30 * time.Minute).Before(c.Now) { // what is over is written down as it was
			status = state
		}
		made, err := c.write(ctx, fmt.Sprintf(`{"resourceType":"Appointment","id":%q,"status":%q,"start":%q,"end":%q,"participant":[{"actor":{"reference":"Patient/clinic-%d"},"status":"accepted"},{"actor":{"reference":"Practitioner/clinic-p%d"},"status":"accepted"}]}`,
			id, status, start.Format(time.RFC3339), start.Add(30*time.Minute).Format(time.RFC3339), c.random.IntN(c.Patients), i))
		if err == nil && made && status != state {
			err = c.becomes(ctx, id, state)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// write stores an appointment by the rules of bookings. made is false where they refuse it: a patient with two wishes at one time,
// or a coverage that does not pay.
func (c *clinic) write(ctx context.Context, text string) (made bool, err error) {
	body, err := fhir.ParseJSON([]byte(text))
	if err != nil {
		return false, err
	}
	resp, err := c.service.Do(ctx, resources.Request{Interaction: resources.Update, Type: "Appointment", ID: body.ID(), Body: body})
	if err != nil {
		return false, exceptRules(err)
	}
	c.result.count(resources.Entry{Interaction: resources.Update, Response: resp})
	return true, nil
}

// exceptRules leaves out refusals that belong to a lively clinic.
func exceptRules(err error) error {
	if k := fhir.KindOf(err); err != nil && (k == fhir.Conflict || k == fhir.BusinessRule) {
		return nil
	}
	return err
}

func (c *clinic) operate(ctx context.Context, id, operation, parameter string) error {
	body, err := fhir.ParseJSON([]byte(`{"resourceType":"Parameters","parameter":[` + parameter + `]}`))
	if err != nil {
		return err
	}
	_, err = c.service.Do(ctx, resources.Request{Interaction: resources.Operate, Type: "Appointment", ID: id, Operation: operation, Body: body, Principal: auth.Operator("seed")})
	return exceptRules(err)
}

// becomes sets a status, with a comment that says why.
func (c *clinic) becomes(ctx context.Context, id, status string) error {
	read, err := c.service.Do(ctx, resources.Request{Interaction: resources.Read, Type: "Appointment", ID: id})
	if err != nil {
		return err
	}
	_, err = c.service.Do(ctx, resources.Request{Interaction: resources.Patch, Type: "Appointment", ID: id, IfMatch: fmt.Sprint(read.Version.Number),
		JSONPatch: fmt.Appendf(nil, `[{"op":"replace","path":"/status","value":%q},{"op":"add","path":"/comment","value":"Demo data"}]`, status)})
	return exceptRules(err)
}
