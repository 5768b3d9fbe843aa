package resources

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/auth"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/resources/records"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// hospital is a service with two patients, their doctor, and a clock.
type hospital struct {
	*ward
	clock *kilntest.Clock
	doc   auth.Principal
	url   string // of the database
	n     int
}

func newHospital(t testing.TB) *hospital {
	clock := kilntest.NewClock()
	clock.Set(time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC))
	var url string
	s := newService(t, func(o *Options, so *storage.Options) {
		so.Unrestricted, so.PoolSize, url = false, 4, so.URL
		o.Now, so.Now = clock.Now, clock.Now
	})
	h := &hospital{ward: &ward{s, t}, clock: clock, url: url, doc: doctor("dora", "user/*.cruds")}
	for _, body := range []string{
		`{"resourceType":"Practitioner","id":"dora","name":[{"family":"Dora"}]}`,
		`{"resourceType":"Practitioner","id":"dirk","name":[{"family":"Dirk"}]}`,
		`{"resourceType":"Patient","id":"anna","name":[{"family":"Apple"}],"generalPractitioner":[{"reference":"Practitioner/dora"}]}`,
		`{"resourceType":"Patient","id":"bela","generalPractitioner":[{"reference":"Practitioner/dora"}]}`,
		`{"resourceType":"Patient","id":"cleo"}`,
		`{"resourceType":"Encounter","id":"ea","status":"in-progress","class":{"code":"AMB"},"subject":{"reference":"Patient/anna"}}`,
		`{"resourceType":"Encounter","id":"eb","status":"in-progress","class":{"code":"AMB"},"subject":{"reference":"Patient/bela"}}`,
		`{"resourceType":"Encounter","id":"ec","status":"in-progress","class":{"code":"AMB"},"subject":{"reference":"Patient/cleo"}}`,
	} {
		h.put(body)
	}
	return h
}

// policy changes the rules of access by a statement, as an administrator would.
func (h *hospital) policy(statement string) {
	h.t.Helper()
	conn, err := pgx.Connect(h.t.Context(), h.url)
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close(background)
	if _, err := conn.Exec(h.t.Context(), statement); err != nil {
		h.t.Fatal(err)
	}
	if err := h.store.RefreshParameters(h.t.Context()); err != nil { // what the watch does every two seconds
		h.t.Fatal(err)
	}
}

// bodyOf is a record of a patient in a state.
func bodyOf(typ string, state records.State, more string) string {
	subject, rest := "subject", ""
	status := fmt.Sprintf(`"status":%q`, state)
	coded := func(system string, live ...string) string {
		if state == records.EnteredInError {
			return fmt.Sprintf(`"verificationStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/%s-ver%s","code":"entered-in-error"}]}`, system,
				map[bool]string{true: "-status", false: "ification"}[system == "condition"])
		}
		if state == records.Unstated {
			return `"language":"en"`
		}
		return fmt.Sprintf(`"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/%s-clinical","code":%q}]}`, system, state)
	}
	switch typ {
	case "Encounter":
		rest = `,"class":{"code":"AMB"}`
	case "Condition":
		status, rest = coded("condition"), `,"code":{"text":"x"}`
	case "AllergyIntolerance":
		subject, status, rest = "patient", coded("allergyintolerance"), `,"code":{"text":"x"}`
	case "Observation", "DiagnosticReport", "Procedure":
		rest = `,"code":{"text":"x"}`
	case "MedicationRequest":
		rest = `,"intent":"order","medicationCodeableConcept":{"text":"x"}`
	case "ServiceRequest", "CarePlan":
		rest = `,"intent":"order"`
	case "Immunization":
		subject, rest = "patient", `,"vaccineCode":{"text":"x"},"occurrenceDateTime":"2026-01-01"`
	case "DocumentReference":
		rest = `,"content":[{"attachment":{"url":"http://example.org/x"}}]`
		switch state {
		case "current", "superseded", records.EnteredInError:
		default:
			status = fmt.Sprintf(`"status":"current","docStatus":%q`, state)
		}
	}
	return fmt.Sprintf(`{"resourceType":%q,%s,%q:{"reference":"Patient/anna"}%s%s}`, typ, status, subject, rest, more)
}

