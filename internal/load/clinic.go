package load

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"kiln/fhir"
	"kiln/resources"
)

// ClinicMarker is there exactly when Clinic has run to its end.
const ClinicMarker = "clinic"

// ClinicOptions say how large the demo clinic is. The same options on the same day make the same clinic.
type ClinicOptions struct {
	Patients int
	Seed     uint64
	Now      time.Time
	// Progress is told how far it is; nil for nobody.
	Progress io.Writer
}

// clinic builds a demo clinic: its people and rooms, a month of Slots, patients with coverage and history, and
// appointments in every state.
type clinic struct {
	ClinicOptions
	service *resources.Service
	random  *rand.Rand
	result  *Result
	bar     *progress
	pending []fhir.Node
}

const clinicChunk = 400 // entries of one transaction

// Clinic loads the demo clinic, unless it is there: then it returns nil.
func Clinic(ctx context.Context, service *resources.Service, o ClinicOptions) (*Result, error) {
	_, err := service.Do(ctx, resources.Request{Interaction: resources.Read, Type: "Organization", ID: ClinicMarker})
	switch {
	case err == nil:
		return nil, nil
	case fhir.KindOf(err) != fhir.NotFound:
		return nil, err
	}
	c := &clinic{ClinicOptions: o, service: service, random: rand.New(rand.NewPCG(o.Seed, 1)), result: &Result{Path: "demo clinic", unit: "entry"}}
	c.bar = newProgress(o.Progress, int64(o.Patients)+1)
	defer c.bar.end()
	for _, step := range []func(context.Context) error{c.payers, c.staff, c.slots, c.patients, c.appointments, c.finish} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("demo clinic: %w", err)
		}
	}
	return c.result, nil
}

// add puts a resource into the next transaction.
func (c *clinic) add(ctx context.Context, format string, args ...any) error {
	n, err := fhir.ParseJSON(fmt.Appendf(nil, format, args...))
	if err != nil {
		return fmt.Errorf("%w: "+format, append([]any{err}, args...)...)
	}
	if c.pending = append(c.pending, asEntry(*n, "")); len(c.pending) < clinicChunk {
		return nil
	}
	return c.flush(ctx)
}

func (c *clinic) flush(ctx context.Context) error {
	if len(c.pending) == 0 {
		return nil
	}
	body := fhir.Obj(fhir.Str("Bundle").As("resourceType"), fhir.Str("transaction").As("type"), fhir.Arr(c.pending...).As("entry"))
	n := len(c.pending)
	c.pending = nil
	resp, err := c.service.Do(ctx, resources.Request{Interaction: resources.Transaction, Body: &body})
	if err != nil {
		return err
	}
	for _, e := range resp.Bundle.Entries {
		c.result.count(e)
	}
	c.bar.add(n, 0)
	return nil
}

func (c *clinic) finish(ctx context.Context) error {
	if err := c.add(ctx, `{"resourceType":"Organization","id":%q,"active":true,"name":"Harbour and Hill Clinics"}`, ClinicMarker); err != nil {
		return err
	}
	return c.flush(ctx)
}

// clinicSites are two places in two zones, clinicServices what is done there, clinicStaff who does it.
var (
	clinicSites = []struct{ id, name, zone string }{
		{"clinic-harbour", "Harbour Clinic", "America/New_York"},
		{"clinic-hill", "Hill Clinic", "Europe/Vienna"},
	}
	clinicServices = []struct {
		id, name, code, approval, coverage string
		minutes, capacity                  int
	}{
		{"clinic-general", "General practice", "124", "none", "warn", 30, 1},
		{"clinic-children", "Paediatrics", "57", "none", "warn", 30, 1},
		{"clinic-heart", "Cardiology", "165", "practitioner", "pend", 45, 1},
		{"clinic-skin", "Dermatology", "168", "practitioner", "strict", 20, 1},
		{"clinic-vaccination", "Vaccination", "57", "none", "off", 10, 1},
		{"clinic-back", "Back school, a group", "65", "none", "pend", 60, 8},
	}
	clinicNames = []string{"Adeyemi", "Bianchi", "Castillo", "Dvořák", "Eriksen", "Fontaine", "Grünwald", "Haddad", "Ivanova", "Jansen", "Kowalska", "Laurent"}
	givenNames  = []string{"Aino", "Bruno", "Chiara", "Dario", "Elif", "Femi", "Greta", "Hugo", "Ines", "Jonas", "Katya", "Leon", "Mira", "Noah", "Olga", "Paul"}
	familyNames = []string{"Abara", "Berg", "Costa", "Dimitrov", "Evans", "Fischer", "García", "Hansen", "Ito", "Jovanović", "Klein", "López", "Moreau", "Nagy", "O'Brien", "Petrova", "Quinn", "Rossi", "Sato", "Tanaka"}
)

