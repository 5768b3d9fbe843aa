package resources

import (
	"fmt"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

// Two patients in one visit: each sees it, and in it only themselves, by whatever path and question.
func TestAccess_a_visit_of_two(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false; so.PoolSize = 4 })
	w := &ward{s, t}
	put(t, s, `{"resourceType":"Patient","id":"ben","name":[{"family":"Berry"}],"identifier":[{"system":"urn:x","value":"ben"}]}`)
	put(t, s, `{"resourceType":"RelatedPerson","id":"bens-mother","patient":{"reference":"Patient/ben"}}`)
	visit := mustCreate(t, s, `{"resourceType":"Appointment","status":"booked","slot":[{"reference":"Slot/s9"}],"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">Ada and Ben Berry</div>"},
"contained":[{"resourceType":"Patient","id":"third","name":[{"family":"Cherry"}]}],"description":"Talk",
"participant":[{"actor":{"reference":"Patient/ada"},"status":"accepted"},{"actor":{"reference":"Patient/ben","display":"Ben Berry","identifier":{"system":"urn:x","value":"ben"}},"status":"accepted"},
{"actor":{"reference":"RelatedPerson/bens-mother"},"status":"accepted","required":"optional"},{"actor":{"reference":"#third"},"status":"accepted","required":"optional"},{"actor":{"display":"Ben's brother"},"status":"tentative","required":"optional"}]}`)
	single := mustCreate(t, s, booking("ada", "s10"))
	ada, boss := patientApp("ada", "patient/*.cruds"), admin("user/*.rs")
	texts := func(p auth.Principal, r Request) string {
		r.Principal = p
		resp, err := s.Do(t.Context(), r)
		if err != nil {
			t.Fatalf("%s: %s", r.Interaction, describe(err))
		}
		var b strings.Builder
		var each func(*Response)
		each = func(resp *Response) {
			if resp.Version != nil {
				b.Write(resp.Version.Content)
			}
			if resp.Resource != nil {
				b.Write(resp.Resource.JSON())
			}
			if resp.Bundle != nil {
				for _, e := range resp.Bundle.Entries {
					if e.Version != nil {
						b.Write(e.Version.Content)
					}
					if e.Response != nil {
						each(e.Response)
					}
				}
			}
		}
		each(resp)
		return b.String()
	}
	put(t, s, `{"resourceType":"Composition","id":"c","status":"final","type":{"text":"x"},"subject":{"reference":"Patient/ada"},"date":"2020","author":[{"reference":"Practitioner/doc"}],"title":"x","section":[{"entry":[{"reference":"Appointment/`+visit.ID+`"}]}]}`)
	for name, r := range map[string]Request{
		"read":        {Interaction: Read, Type: "Appointment", ID: visit.ID},
		"vread":       {Interaction: VRead, Type: "Appointment", ID: visit.ID, Version: "1"},
		"history":     {Interaction: HistoryInstance, Type: "Appointment", ID: visit.ID},
		"of_the_type": {Interaction: HistoryType, Type: "Appointment"},
		"search":      {Interaction: SearchType, Type: "Appointment"},
		"elements":    {Interaction: SearchType, Type: "Appointment", Query: "_elements=participant"},
		"included":    {Interaction: SearchType, Type: "Patient", Query: "_revinclude=Appointment:actor"},
		"compartment": {Interaction: SearchSystem, Compartment: "Patient", CompartmentID: "ada"},
		"everything":  {Interaction: Operate, Operation: "everything", Type: "Patient", ID: "ada"},
		"document":    {Interaction: Operate, Operation: "document", Type: "Composition", ID: "c"},
		"batch":       {Interaction: Batch, Body: parse(t, `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Appointment/`+visit.ID+`"}}]}`)},
		"transaction": {Interaction: Transaction, Body: parse(t, `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"GET","url":"Appointment?_count=5"}}]}`)},
		"patch":       {Interaction: Patch, Type: "Appointment", ID: visit.ID, JSONPatch: []byte(`[{"op":"add","path":"/comment","value":"x"}]`), IfMatch: "1"},
	} {
		got := texts(ada, r)
		if !strings.Contains(got, "Patient/ada") || !strings.Contains(got, "masked") && name != "of_the_type" {
			t.Errorf("%s does not show the own visit: %s", name, got)
		}
		for _, word := range []string{"en", "ben", "Ben", "Berry", "Cherry", "bens-mother"} {
			if strings.Contains(got, `/`+word+`"`) || len(word) > 2 && strings.Contains(got, word) {
				t.Errorf("%s tells %s: %s", name, word, got)
			}
		}
	}
	if got := texts(boss, Request{Interaction: Read, Type: "Appointment", ID: visit.ID}); !strings.Contains(got, "Patient/ben") {
		t.Errorf("staff see who takes part: %s", got)
	}
	// Questions about others have no answer; those about oneself and about staff do.
	both := visit.ID + " " + single.ID
	for query, want := range map[string]string{
		"actor=Patient/ben": "", "actor=ben": "", "patient=ben": "", "patient=Patient/ben": "", "actor=" + testBase + "/Patient/ben": "", "actor=Patient/ben,Patient/ada&_sort=-date": both,
		"actor=RelatedPerson/bens-mother": "", "actor:identifier=urn:x|ben": "", "_text=berry": "", "_content=berry": "", "_content=cherry": "", "actor:Patient.name=berry": "", "patient.identifier=urn:x|ben": "",
		"_filter=actor%20eq%20Patient/ben": "", "_filter=patient%20eq%20Patient/ben": "", "patient=ada": both, "actor=Practitioner/doc": both, "actor=doc": both, "actor=doc,ben": both, "practitioner=doc": both, "location=room": both,
		"part-status=tentative": visit.ID, "_has:AppointmentResponse:appointment:actor=Patient/ben": "",
	} {
		got := strings.Fields(w.found(ada, "Appointment", query))
		if want := strings.Fields(want); !sameSet(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	if got := do(t, s, Request{Principal: ada, Interaction: SearchType, Type: "Appointment", Compartment: "Patient", CompartmentID: "ben"}); len(got.Bundle.Entries) != 0 {
		t.Errorf("the compartment of another shows %d", len(got.Bundle.Entries))
	}
	do(t, s, Request{Principal: ada, Interaction: SearchType, Type: "Appointment", Query: "_sort=actor,-patient"})
	// Nor do writes tell who it is by what they let through.
	for name, r := range map[string]Request{
		"test_right": {Interaction: Patch, JSONPatch: []byte(`[{"op":"test","path":"/participant/1/actor/reference","value":"Patient/ben"}]`)},
		"test_wrong": {Interaction: Patch, JSONPatch: []byte(`[{"op":"test","path":"/participant/1/actor/reference","value":"Patient/eve"}]`)},
		"test_all":   {Interaction: Patch, JSONPatch: []byte(`[{"op":"test","path":"","value":1}]`)},
		"copy":       {Interaction: Patch, JSONPatch: []byte(`[{"op":"copy","from":"/participant/1/actor/display","path":"/comment"}]`)},
		"fhirpath":   {Interaction: Patch, Body: parse(t, `{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"delete"},{"name":"path","valueString":"Appointment.participant.where(actor.reference='Patient/ben')"}]}]}`)},
		"guessed":    {Interaction: Update, Body: parse(t, string(do(t, s, Request{Interaction: Read, Type: "Appointment", ID: visit.ID}).Version.Content))},
		"as_shown":   {Interaction: Update, Body: parse(t, string(do(t, s, Request{Principal: ada, Interaction: Read, Type: "Appointment", ID: visit.ID}).Version.Content))},
	} {
		r.Type, r.ID, r.IfMatch = "Appointment", visit.ID, "2"
		if got := w.status(ada, r); got != fhir.Forbidden {
			t.Errorf("%s: kind %d", name, got)
		}
	}
	got := texts(ada, Request{Interaction: Operate, Operation: "cancel", Type: "Appointment", ID: visit.ID, Body: parse(t, `{"resourceType":"Parameters","parameter":[`+arg("reason", "valueCodeableConcept", `{"coding":[{"code":"pat"}]}`)+`]}`)})
	if strings.Contains(got, "ben") || !strings.Contains(got, "cancelled") {
		t.Errorf("$cancel: %s", got)
	}
}

func sameSet(a, b []string) bool {
	seen := map[string]bool{}
	for _, x := range a {
		seen[x] = true
	}
	for _, x := range b {
		if !seen[x] {
			return false
		}
	}
	return len(a) == len(b)
}

// What a visit of two goes by of the other's does not show, and no question about it has an answer.
func TestAccess_what_a_visit_of_two_goes_by(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false; so.PoolSize = 4 })
	put(t, s, `{"resourceType":"Patient","id":"ben","name":[{"family":"Berry"}]}`)
	for patient, id := range map[string]string{"ben": "bens", "ada": "adas"} {
		put(t, s, `{"resourceType":"DocumentReference","id":"`+id+`","status":"current","subject":{"reference":"Patient/`+patient+`"},"content":[{"attachment":{"url":"urn:x"}}]}`)
	}
	put(t, s, `{"resourceType":"SearchParameter","id":"any","url":"http://example.org/any","name":"any","status":"active","description":"x","code":"any","base":["Appointment"],"type":"reference","expression":"Appointment.descendants().where(reference.exists())","target":["Patient","DocumentReference"]}`)
	put(t, s, `{"resourceType":"SearchParameter","id":"who-how","url":"http://example.org/who-how","name":"whoHow","status":"active","description":"x","code":"who-how","base":["Appointment"],"type":"composite","expression":"Appointment",
"component":[{"definition":"http://hl7.org/fhir/SearchParameter/Appointment-actor","expression":"participant.actor"},{"definition":"http://hl7.org/fhir/SearchParameter/Appointment-status","expression":"status"}]}`)
	visit := func(slot, document, others string) {
		mustCreate(t, s, `{"resourceType":"Appointment","status":"booked","slot":[{"reference":"Slot/`+slot+`"}],"supportingInformation":[{"reference":"DocumentReference/`+document+`"}],
"participant":[{"actor":{"reference":"Patient/ada"},"status":"accepted"}`+others+`]}`)
	}
	visit("s9", "bens", `,{"actor":{"reference":"Patient/ben"},"status":"accepted"}`)
	visit("s10", "adas", "")
	for query, want := range map[string][2]int{
		"":                                       {2, 2},
		"supporting-info=DocumentReference/bens": {0, 1},
		"supporting-info=DocumentReference/adas": {1, 1},
		"supporting-info:missing=false":          {1, 2},
		"supporting-info:missing=true":           {0, 0},
		"supporting-info:DocumentReference.status=current":          {1, 2},
		"_filter=supporting-info eq DocumentReference/bens":         {0, 1},
		"any=DocumentReference/bens":                                {0, 1},
		"any=Patient/ben":                                           {0, 1},
		"who-how=Patient/ben$booked":                                {0, 1},
		"who-how=Patient/ada$booked":                                {1, 2},
		"_sort=supporting-info&supporting-info=DocumentReference/x": {0, 0},
	} {
		for i, who := range []auth.Principal{patientApp("ada", "patient/*.rs"), {}} {
			n := len(do(t, s, Request{Principal: who, Interaction: SearchType, Type: "Appointment", Query: strings.ReplaceAll(query, " ", "%20")}).Bundle.Entries)
			if n != want[i] {
				t.Errorf("%s finds %d, want %d (caller %d)", query, n, want[i], i)
			}
		}
	}
	// What scopes leave out is nothing that the visit shows, and nobody learns of it by what else an operation reads.
	narrow := patientApp("ada", "patient/Appointment.rs patient/DocumentReference.rs?status=current&type=urn:x|y")
	visit("s11", "adas", `,{"actor":{"reference":"Patient/ben"},"status":"accepted"}`)
	for who, want := range map[*auth.Principal]int{&narrow: 1, {User: "u-ada", Client: "app", Roles: []auth.Role{auth.RolePatient}, FHIRUser: "Patient/ada", Patient: "ada", Scopes: scopes("patient/*.rs")}: 2} {
		n := 0
		for _, e := range do(t, s, Request{Principal: *who, Interaction: SearchType, Type: "Appointment"}).Bundle.Entries {
			n += strings.Count(string(e.Version.Content), "DocumentReference/adas")
		}
		if n != want {
			t.Errorf("%d visits show what they go by, want %d", n, want)
		}
	}
}