// change is a PUT of a record by somebody.
func (h *hospital) change(who auth.Principal, id, body string) error {
	n := parse(h.t, body)
	n.Set("id", fhir.Str(id))
	_, err := h.Do(h.t.Context(), Request{Principal: who, Interaction: Update, Type: n.ResourceType(), ID: id, Body: n})
	return err
}

func (h *hospital) create(who auth.Principal, body string) (*fhir.Node, error) {
	n := parse(h.t, body)
	resp, err := h.Do(h.t.Context(), Request{Principal: who, Interaction: Create, Type: n.ResourceType(), Body: n})
	if err != nil {
		return nil, err
	}
	return parse(h.t, string(resp.Version.Content)), nil
}

// begin puts a record into a state, as whoever runs the server.
func (h *hospital) begin(typ string, state records.State) (id string) {
	h.n++
	id = fmt.Sprint("r", h.n)
	h.put(strings.Replace(bodyOf(typ, state, ""), "{", fmt.Sprintf(`{"id":%q,`, id), 1))
	return id
}

func (h *hospital) wantCode(err error, kind fhir.Kind, code string) {
	h.t.Helper()
	if err == nil || fhir.KindOf(err) != kind || codeOf(err) != code {
		h.t.Errorf("got %s (%s), want kind %d %s", describe(err), codeOf(err), kind, code)
	}
}

// reasoned is a body with every reason that a move may ask for.
func reasoned(typ string, to records.State) string {
	life, more := lifeOf(typ), ""
	if len(life.Fixed) > 0 {
		more += `,"extension":[{"url":"https://kiln.example/fhir/StructureDefinition/change-reason","valueString":"a slip of the pen"}]`
	}
	if life.Reason != "" {
		more += `,"` + life.Reason + `":{"text":"why"}`
	}
	return bodyOf(typ, to, more)
}

func lifeOf(typ string) records.Lifecycle {
	list := records.Table()
	return list[slices.IndexFunc(list, func(l records.Lifecycle) bool { return l.Type == typ })]
}

// TestRecord_every_change_of_state_by_each_role goes through the whole table: PUT from every state to every other one, by
// a practitioner, a backend service, an administrator and the patient. Administrators and patients do not write records
// at all: that is the policy of roles.
func TestRecord_every_change_of_state_by_each_role(t *testing.T) {
	t.Parallel()
	h := newHospital(t)
	who := map[scheduling.Roles]auth.Principal{scheduling.Practitioner: h.doc, scheduling.Server: backend("system/*.cruds"),
		scheduling.Admin: admin("user/*.cruds"), scheduling.Patient: patientApp("anna", "patient/*.cruds")}
	tried := 0
	for _, l := range records.Table() {
		for _, from := range l.States {
			for _, to := range l.States {
				for role, p := range who {
					if from == to || l.Type == "AllergyIntolerance" && (from == records.Unstated || to == records.Unstated) {
						continue // ait-1: an allergy always says
					}
					if (role == scheduling.Admin || role == scheduling.Patient) && from != l.States[0] {
						continue
					}
					tried++
					id := h.begin(l.Type, from)
					err := h.change(p, id, reasoned(l.Type, to))
					_, _, known, ok := l.Find(from, to, role)
					switch name := fmt.Sprintf("%s %s to %s by %s", l.Type, from, to, role); {
					case role == scheduling.Admin || role == scheduling.Patient:
						if fhir.KindOf(err) != fhir.Forbidden {
							t.Errorf("%s: %s", name, describe(err))
						}
					case ok != (err == nil):
						t.Errorf("%s: legal %t, but %s", name, ok, describe(err))
					case !ok && known && codeOf(err) != "not-your-step", !ok && !known && (codeOf(err) != "illegal-transition" || fhir.KindOf(err) != fhir.Conflict):
						t.Errorf("%s: refused with %s %s", name, codeOf(err), describe(err))
					}
				}
			}
		}
	}
	if tried < 900 {
		t.Errorf("only %d changes", tried)
	}
}

