package leak

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/resources"
)

// The people of the test.
const (
	patients      = 5
	practitioners = 4
)

// story writes data of all kinds: what belongs to one patient, to two, to nobody; consents, labels and relationships;
// what was deleted, made again, and moved from one patient to another.
type story struct {
	t testing.TB
	s *resources.Service
	r *rand.Rand
	// now is when the visits are.
	now time.Time
	n   int
}

func (s *story) do(r resources.Request) {
	s.t.Helper()
	if _, err := s.s.Do(s.t.Context(), r); err != nil {
		s.t.Fatalf("%s %s/%s: %s", r.Interaction, r.Type, r.ID, describe(err))
	}
}

// put writes a resource, under an id of its own where the text has none.
func (s *story) put(text string) string {
	s.t.Helper()
	n, err := fhir.ParseJSON([]byte(text))
	if err != nil {
		s.t.Fatalf("%v in %s", err, text)
	}
	if n.ID() == "" {
		s.n++
		n.Set("id", fhir.Str(fmt.Sprintf("%s-%d", strings.ToLower(n.ResourceType()), s.n)))
	}
	s.do(resources.Request{Interaction: resources.Update, Type: n.ResourceType(), ID: n.ID(), Body: n})
	return n.ResourceType() + "/" + n.ID()
}

func (s *story) ref(key string) string { return `{"reference":"` + key + `"}` }

func (s *story) patient() string {
	return s.ref(fmt.Sprintf("Patient/p%d", s.r.IntN(patients)))
}
func (s *story) practitioner() string {
	if s.r.IntN(4) == 0 {
		return s.ref(fmt.Sprintf("PractitionerRole/r%d", s.r.IntN(practitioners)))
	}
	return s.ref(fmt.Sprintf("Practitioner/d%d", s.r.IntN(practitioners)))
}

func (s *story) text() string {
	return pick(s.r, []string{"Amber", "Birch", "Cedar", "Dahlia", "Elder", "Fern"}) + " " + pick(s.r, []string{"north", "south", "east", "west"})
}

func (s *story) date() string {
	return fmt.Sprintf("20%02d-%02d-%02d", 18+s.r.IntN(8), 1+s.r.IntN(12), 1+s.r.IntN(28))
}

// meta is now and then a label.
func (s *story) meta() string {
	switch s.r.IntN(8) {
	case 0:
		return `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"` + pick(s.r, []string{"R", "V", "N"}) + `"}]},`
	case 1:
		return `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"` + pick(s.r, []string{"HIV", "PSY"}) + `"}],"tag":[{"system":"urn:tag","code":"` + s.text()[:5] + `"}]},`
	}
	return ""
}

func (s *story) code(list ...string) string {
	return `{"coding":[{"system":"http://loinc.org","code":"` + pick(s.r, list) + `","display":"` + s.text() + `"}]}`
}