// staff makes sites, services, rooms, practitioners and their Schedules with weekly rules.
func (c *clinic) staff(ctx context.Context) error {
	const extension = fhir.CanonicalBase + "StructureDefinition/"
	for _, s := range clinicSites {
		if err := c.add(ctx, `{"resourceType":"Location","id":%q,"status":"active","name":%q,"mode":"instance","physicalType":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/location-physical-type","code":"si"}]},"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":%q}]}`, s.id, s.name, s.zone); err != nil {
			return err
		}
	}
	for _, s := range clinicServices {
		if err := c.add(ctx, `{"resourceType":"HealthcareService","id":%q,"active":true,"name":%q,"appointmentRequired":true,"type":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/service-type","code":%q}]}],"extension":[{"url":%q,"extension":[{"url":"approval","valueCode":%q},{"url":"coverage","valueCode":%q},{"url":"duration","valueDuration":{"value":%d,"unit":"min","system":"http://unitsofmeasure.org","code":"min"}},{"url":"capacity","valuePositiveInt":%d}]}]}`,
			s.id, s.name, s.code, extension+"booking-policy", s.approval, s.coverage, s.minutes, s.capacity); err != nil {
			return err
		}
	}
	for i, name := range clinicNames {
		site, service := clinicSites[i%2], clinicServices[i%len(clinicServices)]
		if err := c.add(ctx, `{"resourceType":"Practitioner","id":"clinic-p%d","active":true,"identifier":[{"system":"https://kiln.example/staff","value":"2%03d"}],"name":[{"family":%q,"given":[%q],"prefix":["Dr."]}]}`, i, i, name, givenNames[i]); err != nil {
			return err
		}
		if err := c.add(ctx, `{"resourceType":"Location","id":"clinic-r%d","status":"active","name":"%s, room %d","physicalType":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/location-physical-type","code":"ro"}]},"partOf":{"reference":"Location/%s"},"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":%q}]}`, i, site.name, i/2+1, site.id, site.zone); err != nil {
			return err
		}
		if err := c.add(ctx, `{"resourceType":"PractitionerRole","id":"clinic-role%d","active":true,"practitioner":{"reference":"Practitioner/clinic-p%d"},"organization":{"reference":"Organization/%s"},"healthcareService":[{"reference":"HealthcareService/%s"}],"location":[{"reference":"Location/%s"}],"code":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/practitioner-role","code":"doctor"}]}]}`, i, i, clinicPractice(i), service.id, site.id); err != nil {
			return err
		}
		rule := func(days, start, end string) string {
			text := fmt.Sprintf(`{"url":%q,"extension":[`, extension+"availability")
			for d := range len(days) / 3 {
				text += fmt.Sprintf(`{"url":"daysOfWeek","valueCode":%q},`, days[3*d:3*d+3])
			}
			return text + fmt.Sprintf(`{"url":"start","valueTime":"%s:00"},{"url":"end","valueTime":"%s:00"}]}`, start, end)
		}
		rules := rule("montuewedthufri", "09:00", "12:00") + "," + rule("montuethu", "13:00", "17:00")
		if i%4 == 3 { // somebody works in the evening, and on Saturdays
			rules = rule("montuewedthufri", "14:00", "20:00") + "," + rule("sat", "09:00", "12:00")
		}
		if err := c.add(ctx, `{"resourceType":"Schedule","id":"clinic-s%d","active":true,"serviceType":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/service-type","code":%q}]}],"actor":[{"reference":"Practitioner/clinic-p%d"},{"reference":"Location/clinic-r%d"},{"reference":"HealthcareService/%s"}],"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/timezone","valueCode":%q},%s]}`,
			i, service.code, i, i, service.id, site.zone, rules); err != nil {
			return err
		}
	}
	return c.flush(ctx)
}