// TestRecord_creation_in_any_state: what has been elsewhere can begin anywhere.
func TestRecord_creation_in_any_state(t *testing.T) {
	t.Parallel()
	h := newHospital(t)
	for _, l := range records.Table() {
		for _, state := range l.States {
			if l.Type == "AllergyIntolerance" && state == records.Unstated {
				continue
			}
			for _, p := range []auth.Principal{h.doc, backend("system/*.cruds"), auth.Operator("test")} {
				_, err := h.create(p, bodyOf(l.Type, state, ""))
				if state == records.Unstated && p.User != "" { // con-3
					h.wantCode(err, fhir.Forbidden, "not-your-step")
				} else if err != nil {
					t.Errorf("%s %s: %s", l.Type, state, describe(err))
				}
			}
		}
	}
}

// TestRecord_retention: nobody deletes what is signed or was retracted.
func TestRecord_retention(t *testing.T) {
	t.Parallel()
	h := newHospital(t)
	for _, l := range records.Table() {
		for _, state := range l.States {
			if l.Type == "AllergyIntolerance" && state == records.Unstated {
				continue
			}
			id := h.begin(l.Type, state)
			kept := l.IsSigned(state) || state == records.EnteredInError
			for _, p := range []auth.Principal{backend("system/*.cruds"), auth.Operator("test")} {
				_, err := h.Do(t.Context(), Request{Principal: p, Interaction: Delete, Type: l.Type, ID: id})
				if kept {
					h.wantCode(err, fhir.MethodNotAllowed, "retention")
				} else if err != nil {
					t.Errorf("%s %s: %s", l.Type, state, describe(err))
				}
			}
			if kept {
				_, err := h.Do(t.Context(), Request{Interaction: Transaction, Body: parse(t, transactionOf(entryOf("", "DELETE", l.Type+"/"+id, "")))})
				h.wantCode(err, fhir.MethodNotAllowed, "retention")
			}
		}
	}
	_, err := h.Do(t.Context(), Request{Interaction: Delete, Type: "Observation", Query: "_id=" + h.begin("Observation", "final")})
	h.wantCode(err, fhir.MethodNotAllowed, "retention")
}

