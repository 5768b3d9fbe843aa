package records_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/conformance"
	"kiln/resources/records"
	"kiln/resources/scheduling"
)

// legal is the table once more, written by hand as "type: from > to to", so that a slip in the code's table shows. All
// these are for practitioners, administrators and backend services; what is not is marked with the roles in front.
const legal = `
Encounter: planned > arrived triaged in-progress cancelled entered-in-error
Encounter: arrived > triaged in-progress cancelled entered-in-error
Encounter: triaged > in-progress cancelled entered-in-error
Encounter: in-progress > onleave finished entered-in-error
Encounter: onleave > in-progress finished entered-in-error
Encounter: finished > entered-in-error
Encounter: cancelled > entered-in-error
Encounter: unknown > planned arrived triaged in-progress onleave finished cancelled entered-in-error
Condition: active > active recurrence relapse inactive remission resolved entered-in-error
Condition: recurrence > active recurrence relapse inactive remission resolved entered-in-error
Condition: relapse > active recurrence relapse inactive remission resolved entered-in-error
Condition: inactive > active recurrence relapse inactive remission resolved entered-in-error
Condition: remission > active recurrence relapse inactive remission resolved entered-in-error
Condition: resolved > active recurrence relapse inactive remission resolved entered-in-error
Condition: unstated > active recurrence relapse inactive remission resolved entered-in-error
AllergyIntolerance: active > active inactive resolved entered-in-error
AllergyIntolerance: inactive > active inactive resolved entered-in-error
AllergyIntolerance: resolved > active inactive resolved entered-in-error
AllergyIntolerance: unstated > active inactive resolved entered-in-error
S Condition: - > unstated
P AllergyIntolerance: - > active inactive resolved
Observation: registered > preliminary final cancelled entered-in-error
Observation: preliminary > final cancelled entered-in-error
Observation: final > amended corrected entered-in-error
Observation: amended > amended corrected entered-in-error
Observation: corrected > amended corrected entered-in-error
Observation: cancelled > entered-in-error
Observation: unknown > registered preliminary final amended corrected cancelled entered-in-error
P Observation: - > preliminary final
DiagnosticReport: registered > partial preliminary final cancelled entered-in-error
DiagnosticReport: partial > preliminary final cancelled entered-in-error
DiagnosticReport: preliminary > final cancelled entered-in-error
DiagnosticReport: final > amended corrected appended entered-in-error
DiagnosticReport: amended > amended corrected appended entered-in-error
DiagnosticReport: corrected > amended corrected appended entered-in-error
DiagnosticReport: appended > amended corrected appended entered-in-error
DiagnosticReport: cancelled > entered-in-error
DiagnosticReport: unknown > registered partial preliminary final amended corrected appended cancelled entered-in-error
MedicationRequest: draft > cancelled entered-in-error
D MedicationRequest: draft on-hold > active
DS MedicationRequest: - > active
DAS MedicationRequest: - > draft on-hold completed stopped cancelled entered-in-error unknown
MedicationRequest: active > on-hold completed stopped cancelled entered-in-error
MedicationRequest: on-hold > completed stopped cancelled entered-in-error
MedicationRequest: completed stopped cancelled > entered-in-error
MedicationRequest: unknown > completed stopped cancelled entered-in-error
Procedure: preparation > in-progress not-done completed entered-in-error
Procedure: in-progress > on-hold stopped completed entered-in-error
Procedure: on-hold > in-progress stopped completed entered-in-error
Procedure: not-done stopped completed > entered-in-error
Procedure: unknown > preparation in-progress on-hold not-done stopped completed entered-in-error
ServiceRequest: draft > active revoked entered-in-error
ServiceRequest: active > on-hold revoked completed entered-in-error
ServiceRequest: on-hold > active revoked completed entered-in-error
ServiceRequest: revoked completed > entered-in-error
ServiceRequest: unknown > draft active on-hold revoked completed entered-in-error
CarePlan: draft > active revoked entered-in-error
CarePlan: active > on-hold revoked completed entered-in-error
CarePlan: on-hold > active revoked completed entered-in-error
CarePlan: revoked completed > entered-in-error
CarePlan: unknown > draft active on-hold revoked completed entered-in-error
Immunization: completed not-done > entered-in-error
DocumentReference: current > preliminary final superseded entered-in-error
DocumentReference: preliminary > final superseded entered-in-error
DocumentReference: final > amended superseded entered-in-error
DocumentReference: amended > amended superseded entered-in-error
DocumentReference: superseded > entered-in-error
`