// Who opens the records of all patients of a visit sees nobody else in it, and finds it by whatever it says. With one more in it, no question about them has an answer.
func TestAccess_a_visit_of_two_whose_records_one_user_opens(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false; so.PoolSize = 4 })
	for _, body := range []string{`{"resourceType":"Patient","id":"ben"}`, `{"resourceType":"Patient","id":"cleo"}`,
		`{"resourceType":"RelatedPerson","id":"of-ben","patient":{"reference":"Patient/ben"}}`, `{"resourceType":"RelatedPerson","id":"of-cleo","patient":{"reference":"Patient/cleo"}}`,
		`{"resourceType":"DocumentReference","id":"bens","status":"current","subject":{"reference":"Patient/ben"},"content":[{"attachment":{"url":"urn:x"}}]}`} {
		put(t, s, body)
	}
	for slot, third := range map[string]string{"s9": "", "s10": "Patient/cleo", "s11": "RelatedPerson/of-cleo"} {
		others := ""
		if third != "" {
			others = `,{"actor":{"reference":"` + third + `"},"status":"accepted"}`
		}
		mustCreate(t, s, `{"resourceType":"Appointment","status":"booked","slot":[{"reference":"Slot/`+slot+`"}],"supportingInformation":[{"reference":"DocumentReference/bens"}],
"participant":[{"actor":{"reference":"Patient/ada"},"status":"accepted"},{"actor":{"reference":"Patient/ben"},"status":"accepted"}`+others+`]}`)
	}
	parent := auth.Principal{User: "u", Client: "app", Roles: []auth.Role{auth.RolePatient}, FHIRUser: "Patient/ada", Others: []auth.Record{{Link: "RelatedPerson/of-ben", Patient: "ben"}}, Scopes: scopes("user/*.rs")}
	stranger := parent
	stranger.Others = []auth.Record{{Link: "RelatedPerson/of-cleo", Patient: "ben"}} // who acts for somebody else
	for query, want := range map[string][3]int{
		"":                                       {3, 3, 3},
		"supporting-info=DocumentReference/bens": {1, 0, 0},
		"supporting-info:missing=false":          {1, 0, 0},
		"supporting-info:DocumentReference.status=current": {3, 0, 0}, // it leads to what the caller can read alone, and that a visit shows
		"actor=Patient/cleo": {0, 0, 0},
	} {
		for i, who := range []auth.Principal{parent, patientApp("ada", "patient/*.rs"), stranger} {
			if n := len(do(t, s, Request{Principal: who, Interaction: SearchType, Type: "Appointment", Query: query}).Bundle.Entries); n != want[i] {
				t.Errorf("%s finds %d, want %d (caller %d)", query, n, want[i], i)
			}
		}
	}
	found := do(t, s, Request{Principal: parent, Interaction: SearchType, Type: "DocumentReference", Query: "_has:Appointment:supporting-info:status=booked"}).Bundle.Entries
	if len(found) != 1 {
		t.Errorf("by the visit %d documents are found", len(found))
	}
}