func TestRecord_rules(t *testing.T) {
	t.Parallel()
	h := newHospital(t)
	reason := func(text string) string {
		return `,"extension":[{"url":"https://kiln.example/fhir/StructureDefinition/change-reason","valueString":"` + text + `"}]`
	}
	value := `,"valueString":"y"`
	t.Run("final_content_needs_an_amendment_and_a_reason", func(t *testing.T) {
		id := h.begin("Observation", "final")
		h.wantCode(h.change(h.doc, id, bodyOf("Observation", "final", value)), fhir.Conflict, "illegal-transition")
		h.wantCode(h.change(h.doc, id, bodyOf("Observation", "final", value+reason("x"))), fhir.Conflict, "illegal-transition")
		h.wantCode(h.change(h.doc, id, bodyOf("Observation", "amended", value)), fhir.BusinessRule, "change-reason")
		h.wantCode(h.change(h.doc, id, bodyOf("Observation", "amended", value+reason("  "))), fhir.BusinessRule, "change-reason")
		if err := h.change(h.doc, id, bodyOf("Observation", "amended", value+reason("read the wrong line"))); err != nil {
			t.Fatal(describe(err))
		}
		h.wantCode(h.change(h.doc, id, bodyOf("Observation", "amended", `,"valueString":"z"`+reason("read the wrong line"))), fhir.BusinessRule, "change-reason")
		if err := h.change(h.doc, id, bodyOf("Observation", "amended", `,"valueString":"z"`+reason("and once more"))); err != nil {
			t.Fatal(describe(err))
		}
		if got := h.found(h.doc, "Provenance", "target=Observation/"+id); len(strings.Fields(got)) != 2 {
			t.Errorf("Provenances: %q", got)
		}
	})
	t.Run("patches_meet_the_same_rules", func(t *testing.T) {
		id := h.begin("Observation", "final")
		_, err := h.Do(t.Context(), Request{Principal: h.doc, Interaction: Patch, Type: "Observation", ID: id,
			JSONPatch: []byte(`[{"op":"replace","path":"/code/text","value":"another"}]`)})
		h.wantCode(err, fhir.Conflict, "illegal-transition")
		_, err = h.Do(t.Context(), Request{Interaction: Transaction, Principal: h.doc, Body: parse(t, transactionOf(entryOf("", "PUT", "Observation/"+id,
			strings.Replace(bodyOf("Observation", "preliminary", ""), "{", `{"id":"`+id+`",`, 1))))})
		h.wantCode(err, fhir.Conflict, "illegal-transition")
	})
	t.Run("tags_of_a_signed_record_change", func(t *testing.T) {
		id := h.begin("Observation", "final")
		if err := h.change(h.doc, id, bodyOf("Observation", "final", `,"meta":{"tag":[{"system":"urn:x","code":"seen"}]}`)); err != nil {
			t.Error(describe(err))
		}
	})
	t.Run("what_is_superseded_keeps_its_content", func(t *testing.T) {
		id := h.begin("DocumentReference", "final")
		h.wantCode(h.change(h.doc, id, bodyOf("DocumentReference", "superseded", `,"description":"y"`)), fhir.Conflict, "illegal-transition")
	})
	t.Run("retracted_is_for_good", func(t *testing.T) {
		id := h.begin("Observation", records.EnteredInError)
		h.wantCode(h.change(h.doc, id, bodyOf("Observation", records.EnteredInError, value)), fhir.Conflict, "illegal-transition")
		h.wantCode(h.change(auth.Operator("test"), id, bodyOf("Observation", "final", "")), fhir.Conflict, "illegal-transition")
	})
	t.Run("the_message_names_from_to_and_what_is_allowed", func(t *testing.T) {
		err := h.change(h.doc, h.begin("Encounter", "finished"), bodyOf("Encounter", "in-progress", ""))
		if e, _ := err.(*fhir.Error); e == nil || !strings.Contains(e.Error(), "finished") || !strings.Contains(e.Error(), "in-progress") || !strings.Contains(e.Error(), "entered-in-error") {
			t.Error(describe(err))
		}
	})
	t.Run("stopping_needs_a_status_reason", func(t *testing.T) {
		id := h.begin("MedicationRequest", "active")
		h.wantCode(h.change(h.doc, id, bodyOf("MedicationRequest", "stopped", "")), fhir.BusinessRule, "reason-required")
	})
	t.Run("the_subject_never_changes", func(t *testing.T) {
		for _, typ := range []string{"Observation", "Condition", "Encounter", "AllergyIntolerance", "MedicationRequest"} {
			state := lifeOf(typ).States[len(lifeOf(typ).States)-2]
			if typ == "Observation" {
				state = "preliminary"
			}
			id := h.begin(typ, state)
			moved := strings.Replace(bodyOf(typ, state, ""), "Patient/anna", "Patient/bela", 1)
			h.wantCode(h.change(h.doc, id, moved), fhir.BusinessRule, "subject-fixed")
			h.wantCode(h.change(auth.Operator("test"), id, moved), fhir.BusinessRule, "subject-fixed")
		}
	})
	t.Run("one_patient_along_the_chain", func(t *testing.T) {
		in := func(e string) string {
			return bodyOf("Observation", "final", `,"encounter":{"reference":"Encounter/`+e+`"}`)
		}
		if _, err := h.create(h.doc, in("ea")); err != nil {
			t.Fatal(describe(err))
		}
		_, err := h.create(h.doc, in("eb"))
		h.wantCode(err, fhir.BusinessRule, "subject-mismatch")
		_, operators := h.create(auth.Operator("test"), in("eb"))
		h.wantCode(operators, fhir.BusinessRule, "subject-mismatch")
		if _, err := h.create(auth.Operator("test"), in("later")); err != nil {
			t.Error(describe(err))
		}
		// What is hidden and what is missing look the same.
		_, hidden := h.create(h.doc, in("ec"))
		_, missing := h.create(h.doc, in("no"))
		h.wantCode(hidden, fhir.BusinessRule, "subject-mismatch")
		if strings.Replace(hidden.Error(), "Encounter/ec", "Encounter/no", 1) != missing.Error() {
			t.Errorf("hidden: %s; missing: %s", hidden, missing)
		}
		entries := transactionOf(
			entryOf("urn:uuid:a", "POST", "Observation", strings.Replace(bodyOf("Observation", "final", ""), "anna", "bela", 1)),
			entryOf("", "POST", "DiagnosticReport", bodyOf("DiagnosticReport", "final", `,"result":[{"reference":"urn:uuid:a"}]`)))
		_, err = h.Do(t.Context(), Request{Interaction: Transaction, Principal: h.doc, Body: parse(t, entries)})
		h.wantCode(err, fhir.BusinessRule, "subject-mismatch")
		if e := err.(*fhir.Error); e.Issues[0].Expression[0] != "Bundle.entry[1].resource.result" {
			t.Errorf("at %v", e.Issues[0].Expression)
		}
	})
	t.Run("imports_by_copy_meet_the_chain", func(t *testing.T) {
		var entries []string
		for i := range minBulk + 4 {
			e := "ea"
			if i == minBulk {
				e = "eb"
			}
			entries = append(entries, entryOf("", "POST", "Observation", bodyOf("Observation", "final", `,"encounter":{"reference":"Encounter/`+e+`"}`)))
		}
		_, err := h.Do(t.Context(), Request{Interaction: Transaction, Body: parse(t, transactionOf(entries...))})
		h.wantCode(err, fhir.BusinessRule, "subject-mismatch")
		if e, _ := err.(*fhir.Error); e != nil && e.Issues[0].Expression[0] != fmt.Sprintf("Bundle.entry[%d].resource.encounter", minBulk) {
			t.Errorf("at %v", e.Issues[0].Expression)
		}
	})
	t.Run("authors_default_to_the_caller", func(t *testing.T) {
		for typ, path := range map[string][]string{"Observation": {"performer"}, "Condition": {"recorder"}, "MedicationRequest": {"requester"}, "ServiceRequest": {"requester"},
			"CarePlan": {"author"}, "Procedure": {"recorder"}, "Immunization": {"performer", "actor"}, "AllergyIntolerance": {"recorder"},
			"DiagnosticReport": {"performer"}, "DocumentReference": {"author"}, "Encounter": {"participant", "individual"}} {
			n, err := h.create(h.doc, bodyOf(typ, lifeOf(typ).States[len(lifeOf(typ).States)-2], ""))
			if err != nil {
				t.Error(describe(err))
				continue
			}
			if got := n.At(append(path, "reference")...); !got.IsString("Practitioner/dora") {
				t.Errorf("%s", n.JSON())
			}
			if at := lifeOf(typ).Recorded; at != "" && n.GetText(at) == "" {
				t.Errorf("%s has no %s", typ, at)
			}
		}
		n, err := h.create(auth.Operator("import"), bodyOf("Observation", "final", ""))
		if err != nil || n.Get("performer") != nil || n.Get("issued") != nil {
			t.Errorf("an import was changed: %s %s", n.JSON(), describe(err))
		}
	})
	t.Run("writing_as_another_is_refused", func(t *testing.T) {
		_, err := h.create(h.doc, bodyOf("Condition", "active", `,"recorder":{"reference":"Practitioner/dirk"}`))
		h.wantCode(err, fhir.BusinessRule, "not-the-author")
		_, err = h.create(h.doc, bodyOf("Observation", "final", `,"performer":[{"reference":"Practitioner/dirk"}]`))
		h.wantCode(err, fhir.BusinessRule, "not-the-author")
		if _, err := h.create(h.doc, bodyOf("Observation", "final", `,"performer":[{"reference":"Practitioner/dirk"},{"reference":"Practitioner/dora"}]`)); err != nil {
			t.Error(describe(err))
		}
		h.put(`{"resourceType":"PractitionerRole","id":"dora-role","active":true,"practitioner":{"reference":"Practitioner/dora"}}`)
		if _, err := h.create(h.doc, bodyOf("Observation", "final", `,"performer":[{"reference":"PractitionerRole/dora-role"}]`)); err != nil {
			t.Error(describe(err))
		}
		id := h.begin("Condition", "active")
		h.wantCode(h.change(h.doc, id, bodyOf("Condition", "active", `,"recorder":{"reference":"Practitioner/dirk"}`)), fhir.BusinessRule, "not-the-author")
	})
	t.Run("a_provenance_says_on_behalf_of_whom", func(t *testing.T) {
		post := func(who, behalf, target string) error {
			_, err := h.Do(t.Context(), Request{Interaction: Transaction, Principal: h.doc, Body: parse(t, transactionOf(
				entryOf("urn:uuid:c", "POST", "Condition", bodyOf("Condition", "active", `,"recorder":{"reference":"Practitioner/dirk"}`)),
				entryOf("urn:uuid:d", "POST", "Condition", bodyOf("Condition", "active", "")),
				entryOf("", "POST", "Provenance", fmt.Sprintf(`{"resourceType":"Provenance","recorded":"2026-03-02T10:00:00Z","target":[{"reference":%q}],
"agent":[{"who":{"reference":%q},"onBehalfOf":{"reference":%q}}]}`, target, who, behalf))))})
			return err
		}
		if err := post("Practitioner/dora", "Practitioner/dirk", "urn:uuid:c"); err != nil {
			t.Error(describe(err))
		}
		_, err := h.Do(t.Context(), Request{Interaction: Transaction, Principal: h.doc, Body: parse(t, transactionOf( // of a type that sorts behind it
			entryOf("urn:uuid:s", "POST", "ServiceRequest", bodyOf("ServiceRequest", "active", `,"requester":{"reference":"Practitioner/dirk"}`)),
			entryOf("", "POST", "Provenance", `{"resourceType":"Provenance","recorded":"2026-03-02T10:00:00Z","target":[{"reference":"urn:uuid:s"}],
"agent":[{"who":{"reference":"Practitioner/dora"},"onBehalfOf":{"reference":"Practitioner/dirk"}}]}`)))})
		if err != nil {
			t.Error(describe(err))
		}
		h.wantCode(post("Practitioner/dora", "Practitioner/dora", "urn:uuid:c"), fhir.BusinessRule, "not-the-author")
		h.wantCode(post("Practitioner/dirk", "Practitioner/dirk", "urn:uuid:c"), fhir.BusinessRule, "not-the-author")
		h.wantCode(post("Practitioner/dora", "Practitioner/dirk", "urn:uuid:d"), fhir.BusinessRule, "not-the-author")
	})
	t.Run("the_header_says_on_behalf_of_whom_and_why", func(t *testing.T) {
		header := func(more string) *fhir.Node {
			return parse(t, `{"resourceType":"Provenance","recorded":"2026-03-02T10:00:00Z","agent":[{"who":{"reference":"Practitioner/dora"}`+more)
		}
		write := func(r Request, body string) error {
			r.Principal, r.Body = h.doc, parse(t, body)
			r.Type = r.Body.ResourceType()
			_, err := h.Do(t.Context(), r)
			return err
		}
		other := bodyOf("Condition", "active", `,"recorder":{"reference":"Practitioner/dirk"}`)
		h.wantCode(write(Request{Interaction: Create, Provenance: header(`}]}`)}, other), fhir.BusinessRule, "not-the-author")
		if err := write(Request{Interaction: Create, Provenance: header(`,"onBehalfOf":{"reference":"Practitioner/dirk"}}]}`)}, other); err != nil {
			t.Error(describe(err))
		}
		id := h.begin("Observation", "final")
		amended := strings.Replace(bodyOf("Observation", "amended", value), "{", `{"id":"`+id+`",`, 1)
		h.wantCode(write(Request{Interaction: Update, ID: id, Provenance: header(`}]}`)}, amended), fhir.BusinessRule, "change-reason")
		if err := write(Request{Interaction: Update, ID: id, Provenance: header(`}],"reason":[{"text":"the wrong line"}]}`)}, amended); err != nil {
			t.Error(describe(err))
		}
	})
	t.Run("a_provenance_gives_the_reason_for_a_change", func(t *testing.T) {
		id := h.begin("Observation", "final")
		change := func(reason string) error {
			_, err := h.Do(t.Context(), Request{Interaction: Transaction, Principal: h.doc, Body: parse(t, transactionOf(
				entryOf("", "PUT", "Observation/"+id, strings.Replace(bodyOf("Observation", "amended", value), "{", `{"id":"`+id+`",`, 1)),
				entryOf("", "POST", "Provenance", `{"resourceType":"Provenance","recorded":"2026-03-02T10:00:00Z","target":[{"reference":"Observation/`+id+`"}],
"agent":[{"who":{"reference":"Practitioner/dora"}}]`+reason+`}`)))})
			return err
		}
		h.wantCode(change(""), fhir.BusinessRule, "change-reason")
		if err := change(`,"reason":[{"text":"the wrong line"}]`); err != nil {
			t.Error(describe(err))
		}
	})
	t.Run("what_patients_report_is_theirs_and_unconfirmed", func(t *testing.T) {
		anna := patientApp("anna", "patient/*.cruds")
		n, err := h.create(anna, bodyOf("Observation", "final", ""))
		if err != nil || !n.At("performer", "reference").IsString("Patient/anna") {
			t.Errorf("%s", describe(err))
		}
		_, err = h.create(anna, bodyOf("Observation", "final", `,"performer":[{"reference":"Practitioner/dora"}]`))
		h.wantCode(err, fhir.BusinessRule, "not-the-author")
		_, err = h.create(anna, bodyOf("Observation", "amended", ""))
		h.wantCode(err, fhir.Forbidden, "not-your-step")
		n, err = h.create(anna, bodyOf("AllergyIntolerance", "active", ""))
		if err != nil || !n.At("verificationStatus", "coding", "code").IsString("unconfirmed") {
			t.Errorf("%s", describe(err))
		}
		for _, codes := range []string{`"code":"confirmed"}`, `"code":"unconfirmed"},{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-verification","code":"confirmed"}`} {
			_, err = h.create(anna, bodyOf("AllergyIntolerance", "active", `,"verificationStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-verification",`+codes+`]}`))
			h.wantCode(err, fhir.BusinessRule, "unconfirmed-first")
		}
	})
	t.Run("late_entry_keeps_both_times", func(t *testing.T) {
		n, err := h.create(h.doc, bodyOf("Condition", "active", `,"onsetDateTime":"2020-05-01"`))
		if err != nil || n.GetText("onsetDateTime") != "2020-05-01" || !strings.HasPrefix(n.GetText("recordedDate"), "2026-03-02") {
			t.Fatalf("%s %s", n.JSON(), describe(err))
		}
		_, err = h.create(h.doc, bodyOf("Condition", "active", `,"recordedDate":"2026-03-03T10:00:00Z"`))
		h.wantCode(err, fhir.BusinessRule, "recorded-in-future")
		if _, err = h.create(h.doc, bodyOf("Condition", "active", `,"recordedDate":"2026-03-02"`)); err != nil {
			t.Error(describe(err))
		}
		h.wantCode(h.change(h.doc, n.ID(), bodyOf("Condition", "active", `,"recordedDate":"2020-05-01"`)), fhir.BusinessRule, "recorded-fixed")
	})
	t.Run("only_a_prescriber_makes_it_active", func(t *testing.T) {
		id := h.begin("MedicationRequest", "draft")
		h.wantCode(h.change(backend("system/*.cruds"), id, bodyOf("MedicationRequest", "active", "")), fhir.Forbidden, "not-your-step")
		nurse := `{"resourceType":"PractitionerRole","id":"rn","active":true,"practitioner":{"reference":"Practitioner/dora"},"code":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/practitioner-role","code":"%s"}]}]}`
		h.put(fmt.Sprintf(nurse, "nurse"))
		h.wantCode(h.change(h.doc, id, bodyOf("MedicationRequest", "active", "")), fhir.Forbidden, "not-a-prescriber")
		_, err := h.create(h.doc, bodyOf("MedicationRequest", "active", ""))
		h.wantCode(err, fhir.Forbidden, "not-a-prescriber")
		h.put(fmt.Sprintf(nurse, "doctor"))
		if err := h.change(h.doc, id, bodyOf("MedicationRequest", "active", "")); err != nil {
			t.Error(describe(err))
		}
	})
	t.Run("a_diagnosis_is_linked_from_its_visit", func(t *testing.T) {
		n, err := h.create(h.doc, bodyOf("Condition", "active", `,"encounter":{"reference":"Encounter/ea"},"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-category","code":"encounter-diagnosis"}]}]`))
		if err != nil {
			t.Fatal(describe(err))
		}
		if e := read(t, h.Service, "Encounter", "ea"); !e.At("diagnosis", "condition", "reference").IsString("Condition/" + n.ID()) {
			t.Errorf("%s", e.JSON())
		}
	})
}

