package resources

import (
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
	"kiln/storage"
)

func merge(p auth.Principal, source, target string, more ...string) Request {
	body := `{"resourceType":"Parameters","parameter":[{"name":"source-patient","valueReference":{"reference":"Patient/` + source + `"}},
{"name":"target-patient","valueReference":{"reference":"Patient/` + target + `"}}`
	for _, m := range more {
		body += "," + m
	}
	n, err := fhir.ParseJSON([]byte(body + "]}"))
	if err != nil {
		panic(err)
	}
	return Request{Principal: p, Interaction: Operate, Operation: "merge", Type: "Patient", Body: n}
}

// settled makes a server hear of what others have changed: it looks every two seconds by itself.
func (w *ward) settled() {
	w.t.Helper()
	if err := w.store.RefreshParameters(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func moved(t testing.TB, r *Response) string {
	t.Helper()
	for p := range r.Resource.Get("parameter").Items() {
		if p.GetText("name") == "moved" {
			return p.Get("valueInteger").Text
		}
	}
	return "absent"
}

func TestMerge(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.put(`{"resourceType":"Consent","id":"denies","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],"policyRule":{"text":"x"},
"patient":{"reference":"Patient/anna"},"provision":{"type":"deny","actor":[{"role":{"text":"x"},"reference":{"reference":"Practitioner/stranger"}}]}}`)
	boss, ben, anna := admin("user/*.cruds"), patientApp("ben", "patient/*.rs"), patientApp("anna", "patient/*.rs")
	doctor := doctor("treats", "user/*.rs")

	t.Run("is_for_administrators", func(t *testing.T) {
		for name, who := range map[string]auth.Principal{"doctor": doctor, "patient": ben, "backend": backend("system/*.cruds"), "without_the_scope": admin("user/*.rs")} {
			if got := w.status(who, merge(who, "ben", "anna")); got != fhir.Forbidden {
				t.Errorf("%s: kind %d", name, got)
			}
		}
	})
	t.Run("takes_two_Patients_there_are", func(t *testing.T) {
		refused(t, w.Service, fhir.NotFound, merge(boss, "ben", "nobody"))
		refused(t, w.Service, fhir.Invalid, merge(boss, "ben", "ben"))
	})
	t.Run("preview_changes_nothing", func(t *testing.T) {
		if got := moved(t, do(t, w.Service, merge(auth.Operator("test"), "ben", "anna", `{"name":"preview","valueBoolean":true}`))); got != "3" {
			t.Errorf("%s resources, want b1, b2 and the implant", got)
		}
		if got := w.found(boss, "Observation", "patient=ben"); got != "b2 b1" {
			t.Errorf("ben has %s", got)
		}
	})
	if got := moved(t, do(t, w.Service, merge(boss, "ben", "anna", `{"name":"reason","valueString":"the same birth certificate"}`))); got != "absent" {
		t.Errorf("an administrator, from whom some may be hidden, is told %s", got)
	}
	t.Run("the_record_is_one", func(t *testing.T) {
		for _, q := range []string{"patient=anna", "patient=Patient/ben", "subject=Patient/ben", "subject:Patient=ben", "patient=ben,nobody"} {
			if got := w.found(boss, "Observation", q+"&_sort=_id"); got != "a1 a2 b1 b2" {
				t.Errorf("%s finds %s", q, got)
			}
		}
		r := do(t, w.Service, Request{Principal: boss, Interaction: SearchType, Type: "Observation", Compartment: "Patient", CompartmentID: "ben"})
		if matches(r.Bundle) != 4 {
			t.Errorf("the compartment of the old id has %d", matches(r.Bundle))
		}
	})
	t.Run("the_Patients_say_so", func(t *testing.T) {
		ben, anna := read(t, w.Service, "Patient", "ben"), read(t, w.Service, "Patient", "anna")
		if replacedBy(ben) != "Patient/anna" || ben.Get("active").Text != "false" {
			t.Errorf("%s", ben.JSON())
		}
		if s := string(anna.JSON()); !strings.Contains(s, `"replaces"`) || !strings.Contains(s, `"use":"old","value":"ben"`) {
			t.Errorf("%s", s)
		}
		if got := w.found(boss, "Provenance", "target=Patient/anna"); got == "" {
			t.Error("no Provenance tells of it")
		}
	})
	t.Run("either_sign_in_reaches_all_of_it", func(t *testing.T) {
		for name, who := range map[string]auth.Principal{"ben": ben, "anna": anna} {
			if got := w.found(who, "Observation", "_sort=_id"); got != "a1 a2 b1" { // b2 is preliminary
				t.Errorf("%s sees %s", name, got)
			}
			w.reads(who, ok, "Observation/b1", "Observation/a1", "Patient/anna", "Patient/ben")
		}
	})
	t.Run("who_treats_the_one_treats_the_other", func(t *testing.T) {
		if got := w.found(doctor, "Observation", "patient=ben&_sort=_id"); got != "a1 a2 b1 b2" {
			t.Errorf("sees %s", got)
		}
	})
	t.Run("nothing_is_written_for_the_old_id", func(t *testing.T) {
		for _, r := range []Request{
			{Interaction: Create, Type: "Observation", Body: parse(t, strings.Replace(observation("x", "ben", "laboratory", "final"), `"id":"x",`, "", 1))},
			{Interaction: Update, Type: "Patient", ID: "ben", Body: parse(t, `{"resourceType":"Patient","id":"ben","active":true}`)},
		} {
			r.Principal = auth.Operator("test")
			if e := refused(t, w.Service, fhir.Conflict, r); e.Issues[0].Detail != "patient-merged" {
				t.Errorf("%v", e.Issues)
			}
		}
		put(t, w.Service, strings.Replace(string(read(t, w.Service, "Patient", "anna").JSON()), `"Apple"`, `"Appleby"`, 1))
	})
	t.Run("once_more_is_harmless", func(t *testing.T) {
		before := versions(t, w.Service, "Patient", "anna")[0]
		if got := moved(t, do(t, w.Service, merge(auth.Operator("test"), "ben", "anna"))); got != "0" {
			t.Errorf("%s were moved", got)
		}
		if after := versions(t, w.Service, "Patient", "anna")[0]; after != before {
			t.Errorf("version %d became %d", before, after)
		}
		w.put(`{"resourceType":"Patient","id":"third"}`)
		refused(t, w.Service, fhir.Conflict, merge(boss, "ben", "third"))
		refused(t, w.Service, fhir.Conflict, merge(boss, "third", "ben"))
	})
	t.Run("merges_go_on", func(t *testing.T) {
		do(t, w.Service, merge(boss, "anna", "third"))
		w.settled()
		if got := w.found(boss, "Observation", "patient=ben&_sort=_id"); got != "a1 a2 b1 b2" {
			t.Errorf("ben is found as %q", got)
		}
	})
}

// TestMerge_keeps_visits: both had a visit at one time, with two practitioners. Nobody loses one.
func TestMerge_keeps_visits(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	for _, id := range []string{"anna", "ben"} {
		practitioner := map[string]string{"anna": "treats", "ben": "stranger"}[id]
		w.put(`{"resourceType":"Appointment","id":"v-` + id + `","status":"booked","start":"2031-01-15T10:00:00Z","end":"2031-01-15T10:30:00Z","participant":[
{"actor":{"reference":"Patient/` + id + `"},"status":"accepted"},{"actor":{"reference":"Practitioner/` + practitioner + `"},"status":"accepted"}]}`)
	}
	do(t, w.Service, merge(admin("user/*.cruds"), "ben", "anna"))
	w.settled()
	if got := w.found(admin("user/*.rs"), "Appointment", "patient=anna&_sort=_id"); got != "v-anna v-ben" {
		t.Errorf("anna has %s", got)
	}
	var taken []string
	err := w.store.Write(storage.WithAccess(t.Context(), storage.Everything()), func(tx *storage.Tx) error {
		b, err := tx.Booking(t.Context(), "Appointment/v-ben")
		taken = append(b.Actors, b.Patient)
		return err
	})
	if got := strings.Join(taken, " "); err != nil || strings.Contains(got, "Patient/ben") || !strings.Contains(got, "Patient/anna") {
		t.Errorf("the visit takes the time of %s (%v)", got, err)
	}
}

// A server that has not heard of a merge yet does not undo it.
func TestMerge_holds_where_nobody_has_heard_of_it(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	other := w.again()
	w.put(`{"resourceType":"Patient","id":"ben2"}`)
	do(t, w.Service, merge(admin("user/*.cruds"), "ben2", "anna"))
	for _, r := range []Request{
		{Interaction: Update, Type: "Patient", ID: "ben2", Body: parse(t, `{"resourceType":"Patient","id":"ben2","active":true}`)},
		{Interaction: Patch, Type: "Patient", ID: "ben2", JSONPatch: []byte(`[{"op":"remove","path":"/link"}]`)},
		{Interaction: Delete, Type: "Patient", ID: "ben2"},
	} {
		r.Principal = auth.Operator("test")
		if e := refused(t, other, fhir.Conflict, r); e.Issues[0].Detail != "patient-merged" {
			t.Errorf("%v", e.Issues)
		}
	}
	if got := replacedBy(read(t, w.Service, "Patient", "ben2")); got != "Patient/anna" {
		t.Errorf("it is replaced by %q", got)
	}
}
