package resources

import (
	"fmt"
	"strings"
	"testing"

	"kiln/fhir"
)

// twoServices is a clinic with a calendar whose rules are each for one service: short visits of 15 minutes from nine to ten, which
// the doctor does not have to approve, and long ones of an hour from ten to twelve, which have to be.
func twoServices(t testing.TB) *Service {
	s, _ := clinic(t)
	for id, settings := range map[string]string{"short": minutes("duration", 15), "long": minutes("duration", 60) + `,{"url":"approval","valueCode":"practitioner"}`} {
		put(t, s, `{"resourceType":"HealthcareService","id":"`+id+`","type":[{"coding":[{"system":"urn:type","code":"`+id+`"}]}],"extension":[{"url":"`+policyURL+`","extension":[`+settings+`]}]}`)
	}
	put(t, s, `{"resourceType":"Practitioner","id":"kim"}`)
	serviceRules(t, s, "short 09 10", "long 10 12")
	return s
}

func serviceRules(t testing.TB, s *Service, rules ...string) *Response {
	t.Helper()
	var list []string
	for _, r := range rules {
		f := strings.Fields(r)
		list = append(list, `{"url":"https://kiln.example/fhir/StructureDefinition/availability","extension":[{"url":"daysOfWeek","valueCode":"fri"},{"url":"start","valueTime":"`+f[1]+`:00:00"},{"url":"end","valueTime":"`+f[2]+`:00:00"},{"url":"service","valueReference":{"reference":"HealthcareService/`+f[0]+`"}}]}`)
	}
	put(t, s, `{"resourceType":"Schedule","id":"two","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":"UTC"},`+strings.Join(list, ",")+`],"actor":[{"reference":"Practitioner/kim"}]}`)
	return mustCall(t, s, "Schedule", "two", "generate", arg("from", "valueDate", `"2026-01-16"`), arg("to", "valueDate", `"2026-01-16"`))
}

// offered is what $find offers of the calendar: the time and the service of each.
func offeredTimes(t testing.TB, s *Service, more ...string) string {
	t.Helper()
	var list []string
	for _, e := range find(t, s, append(more, argRef("schedule", "Schedule/two"))...) {
		n := parse(t, string(e.Version.Content))
		service := "any"
		for p := range n.Get("participant").Items() {
			if a := p.At("actor", "reference"); strings.HasPrefix(a.Text, "HealthcareService/") {
				service = strings.TrimPrefix(a.Text, "HealthcareService/")
			}
		}
		list = append(list, n.GetText("start")[11:16]+"-"+n.GetText("end")[11:16]+" "+service)
	}
	return strings.Join(list, ", ")
}

func TestGenerate_keeps_the_Slots_of_services_apart(t *testing.T) {
	t.Parallel()
	s := twoServices(t)
	const short = "09:00-09:15 short, 09:15-09:30 short, 09:30-09:45 short, 09:45-10:00 short"
	for _, c := range []struct{ service, want string }{
		{"", short + ", 10:00-11:00 long, 11:00-12:00 long"}, {"short", short}, {"long", "10:00-11:00 long, 11:00-12:00 long"},
	} {
		var of []string
		if c.service != "" {
			of = []string{argRef("healthcare-service", "HealthcareService/"+c.service)}
		}
		if got := offeredTimes(t, s, of...); got != c.want {
			t.Errorf("for %q: %s", c.service, got)
		}
	}
	both := []string{argRef("healthcare-service", "HealthcareService/short"), argRef("healthcare-service", "HealthcareService/long")}
	if got := offeredTimes(t, s, both...); got != short+", 10:00-11:00 long, 11:00-12:00 long" {
		t.Errorf("for either: %s", got)
	}
	if got := numbersOf(serviceRules(t, s, "short 09 10", "long 10 12")); got != "created 0, kept 6, removed 0, conflicting 0" {
		t.Errorf("again: %s", got)
	}
	// Over the same hours each service has its own; without its rule those of one go, and only those.
	if got := numbersOf(serviceRules(t, s, "long 09 11", "long 11 12", "short 09 10")); got != "created 1, kept 6, removed 0, conflicting 0" {
		t.Errorf("both at nine: %s", got)
	}
	if got := numbersOf(serviceRules(t, s, "long 09 12")); got != "created 0, kept 3, removed 4, conflicting 0" {
		t.Errorf("one of them only: %s", got)
	}
	list := do(t, s, Request{Interaction: SearchType, Type: "Slot", Query: "schedule=Schedule/two"}).Bundle.Entries
	n := parse(t, string(list[0].Version.Content))
	if text := string(n.JSON()); len(list) != 3 || !strings.Contains(text, `"slot-service`[1:]) || !strings.Contains(text, `"code":"long"`) {
		t.Errorf("%d, %s", len(list), text)
	}
	agrees(t, s)
	// A mode is that of the service, not of the calendar.
	put(t, s, strings.Replace(string(read(t, s, "HealthcareService", "long").JSON()), `"type":`, `"characteristic":[{"coding":[{"code":"videoconference"}]}],"type":`, 1))
	serviceRules(t, s, "short 09 10", "long 10 12")
	if got := offeredTimes(t, s, arg("modality", "valueString", `"videoconference"`)); got != "10:00-11:00 long, 11:00-12:00 long" {
		t.Errorf("by video: %s", got)
	}
}

