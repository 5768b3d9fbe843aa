package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// outcomeOf are the severity, code and details code of the issues of an answer, one a line.
func outcomeOf(a answer) string {
	var list []string
	issues, _ := a.body["issue"].([]any)
	for _, i := range issues {
		issue := i.(map[string]any)
		details, _ := issue["details"].(map[string]any)
		code := ""
		if codings, _ := details["coding"].([]any); len(codings) > 0 {
			code, _ = codings[0].(map[string]any)["code"].(string)
		}
		list = append(list, strings.TrimSpace(fmt.Sprint(issue["severity"], " ", issue["code"], " ", code)))
	}
	return strings.Join(list, "\n")
}

// TestErrors_are_those_of_the_table goes through the table of errors of the design (domain.md 10), row by row, over HTTP. Rows
// that need a clock, a patient's token or a database that is away have tests of their own: hold-expired, too-soon and too-late in
// resources, 503 in fault_test.go.
func TestErrors_are_those_of_the_table(t *testing.T) {
	t.Parallel()
	db := "--database-url=" + startedDB(t)
	origin, stop := serve(t, db, "--auth=smart", "--data-dir="+t.TempDir(), "--max-resource-bytes=100KiB")
	defer stop()
	token := func(scope string) string {
		t.Helper()
		code, out, errs := command(t, "token", "--scope", scope, db, "--log-level=error")
		if code != 0 {
			t.Fatal(errs)
		}
		return "Authorization: Bearer " + strings.TrimSpace(out)
	}
	all, narrow := token("system/*.cruds"), token("system/Patient.rs")
	base := origin + "/fhir/"
	put := func(typ, id, rest string) {
		t.Helper()
		if a := send(t.Context(), "PUT", base+typ+"/"+id, fmt.Sprintf(`{"resourceType":%q,"id":%q%s}`, typ, id, rest), all); a.status != 201 {
			t.Fatalf("%+v", a)
		}
	}
	const extension = "https://kiln.example/fhir/StructureDefinition/"
	day := time.Now().UTC().Truncate(24 * time.Hour).Add(72 * time.Hour)
	at := func(hour int) string { return day.Add(time.Duration(hour) * time.Hour).Format(time.RFC3339) }
	visit := func(status string, hour int, actors ...string) string {
		text := fmt.Sprintf(`{"resourceType":"Appointment","status":%q,"start":%q,"end":%q,"participant":[`, status, at(hour), at(hour+1))
		for i, actor := range actors {
			text += strings.Repeat(",", min(i, 1)) + fmt.Sprintf(`{"actor":{"reference":%q},"status":"accepted"}`, actor)
		}
		return text + "]}"
	}
	book := func(body string, more ...string) string {
		return `{"resourceType":"Parameters","parameter":[` + strings.Join(append([]string{`{"name":"appointment-resource","resource":` + body + `}`}, more...), ",") + `]}`
	}
	for _, id := range []string{"ada", "ben"} {
		put("Patient", id, "")
	}
	put("Organization", "payer", `,"name":"Payer","extension":[{"url":"`+extension+`payer-adapter","valueCode":"sandbox"}]`)
	put("Coverage", "old", `,"status":"cancelled","subscriberId":"OK-1","beneficiary":{"reference":"Patient/ada"},"payor":[{"reference":"Organization/payer"}]`)
	for _, id := range []string{"doc", "other", "strict"} {
		put("Practitioner", id, "")
		policy := ""
		if id == "strict" {
			policy = `,"extension":[{"url":"` + extension + `booking-policy","extension":[{"url":"coverage","valueCode":"strict"}]}]`
		}
		put("Schedule", id, `,"actor":[{"reference":"Practitioner/`+id+`"}]`+policy)
		for hour := 8; hour < 17; hour++ {
			put("Slot", fmt.Sprint(id, hour), fmt.Sprintf(`,"schedule":{"reference":"Schedule/%s"},"status":"free","start":%q,"end":%q`, id, at(hour), at(hour+1)))
		}
	}
	post := func(body string) string {
		t.Helper()
		a := send(t.Context(), "POST", base+"Appointment", body, all)
		if a.status != 201 {
			t.Fatalf("%+v", a)
		}
		return a.id()
	}
	booked, gone, over := post(visit("booked", 9, "Practitioner/doc", "Patient/ada")), post(visit("proposed", 16, "Practitioner/doc", "Patient/ben")), post(visit("booked", 15, "Practitioner/doc", "Patient/ben"))
	if a := send(t.Context(), "DELETE", base+"Appointment/"+gone, "", all); a.status > 204 {
		t.Fatalf("%+v", a)
	}
	cancel := `{"resourceType":"Parameters","parameter":[{"name":"reason","valueCodeableConcept":{"text":"x"}}]}`
	if a := send(t.Context(), "POST", base+"Appointment/"+over+"/$cancel", cancel, all); a.status != 200 {
		t.Fatalf("%+v", a)
	}
	find := func(from, to string) string { return "Appointment/$find?start=" + from + "&end=" + to }
	patch := "Content-Type: application/json-patch+json"
	for _, c := range []struct {
		row, method, path, body string
		headers                 []string
		status                  int
		first                   string // of the outcome: severity, code, details code
	}{
		{"malformed_JSON", "POST", "Appointment", `{"resourceType":`, []string{all}, 400, "error structure"},
		{"missing_parameter", "GET", "Appointment/$find?start=2026-01-01", "", []string{all}, 400, "error required"},
		{"bad_parameter", "GET", find("tomorrow", at(9)), "", []string{all}, 400, "error value"},
		{"no_token", "GET", "Patient/ada", "", nil, 401, "error login"},
		{"bad_token", "GET", "Patient/ada", "", []string{"Authorization: Bearer kiln_at_x"}, 401, "error login"},
		{"scope_does_not_grant_the_type", "GET", "Appointment/" + booked, "", []string{narrow}, 403, "error forbidden"},
		{"scope_does_not_grant_the_action", "POST", "Patient", `{"resourceType":"Patient"}`, []string{narrow}, 403, "error forbidden"},
		{"unknown", "GET", "Appointment/nobody", "", []string{all}, 404, "error not-found"},
		{"deleted", "GET", "Appointment/" + gone, "", []string{all}, 410, "error deleted"},
		{"time_taken", "POST", "Appointment/$book", book(visit("booked", 9, "Practitioner/doc", "Patient/ben")), []string{all}, 409, "error conflict slot-taken"},
		{"time_taken_by_POST", "POST", "Appointment", visit("booked", 9, "Practitioner/doc", "Patient/ben"), []string{all}, 409, "error conflict slot-taken"},
		{"patient_busy", "POST", "Appointment/$book", book(visit("booked", 9, "Practitioner/other", "Patient/ada")), []string{all}, 409, "error conflict patient-busy"},
		{"transition", "PATCH", "Appointment/" + over, `[{"op":"replace","path":"/status","value":"noshow"}]`, []string{all, patch}, 409, "error conflict illegal-transition"},
		{"If-Match_stale", "PATCH", "Appointment/" + booked, `[{"op":"add","path":"/comment","value":"x"}]`, []string{all, patch, `If-Match: W/"7"`}, 412, "error conflict stale-version"},
		{"If-Match_missing", "PATCH", "Appointment/" + booked, `[{"op":"add","path":"/description","value":"x"}]`, []string{all, patch}, 400, "error required stale-version"},
		{"subject_mismatch", "POST", "Encounter", `{"resourceType":"Encounter","status":"planned","class":{"code":"AMB"},"subject":{"reference":"Patient/ben"},"appointment":[{"reference":"Appointment/` + booked + `"}]}`, []string{all}, 422, "error business-rule subject-mismatch"},
		{"coverage_refused", "POST", "Appointment/$book", book(visit("booked", 10, "Practitioner/strict", "Patient/ada"), `{"name":"coverage","valueReference":{"reference":"Coverage/old"}}`), []string{all}, 422, "error business-rule coverage-inactive"},
		{"invariant", "POST", "Appointment", strings.Replace(visit("booked", 11, "Practitioner/doc", "Patient/ada"), `"start"`, `"cancelationReason":{"text":"x"},"start"`, 1), []string{all}, 422, "error invariant app-4"},
		{"code", "POST", "Appointment", visit("maybe", 11, "Practitioner/doc", "Patient/ada"), []string{all}, 422, "error code-invalid"},
		{"window_too_wide", "GET", find(at(0), day.AddDate(0, 2, 0).Format(time.RFC3339)), "", []string{all}, 422, "error too-costly window-too-wide"},
		{"media_type", "POST", "Patient", `x`, []string{all, "Content-Type: text/csv"}, 415, "error not-supported"},
		{"not_acceptable", "GET", "Patient/ada", "", []string{all, "Accept: text/csv"}, 406, "error not-supported"},
		{"too_large", "POST", "Patient", `{"resourceType":"Patient","name":[{"text":"` + strings.Repeat("x", 200<<10) + `"}]}`, []string{all}, 413, "error too-long"},
	} {
		t.Run(c.row, func(t *testing.T) {
			a := send(t.Context(), c.method, base+c.path, c.body, c.headers...)
			first, rest, _ := strings.Cut(outcomeOf(a), "\n")
			if a.status != c.status || first != c.first && !(strings.Count(c.first, " ") == 1 && strings.HasPrefix(first, c.first)) {
				t.Errorf("%d %q, want %d %q: %v %v", a.status, first, c.status, c.first, a.body, a.err)
			}
			if a.status != 409 || strings.Contains(c.first, "illegal") {
				return
			}
			// Up to three other times, which can be booked by their ids, and not a word of who has this one.
			offered, _ := a.body["contained"].([]any)
			if rest != "information informational" && !strings.HasPrefix(rest, "information") || len(offered) == 0 || len(offered) > 3 || strings.Contains(fmt.Sprint(a.body), booked) || strings.Contains(fmt.Sprint(a.body), "Patient/ada") && c.row != "patient_busy" {
				t.Errorf("%q, %d alternatives: %v", rest, len(offered), a.body)
			}
		})
	}
}
