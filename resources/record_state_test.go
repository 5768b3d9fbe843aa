package resources

import (
	"fmt"
	"testing"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/records"
	"kiln/resources/scheduling"
)

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