var roles = map[rune]scheduling.Roles{'P': scheduling.Patient, 'D': scheduling.Practitioner, 'A': scheduling.Admin, 'S': scheduling.Server}

// TestFind_every_type_state_and_role tries all combinations: exactly those of the list are legal, and staff create records
// in any state.
func TestFind_every_type_state_and_role(t *testing.T) {
	want := map[string]bool{}
	for line := range strings.Lines(strings.TrimSpace(legal)) {
		head, to, _ := strings.Cut(strings.TrimSpace(line), " > ")
		name, from, _ := strings.Cut(head, ": ")
		who := "DAS"
		if before, after, found := strings.Cut(name, " "); found {
			who, name = before, after
		}
		for _, f := range strings.Fields(from) {
			for _, x := range strings.Fields(to) {
				for _, r := range who {
					want[fmt.Sprint(name, " ", strings.TrimPrefix(f, "-"), ">", x, " ", roles[r])] = true
				}
			}
		}
	}
	tried := 0
	for _, l := range records.Table() {
		if l.Type != "MedicationRequest" {
			for _, to := range l.States {
				if l.Type == "Condition" && to == records.Unstated {
					continue
				}
				for _, r := range "DAS" {
					want[fmt.Sprint(l.Type, " >", to, " ", roles[r])] = true
				}
			}
		}
		for _, from := range append([]records.State{records.None}, l.States...) {
			for _, to := range l.States {
				for _, who := range roles {
					tried++
					name := fmt.Sprint(l.Type, " ", from, ">", to, " ", who)
					if _, _, _, ok := l.Find(from, to, who); ok != want[name] {
						t.Errorf("%s: legal %t, want %t", name, ok, want[name])
					}
					delete(want, name)
				}
			}
		}
	}
	for name := range want {
		t.Errorf("%s: no such combination", name)
	}
	if tried < 2000 {
		t.Fatalf("only %d combinations", tried)
	}
}

func TestFind_says_what_is_allowed_instead(t *testing.T) {
	for _, l := range records.Table() {
		if l.Type != "Observation" {
			continue
		}
		_, allowed, known, ok := l.Find("final", "preliminary", scheduling.Practitioner)
		if ok || known || fmt.Sprint(allowed) != "[amended corrected entered-in-error]" {
			t.Fatalf("%v %t %t", allowed, known, ok)
		}
		if _, allowed, known, ok = l.Find(records.None, "amended", scheduling.Patient); ok || !known || fmt.Sprint(allowed) != "[preliminary final]" {
			t.Fatalf("%v %t %t", allowed, known, ok)
		}
	}
}

// TestTable_holds_the_value_sets_of_R4 compares the states with the codes that the definitions require.
func TestTable_holds_the_value_sets_of_R4(t *testing.T) {
	r4, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	sets := map[string][]string{"Encounter": {"encounter-status"}, "Observation": {"observation-status"}, "DiagnosticReport": {"diagnostic-report-status"},
		"MedicationRequest": {"medicationrequest-status"}, "Procedure": {"event-status"}, "ServiceRequest": {"request-status"}, "CarePlan": {"request-status"},
		"Immunization": {"immunization-status"}, "Condition": {"condition-clinical"}, "AllergyIntolerance": {"allergyintolerance-clinical"},
		"DocumentReference": {"composition-status", "document-reference-status"}}
	for _, l := range records.Table() {
		var codes []string
		for _, name := range sets[l.Type] {
			set := r4.BindingCodes("http://hl7.org/fhir/ValueSet/" + name)
			if set == nil {
				t.Fatalf("%s: no value set %s", l.Type, name)
			}
			codes = append(codes, set.Codes()...)
		}
		for _, s := range l.States {
			if s != records.Unstated && s != records.EnteredInError && !slices.Contains(codes, string(s)) {
				t.Errorf("%s: %q is no code of R4", l.Type, s)
			}
		}
		for _, c := range codes {
			if !slices.Contains(l.States, records.State(c)) {
				t.Errorf("%s: the table lacks %q", l.Type, c)
			}
		}
	}
}