func (s *story) write() {
	for i := range practitioners {
		s.put(fmt.Sprintf(`{"resourceType":"Practitioner","id":"d%d","name":[{"family":"%s"}],"identifier":[{"system":"urn:d","value":"%d"}]}`, i, s.text(), i))
		s.put(fmt.Sprintf(`{"resourceType":"Organization","id":"o%d","name":"%s"}`, i, s.text()))
		s.put(fmt.Sprintf(`{"resourceType":"Location","id":"l%d","name":"%s"}`, i, s.text()))
		s.put(fmt.Sprintf(`{"resourceType":"PractitionerRole","id":"r%d","practitioner":{"reference":"Practitioner/d%d"},"organization":{"reference":"Organization/o%d"}}`, i, i, i))
		s.put(fmt.Sprintf(`{"resourceType":"Schedule","id":"s%d","actor":[{"reference":"Practitioner/d%d"},{"reference":"Location/l%d"}]}`, i, i, i))
	}
	for i := range patients {
		gp := ""
		if i%2 == 0 {
			gp = `,"generalPractitioner":[` + s.practitioner() + `]`
		}
		s.put(fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","name":[{"family":"%s","given":["%s"]}],"identifier":[{"system":"urn:p","value":"%d"}],"birthDate":"%s","gender":"%s"%s,
"managingOrganization":{"reference":"Organization/o%d"},"link":[{"other":%s,"type":"seealso"}]}`, i, s.text(), s.text(), i, s.date(), pick(s.r, []string{"male", "female"}), gp, s.r.IntN(practitioners), s.patient()))
		s.put(fmt.Sprintf(`{"resourceType":"RelatedPerson","id":"k%d","patient":{"reference":"Patient/p%d"},"name":[{"family":"%s"}]}`, i, i, s.text()))
	}
	visits := map[string][]string{}
	for range 12 {
		patient := s.patient()
		visit := s.put(`{"resourceType":"Encounter",` + s.meta() + `"status":"` + pick(s.r, []string{"finished", "in-progress", "cancelled"}) + `","class":{"code":"AMB"},"subject":` + patient +
			`,"participant":[{"individual":` + s.practitioner() + `}],"period":{"start":"` + s.date() + `"},"serviceProvider":{"reference":"Organization/o1"}}`)
		visits[patient] = append(visits[patient], visit)
	}
	encounter := func() string { return s.ref(fmt.Sprintf("Encounter/encounter-%d", 1+s.r.IntN(12))) }
	// A record of somebody's visit is about the same patient; of what has no such rule, the visit may be anybody's.
	during := func(patient string) string {
		if len(visits[patient]) == 0 {
			return ""
		}
		return `"encounter":` + s.ref(pick(s.r, visits[patient])) + `,`
	}
	assessment := func() string {
		return s.meta() + `"status":"final","code":` + s.code("718-7") + `,"subject":` + s.patient() + `,"encounter":` + encounter() + `,"occurrenceDateTime":"` + s.date() + `"}`
	}
	var all []string
	for range 14 {
		all = append(all, s.put(`{"resourceType":"RiskAssessment",`+assessment()))
	}
	for range 40 {
		patient := s.patient()
		all = append(all, s.put(`{"resourceType":"Observation",`+s.meta()+`"status":"`+pick(s.r, []string{"final", "preliminary"})+`","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"`+
			pick(s.r, []string{"laboratory", "vital-signs"})+`"}]}],"code":`+s.code("8302-2", "29463-7", "718-7")+`,"subject":`+patient+`,`+during(patient)+`"performer":[`+s.practitioner()+`],"effectiveDateTime":"`+s.date()+
			`","valueQuantity":{"value":`+fmt.Sprint(s.r.IntN(200))+`,"unit":"cm"},"note":[{"text":"`+s.text()+`"}]}`))
	}
	for range 10 {
		patient := s.patient()
		all = append(all, s.put(`{"resourceType":"Condition",`+s.meta()+`"subject":`+patient+`,"code":`+s.code("c1", "c2")+`,"asserter":`+pick(s.r, []string{s.patient(), s.practitioner()})+`,"recordedDate":"`+s.date()+`"}`))
		all = append(all, s.put(`{"resourceType":"MedicationRequest",`+s.meta()+`"status":"active","intent":"order","subject":`+patient+`,"requester":`+s.practitioner()+`,"medicationCodeableConcept":`+s.code("m1", "m2")+
			`,"contained":[{"resourceType":"Medication","id":"m","code":`+s.code("mc")+`}]}`))
		all = append(all, s.put(`{"resourceType":"DocumentReference",`+s.meta()+`"status":"current","subject":`+patient+`,"author":[`+s.practitioner()+`],"content":[{"attachment":{"title":"`+s.text()+`"}}],"description":"`+s.text()+`"}`))
		all = append(all, s.put(`{"resourceType":"Coverage","status":"active","beneficiary":`+patient+`,"subscriber":`+s.patient()+`,"payor":[{"reference":"Organization/o0"}],"subscriberId":"`+s.text()+`"}`))
		all = append(all, s.put(`{"resourceType":"Communication","status":"completed","subject":`+patient+`,"sender":`+s.practitioner()+`,"recipient":[`+s.patient()+`],"payload":[{"contentString":"`+s.text()+`"}]}`))
		s.put(`{"resourceType":"Task",` + s.meta() + `"status":"requested","intent":"order","focus":` + s.ref(pick(s.r, all)) + `,"for":` + patient + `,"owner":` + s.practitioner() + `,"description":"` + s.text() + `"}`)
		s.put(`{"resourceType":"Device",` + pick(s.r, []string{`"patient":` + patient + `,`, ""}) + `"deviceName":[{"name":"` + s.text() + `","type":"user-friendly-name"}]}`)
		s.put(`{"resourceType":"Binary","contentType":"text/plain","data":"eA==","securityContext":` + s.ref(pick(s.r, all)) + `}`)
		s.put(`{"resourceType":"Provenance","recorded":"2024-01-01T00:00:00Z","target":[` + s.ref(pick(s.r, all)) + `],"agent":[{"who":` + s.practitioner() + `}]}`)
		s.put(`{"resourceType":"List",` + s.meta() + `"status":"current","mode":"working","subject":` + patient + `,"entry":[{"item":` + s.ref(pick(s.r, all)) + `},{"item":` + s.ref(pick(s.r, all)) + `}],"title":"` + s.text() + `"}`)
		s.put(`{"resourceType":"AuditEvent","type":{"code":"rest"},"recorded":"2024-01-01T00:00:00Z","agent":[{"requestor":true,"who":` + s.practitioner() + `}],"source":{"observer":{"reference":"Organization/o0"}},"entity":[{"what":` + patient + `},{"what":` + s.ref(pick(s.r, all)) + `}]}`)
	}
	for i := range patients {
		own := s.ref(fmt.Sprintf("Patient/p%d", i))
		s.put(`{"resourceType":"Composition","status":"final","type":` + s.code("t") + `,"subject":` + own + `,"encounter":` + encounter() + `,"date":"` + s.date() + `","author":[` + s.practitioner() + `],"title":"` + s.text() + `","section":[{"entry":[` + s.ref(pick(s.r, all)) + `]}]}`)
		s.put(`{"resourceType":"CareTeam","status":"` + pick(s.r, []string{"active", "inactive"}) + `","subject":` + own + `,"participant":[{"member":` + s.practitioner() + `},{"member":` + s.patient() + `}]}`)
		s.put(`{"resourceType":"Person","link":[{"target":` + own + `},{"target":` + s.patient() + `}],"name":[{"family":"` + s.text() + `"}]}`)
		s.put(`{"resourceType":"Account","status":"active","subject":[` + own + `,` + s.patient() + `],"name":"` + s.text() + `"}`)
	}
	s.put(`{"resourceType":"Group","type":"person","actual":true,"member":[{"entity":` + s.patient() + `},{"entity":` + s.patient() + `}]}`)
	s.put(`{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","id":"x","name":[{"family":"` + s.text() + `"}]}}]}`)
	s.put(`{"resourceType":"CodeSystem","url":"http://x/open","status":"active","content":"complete","concept":[{"code":"a","display":"Amber"},{"code":"b"}]}`)
	s.put(`{"resourceType":"CodeSystem","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"V"}]},"url":"http://x/closed","status":"active","content":"complete","concept":[{"code":"z","display":"Secret"}]}`)
	s.put(`{"resourceType":"ValueSet","url":"http://x/open-set","status":"active","compose":{"include":[{"system":"http://x/open"}]}}`)
	s.put(`{"resourceType":"ValueSet","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"V"}]},"url":"http://x/closed-set","status":"active","compose":{"include":[{"system":"http://loinc.org","concept":[{"code":"8302-2"}]}]}}`)
	s.put(`{"resourceType":"RelatedPerson","id":"of-p1","patient":{"reference":"Patient/p1"},"name":[{"family":"` + s.text() + `"}]}`)
	s.put(`{"resourceType":"RelatedPerson","id":"once-of-p2","patient":{"reference":"Patient/p2"},"period":{"end":"2020-01-01"}}`)
	s.visits()
	s.consents()
	for _, key := range all[:6] { // what was deleted, and part of it made again
		typ, id, _ := strings.Cut(key, "/")
		s.do(resources.Request{Interaction: resources.Delete, Type: typ, ID: id})
		if s.r.IntN(2) == 0 {
			s.put(`{"resourceType":"RiskAssessment","id":"` + id + `",` + assessment())
		}
	}
	for _, key := range all[6:14] { // what was first written to the wrong patient
		_, id, _ := strings.Cut(key, "/")
		s.put(`{"resourceType":"RiskAssessment","id":"` + id + `",` + assessment())
	}
}

func (s *story) visits() {
	day := s.now.AddDate(0, 0, 3).UTC().Truncate(24 * time.Hour)
	at := func(hour int) (start, end string) {
		return day.Add(time.Duration(hour) * time.Hour).Format(time.RFC3339), day.Add(time.Duration(hour)*time.Hour + 30*time.Minute).Format(time.RFC3339)
	}
	for i := range practitioners {
		for h := range 6 {
			start, end := at(8 + h)
			s.put(fmt.Sprintf(`{"resourceType":"Slot","id":"slot-%d-%d","schedule":{"reference":"Schedule/s%d"},"status":"free","start":"%s","end":"%s","comment":"%s"}`, i, h, i, start, end, s.text()))
		}
	}
	for i := range 8 {
		doc, hour := i%practitioners, i/practitioners
		others := ""
		if i%3 == 0 {
			others = `,{"actor":` + s.ref(fmt.Sprintf("Patient/p%d", (i+1)%patients)) + `,"status":"accepted","required":"optional"}`
		}
		n := fhir.Obj()
		_ = n
		s.put(fmt.Sprintf(`{"resourceType":"Appointment","id":"visit-%d","status":"booked","slot":[{"reference":"Slot/slot-%d-%d"}],"description":"%s","comment":"%s",
"participant":[{"actor":{"reference":"Patient/p%d"},"status":"accepted"}%s]}`, i, doc, hour, s.text(), s.text(), i%patients, others))
	}
	s.put(fmt.Sprintf(`{"resourceType":"AppointmentResponse","id":"answer","appointment":{"reference":"Appointment/visit-1"},"actor":{"reference":"Patient/p1"},"participantStatus":"accepted","comment":"%s"}`, s.text()))
}

func (s *story) consents() {
	for i, provision := range []string{
		`{"type":"deny","actor":[{"role":{"text":"x"},"reference":{"reference":"Practitioner/d0"}}]}`,
		`{"type":"permit","provision":[{"type":"deny","class":[{"system":"http://hl7.org/fhir/resource-types","code":"Observation"}]}]}`,
		`{"type":"deny","period":{"end":"2020-01-01"}}`,
		`{"type":"permit","provision":[{"type":"deny","securityLabel":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]}]}`,
		`{"type":"deny","provision":[{"type":"permit","actor":[{"role":{"text":"x"},"reference":{"reference":"Practitioner/d1"}}]}]}`,
	} {
		s.put(fmt.Sprintf(`{"resourceType":"Consent","id":"consent-%d","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],"patient":{"reference":"Patient/p%d"},"policyRule":{"text":"x"},"provision":%s}`, i, i%patients, provision))
	}
}