// TestEncounter_from_an_appointment is row 14 of the transition table, from the visit's side.
func TestEncounter_from_an_appointment(t *testing.T) {
	t.Parallel()
	h := newHospital(t)
	visit := func(id, patient string) {
		h.put(fmt.Sprintf(`{"resourceType":"Appointment","id":%q,"status":"booked","serviceType":[{"text":"check-up"}],"start":"2026-03-02T1%d:00:00Z","end":"2026-03-02T1%[2]d:30:00Z",
"participant":[{"actor":{"reference":"Patient/%s"},"status":"accepted"},{"actor":{"reference":"Practitioner/dora"},"status":"accepted"}]}`, id, len(id), patient))
	}
	status := func(id string) string { return read(t, h.Service, "Appointment", id).GetText("status") }
	begin := func(state, appointment string) string {
		return fmt.Sprintf(`{"resourceType":"Encounter","status":%q,"class":{"code":"AMB"},"appointment":[{"reference":"Appointment/%s"}]}`, state, appointment)
	}
	visit("a", "anna")
	n, err := h.create(h.doc, begin("planned", "a"))
	if err != nil {
		t.Fatal(describe(err))
	}
	if !n.At("subject", "reference").IsString("Patient/anna") || !n.At("participant", "individual", "reference").IsString("Practitioner/dora") ||
		!n.At("serviceType", "text").IsString("check-up") || status("a") != "booked" {
		t.Errorf("%s, the appointment is %s", n.JSON(), status("a"))
	}
	n.Set("status", fhir.Str("in-progress"))
	if err := h.change(h.doc, n.ID(), string(n.JSON())); err != nil || status("a") != "fulfilled" {
		t.Errorf("%s, the appointment is %s", describe(err), status("a"))
	}
	t.Run("who_arrives_for_the_appointment_has_arrived_for_the_visit", func(t *testing.T) { // row 12
		visit("eeeee", "anna")
		n, err := h.create(h.doc, begin("planned", "eeeee"))
		if err != nil {
			t.Fatal(describe(err))
		}
		_, err = h.Do(t.Context(), Request{Principal: patientApp("anna", "patient/*.cruds"), Interaction: Patch, Type: "Appointment", ID: "eeeee",
			JSONPatch: []byte(`[{"op":"replace","path":"/status","value":"arrived"}]`)})
		if got := read(t, h.Service, "Encounter", n.ID()).GetText("status"); err != nil || got != "arrived" {
			t.Errorf("%s: the visit is %s", describe(err), got)
		}
	})
	t.Run("never_without_the_matching_patient", func(t *testing.T) {
		visit("bb", "bela")
		wrong := strings.Replace(begin("in-progress", "bb"), "{", `{"subject":{"reference":"Patient/anna"},`, 1)
		for _, p := range []auth.Principal{h.doc, auth.Operator("test"), backend("system/*.cruds")} {
			_, err := h.create(p, wrong)
			h.wantCode(err, fhir.BusinessRule, "subject-mismatch")
		}
		if status("bb") != "booked" {
			t.Errorf("the appointment is %s", status("bb"))
		}
	})
	t.Run("a_cancelled_appointment_begins_no_visit", func(t *testing.T) {
		visit("ccc", "anna")
		if err := patchStatus(t, h.Service, "ccc", "cancelled"); err != nil {
			t.Fatal(describe(err))
		}
		_, err := h.create(h.doc, begin("in-progress", "ccc"))
		h.wantCode(err, fhir.Conflict, "illegal-transition")
	})
	t.Run("a_walk_in_needs_no_appointment", func(t *testing.T) {
		if _, err := h.create(h.doc, bodyOf("Encounter", "in-progress", "")); err != nil {
			t.Error(describe(err))
		}
	})
	t.Run("visit_and_appointment_in_one_transaction", func(t *testing.T) {
		visit("dddd", "anna")
		_, err := h.Do(t.Context(), Request{Interaction: Transaction, Principal: h.doc, Body: parse(t, transactionOf(
			entryOf("", "POST", "Encounter", begin("in-progress", "dddd")),
			entryOf("", "PATCH", "Appointment/dddd", `{"resourceType":"Binary","contentType":"application/json-patch+json","data":"W3sib3AiOiJyZXBsYWNlIiwicGF0aCI6Ii9zdGF0dXMiLCJ2YWx1ZSI6ImZ1bGZpbGxlZCJ9XQ=="}`)))})
		if err != nil || status("dddd") != "fulfilled" {
			t.Errorf("%s, the appointment is %s", describe(err), status("dddd"))
		}
	})
	agrees(t, h.Service)
}