// Nor does what stands beside a page, or is asked of others, tell what a visit does not show: who else takes part, be it somebody whom the caller
// can read, and what is contained.
func TestAccess_what_stands_beside_a_visit_of_two(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false; so.PoolSize = 4 })
	w := &ward{s, t}
	put(t, s, `{"resourceType":"RelatedPerson","id":"mum","patient":{"reference":"Patient/ada"}}`)
	put(t, s, `{"resourceType":"Organization","id":"school"}`)
	put(t, s, `{"resourceType":"SearchParameter","id":"any","url":"http://example.org/any","name":"any","status":"active","description":"x","code":"any","base":["Appointment"],"type":"reference","expression":"Appointment.descendants().where(reference.exists())","target":["Patient","Organization","RelatedPerson","Practitioner"]}`)
	visit := mustCreate(t, s, `{"resourceType":"Appointment","status":"booked","slot":[{"reference":"Slot/s9"}],
"contained":[{"resourceType":"Patient","id":"third","managingOrganization":{"reference":"Organization/school"}}],
"participant":[{"actor":{"reference":"Patient/ada"},"status":"accepted"},{"actor":{"reference":"Patient/ben"},"status":"accepted"},{"actor":{"reference":"Practitioner/doc"},"status":"accepted"},
{"actor":{"reference":"RelatedPerson/mum"},"status":"accepted","required":"optional"},{"actor":{"reference":"#third"},"status":"accepted","required":"optional"}]}`)
	ada := patientApp("ada", "patient/*.cruds")
	for text, want := range map[string]string{
		"Appointment?_include=Appointment:actor":               "Appointment Location/room Patient/ada Practitioner/doc",
		"Appointment?_include=Appointment:patient":             "Appointment Patient/ada",
		"Appointment?_include=Appointment:*":                   "Appointment Location/room Patient/ada Practitioner/doc Slot/s9",
		"Appointment?_include=Appointment:any":                 "Appointment Location/room Patient/ada Practitioner/doc Slot/s9",
		"Patient?_revinclude=Appointment:actor":                "Patient/ada Appointment",
		"Practitioner?_revinclude=Appointment:any":             "Practitioner/doc Appointment",
		"RelatedPerson?_revinclude=Appointment:actor":          "RelatedPerson/mum",
		"RelatedPerson?_revinclude=Appointment:*":              "RelatedPerson/mum",
		"Organization?_id=school&_revinclude=Appointment:any":  "Organization/school",
		"Patient?_has:Appointment:actor:_id=" + visit.ID:       "Patient/ada",
		"Practitioner?_has:Appointment:actor:_id=" + visit.ID:  "Practitioner/doc",
		"RelatedPerson?_has:Appointment:actor:_id=" + visit.ID: "",
		"RelatedPerson?_has:Appointment:any:_id=" + visit.ID:   "",
		"Organization?_has:Appointment:any:_id=" + visit.ID:    "",
		"Appointment?actor:RelatedPerson._id=mum":              "",
		"Appointment?actor:RelatedPerson.patient=ada":          "",
		"Appointment?actor._id=mum":                            "",
		"Appointment?_filter=actor._id%20eq%20mum":             "",
		"Appointment?actor:RelatedPerson=mum":                  "",
		"Appointment?actor=mum":                                "",
		"Appointment?any=Organization/school":                  "",
		"Appointment?actor:Patient.organization=school":        "",
		"Appointment?actor:Practitioner._id=doc":               "Appointment",
		"RelatedPerson/mum/Appointment":                        "",
		"Patient/ada/$everything":                              "Appointment Location/room Patient/ada Practitioner/doc RelatedPerson/mum Slot/s9",
	} {
		typ, query, _ := strings.Cut(text, "?")
		r := Request{Principal: ada, Interaction: SearchType, Type: typ, Query: query}
		switch typ {
		case "RelatedPerson/mum/Appointment":
			r.Type, r.Compartment, r.CompartmentID = "Appointment", "RelatedPerson", "mum"
		case "Patient/ada/$everything":
			r = Request{Principal: ada, Interaction: Operate, Operation: "everything", Type: "Patient", ID: "ada"}
		}
		var got []string
		for _, e := range do(t, w.Service, r).Bundle.Entries {
			got = append(got, strings.TrimSuffix(e.Version.Type+"/"+e.Version.ID, "/"+visit.ID))
		}
		if !sameSet(got, strings.Fields(want)) {
			t.Errorf("%s: %v, want %s", text, got, want)
		}
	}
}