// slots makes a month of Slots from the rules.
func (c *clinic) slots(ctx context.Context) error {
	for i := range clinicNames {
		from := c.Now.UTC()
		body, err := fhir.ParseJSON(fmt.Appendf(nil, `{"resourceType":"Parameters","parameter":[{"name":"from","valueDate":%q},{"name":"to","valueDate":%q}]}`,
			from.Format(time.DateOnly), from.AddDate(0, 0, 30).Format(time.DateOnly)))
		if err != nil {
			return err
		}
		if _, err := c.service.Do(ctx, resources.Request{Interaction: resources.Operate, Type: "Schedule", ID: fmt.Sprint("clinic-s", i), Operation: "generate", Body: body}); err != nil {
			return err
		}
	}
	return nil
}

// patients makes patients, each with a coverage and some history.
func (c *clinic) patients(ctx context.Context) error {
	day := func(back int) string { return c.Now.UTC().AddDate(0, 0, -back).Format(time.DateOnly) }
	conditions := [][2]string{{"38341003", "Hypertension"}, {"44054006", "Type 2 diabetes"}, {"195967001", "Asthma"}, {"24700007", "Multiple sclerosis"}, {"161891005", "Back pain"}}
	for i := range c.Patients {
		gender := []string{"female", "male", "other"}[min(c.random.IntN(40)/19, 2)]
		if err := c.add(ctx, `{"resourceType":"Patient","id":"clinic-%d","active":true,"identifier":[{"system":"https://kiln.example/record","value":"%07d"}],"name":[{"family":%q,"given":[%q]}],"gender":%q,"birthDate":%q,"generalPractitioner":[{"reference":"Practitioner/clinic-p%d"}]}`,
			i, i+1, pickOf(c.random, familyNames), pickOf(c.random, givenNames), gender, day(300+c.random.IntN(33000)), c.random.IntN(len(clinicNames))); err != nil {
			return err
		}
		if err := c.coverage(ctx, i, day(700)); err != nil {
			return err
		}
		for visit := range c.random.IntN(4) {
			condition := pickOf(c.random, conditions)
			when := day(20 + c.random.IntN(900))
			if err := c.add(ctx, `{"resourceType":"Encounter","id":"clinic-%d-%d","status":"finished","class":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"AMB"},"subject":{"reference":"Patient/clinic-%d"},"participant":[{"individual":{"reference":"Practitioner/clinic-p%d"}}],"period":{"start":%q,"end":%q}}`,
				i, visit, i, c.random.IntN(len(clinicNames)), when, when); err != nil {
				return err
			}
			if err := c.add(ctx, `{"resourceType":"Condition","id":"clinic-%d-%d","clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]},"code":{"coding":[{"system":"http://snomed.info/sct","code":%q,"display":%q}],"text":%q},"subject":{"reference":"Patient/clinic-%d"},"encounter":{"reference":"Encounter/clinic-%d-%d"},"recordedDate":%q}`,
				i, visit, condition[0], condition[1], condition[1], i, i, visit, when); err != nil {
				return err
			}
			if err := c.add(ctx, `{"resourceType":"Observation","id":"clinic-%d-%d","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"29463-7","display":"Body weight"}]},"subject":{"reference":"Patient/clinic-%d"},"encounter":{"reference":"Encounter/clinic-%d-%d"},"effectiveDateTime":%q,"valueQuantity":{"value":%d.%d,"unit":"kg","system":"http://unitsofmeasure.org","code":"kg"}}`,
				i, visit, i, i, visit, when, 45+c.random.IntN(60), c.random.IntN(10)); err != nil {
				return err
			}
		}
		c.bar.add(0, 1)
	}
	return c.flush(ctx)
}

func pickOf[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }
