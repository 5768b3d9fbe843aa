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