// A visit of one patient alone may be with somebody who is no patient here: a relative, somebody contained, elsewhere, or known by an identifier. No
// question about them has an answer either, be it one that a client has defined; and questions about the visit itself have.
func TestAccess_asking_about_a_visit_of_one(t *testing.T) {
	t.Parallel()
	s, _ := clinic(t, func(_ *Options, so *storage.Options) { so.Unrestricted = false; so.PoolSize = 4 })
	w := &ward{s, t}
	put(t, s, `{"resourceType":"RelatedPerson","id":"mum","patient":{"reference":"Patient/ada"},"name":[{"family":"Mother"}]}`)
	put(t, s, `{"resourceType":"Organization","id":"school"}`)
	for h := 12; h < 14; h++ {
		put(t, s, fmt.Sprintf(`{"resourceType":"Slot","id":"s%d","schedule":{"reference":"Schedule/cal"},"status":"free","start":"2026-01-16T%02d:00:00Z","end":"2026-01-16T%02d:30:00Z"}`, h, h, h))
	}
	parameter := func(code, typ, expression string) {
		put(t, s, `{"resourceType":"SearchParameter","id":"`+code+`","url":"http://example.org/`+code+`","name":"`+code+`","status":"active","description":"x","code":"`+code+`","base":["Appointment"],"type":"`+typ+`","expression":"`+expression+`","target":["Patient","Organization","RelatedPerson","Practitioner"]}`)
	}
	parameter("any", "reference", "Appointment.descendants().where(reference.exists())")
	parameter("named", "string", "Appointment.descendants().ofType(string)")
	parameter("inside", "string", "Appointment.contained.name.family")
	parameter("whose", "token", "Appointment.descendants().ofType(Identifier)")
	parameter("shown", "string", "Appointment.participant.actor.display")
	book := func(slot, description, more string) string {
		return mustCreate(t, s, `{"resourceType":"Appointment","status":"booked","slot":[{"reference":"Slot/`+slot+`"}],"description":"`+description+`",
"participant":[{"actor":{"reference":"Patient/ada"},"status":"accepted"},{"actor":{"reference":"Practitioner/doc"},"status":"accepted"}`+more+`}`).ID
	}
	visits := map[string]string{
		book("s9", "plain", `]`): "alone",
		book("s10", "plain", `,{"actor":{"reference":"#third","display":"Cherry"},"status":"accepted","required":"optional"}],
"contained":[{"resourceType":"Patient","id":"third","name":[{"family":"Cherry"}],"identifier":[{"system":"urn:x","value":"third"}],"managingOrganization":{"reference":"Organization/school"}}]`): "contained",
		book("s11", "plain", `,{"actor":{"reference":"RelatedPerson/mum","display":"Mother"},"status":"accepted","required":"optional"}]`):                                  "relative",
		book("s12", "plain", `,{"actor":{"type":"Patient","identifier":{"system":"urn:x","value":"third"},"display":"Cherry"},"status":"accepted","required":"optional"}]`): "identified",
		book("s13", "plain", `,{"actor":{"reference":"http://elsewhere.example/fhir/Patient/third","display":"Cherry"},"status":"accepted","required":"optional"}]`):        "elsewhere",
	}
	ada := patientApp("ada", "patient/*.rs")
	for query, want := range map[string]string{
		"status=booked": "alone contained elsewhere identified relative", "named=plain": "alone", "_content=plain": "alone", "actor=Practitioner/doc": "alone contained elsewhere identified relative",
		"any=Practitioner/doc": "alone", "any=Patient/ada": "alone", "any=Organization/school": "", "any=RelatedPerson/mum": "", "any=http://elsewhere.example/fhir/Patient/third": "",
		"named=cherry": "", "named=mother": "", "inside=cherry": "", "whose=urn:x|third": "", "shown=cherry": "", "shown=mother": "", "shown:missing=false": "", "_content=cherry": "", "_text=cherry": "",
		"actor=RelatedPerson/mum": "", "actor=mum": "", "actor:identifier=urn:x|third": "", "actor:RelatedPerson.name=mother": "", "actor=http://elsewhere.example/fhir/Patient/third": "",
		"actor:Patient.organization=school": "", "actor:Patient.name=cherry": "", "_filter=named%20co%20cherry": "", "_filter=not%20(named%20co%20cherry)": "alone contained elsewhere identified relative",
		"any:missing=true": "", "whose:missing=false": "", "inside:missing=false": "", "_sort=named": "alone contained elsewhere identified relative",
	} {
		var got []string
		for _, e := range do(t, w.Service, Request{Principal: ada, Interaction: SearchType, Type: "Appointment", Query: query}).Bundle.Entries {
			got = append(got, visits[e.Version.ID])
		}
		if !sameSet(got, strings.Fields(want)) {
			t.Errorf("%s: %v, want %s", query, got, want)
		}
	}
	// Nor has one that is asked of visits beside other types, whichever is named first.
	for query, want := range map[string]string{
		"_content=cherry": "", "_text=cherry": "", "_content=plain": "alone", "_content=mother": "", "_filter=_content%20co%20cherry": "",
	} {
		for _, types := range []string{"", "_type=Appointment&", "_type=Appointment,Slot&", "_type=Slot,Appointment&", "_type=Slot,Appointment&_sort=-_lastUpdated,_id&"} {
			var got []string
			for _, e := range do(t, w.Service, Request{Principal: ada, Interaction: SearchSystem, Query: types + query}).Bundle.Entries {
				if e.Version.Type == "Appointment" {
					got = append(got, visits[e.Version.ID])
				}
			}
			if !sameSet(got, strings.Fields(want)) {
				t.Errorf("%s%s: %v, want %s", types, query, got, want)
			}
		}
	}
}