func numbersOf(r *Response) string {
	var list []string
	for p := range r.Resource.Get("parameter").Items() {
		if v := p.Get("valueInteger"); v != nil {
			list = append(list, p.GetText("name")+" "+v.Text)
		}
	}
	return strings.Join(list, ", ")
}

func TestSlot_of_a_service_is_booked_for_that(t *testing.T) {
	t.Parallel()
	s := twoServices(t)
	ada := patientApp("ada", "patient/*.cruds")
	slotAt := func(at string) string {
		return do(t, s, Request{Interaction: SearchType, Type: "Slot", Query: "schedule=Schedule/two&start=2026-01-16T" + at + ":00Z"}).Bundle.Entries[0].Version.ID
	}
	book := func(body string) (*fhir.Node, error) {
		resp, err := s.Do(t.Context(), Request{Principal: ada, Interaction: Create, Type: "Appointment", Body: parse(t, body)})
		if err != nil {
			return nil, err
		}
		return parse(t, string(resp.Version.Content)), nil
	}
	at := func(start, end, service string) string {
		more := ""
		if service != "" {
			more = `,{"actor":{"reference":"HealthcareService/` + service + `"},"required":"information-only","status":"accepted"}`
		}
		return fmt.Sprintf(`{"resourceType":"Appointment","status":"booked","start":"2026-01-16T%s:00Z","end":"2026-01-16T%s:00Z","participant":[{"actor":{"reference":"Patient/ada"},"status":"accepted"},{"actor":{"reference":"Practitioner/kim"},"status":"needs-action"}%s]}`, start, end, more)
	}
	// In the hours of one service nobody is seen for another, nor for no service in particular: that would go round its settings.
	for name, body := range map[string]string{"another": at("10:00", "11:00", "short"), "none": at("10:00", "11:00", ""), "across": at("09:45", "10:45", "long")} {
		if _, err := book(body); codeOf(err) != "not-offered" {
			t.Errorf("%s: %s", name, describe(err))
		}
	}
	// By its Slot, which says what it is for, by its time, and by what $find offers: the doctor has to approve it, and it says why.
	offer := find(t, s, argRef("schedule", "Schedule/two"))[5].Version.ID
	for name, way := range map[string]func() (*fhir.Node, error){
		"slot": func() (*fhir.Node, error) { return book(booking("ada", slotAt("10:00"))) },
		"time": func() (*fhir.Node, error) { return book(at("10:00", "11:00", "long")) },
		"offer": func() (*fhir.Node, error) {
			resp, err := s.Do(t.Context(), Request{Principal: ada, Interaction: Operate, Type: "Appointment", Operation: "book",
				Body: parse(t, `{"resourceType":"Parameters","parameter":[`+argRef("appointment-reference", "Appointment/"+offer)+`]}`)})
			if err != nil {
				return nil, err
			}
			return parse(t, string(resp.Bundle.Entries[0].Version.Content)), nil
		},
	} {
		n, err := way()
		if err != nil {
			t.Fatalf("%s: %s", name, describe(err))
		}
		if n.GetText("status") != "pending" || !s.names(n, "HealthcareService/long") || n.Get("slot") == nil {
			t.Errorf("%s: %s", name, n.JSON())
		}
		agrees(t, s)
		mustCall(t, s, "Appointment", n.ID(), "cancel", because)
	}
	n, err := book(booking("ada", slotAt("09:15")))
	if err != nil || n.GetText("status") != "booked" || !s.names(n, "HealthcareService/short") {
		t.Fatalf("%s %s", describe(err), n.JSON())
	}
	agrees(t, s)
}
