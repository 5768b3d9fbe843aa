package resources

import (
	"fmt"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
)

func match(p auth.Principal, patient string, more ...string) Request {
	parameters := `{"resourceType":"Parameters","parameter":[{"name":"resource","resource":` + patient + `}`
	for _, m := range more {
		parameters += "," + m
	}
	n, err := fhir.ParseJSON([]byte(parameters + "]}"))
	if err != nil {
		panic(err)
	}
	return Request{Principal: p, Interaction: Operate, Operation: "match", Type: "Patient", Body: n}
}

// graded are the ids and grades of an answer, in its order.
func graded(r *Response) string {
	var list []string
	for _, e := range r.Bundle.Entries {
		if e.Score <= 0 || e.Score > 1 {
			list = append(list, fmt.Sprintf("score %v", e.Score))
		}
		list = append(list, e.Version.ID+" "+e.Grade)
	}
	return strings.Join(list, ", ")
}

func TestMatch_finds_people_however_they_are_written(t *testing.T) {
	t.Parallel()
	s := newService(t)
	put(t, s, `{"resourceType":"Patient","id":"ada","identifier":[{"system":"urn:mrn","value":"A-17"}],"name":[{"family":"Müller","given":["Ada","Grace"]}],"birthDate":"1984-07-02","gender":"female","telecom":[{"system":"email","value":"ada@example.org"}]}`)
	put(t, s, `{"resourceType":"Patient","id":"twin","name":[{"family":"Müller","given":["Berta"]}],"birthDate":"1984-07-02","gender":"female"}`)
	put(t, s, `{"resourceType":"Patient","id":"other","name":[{"family":"Okafor","given":["Emeka"]}],"birthDate":"1990-01-01"}`)
	for _, c := range []struct{ name, patient, want string }{
		{"name_and_birth_date", `{"resourceType":"Patient","name":[{"family":"MULLER","given":["Ada"]}],"birthDate":"1984-07-02"}`, "ada certain, twin possible"},
		{"identifier", `{"resourceType":"Patient","identifier":[{"system":"urn:mrn","value":"A-17"}]}`, "ada probable"},
		{"e-mail_address", `{"resourceType":"Patient","name":[{"given":["Ada"]}],"telecom":[{"system":"email","value":"ada@example.org"}]}`, "ada possible"},
		{"nobody", `{"resourceType":"Patient","name":[{"family":"Berg","given":["Kari"]}],"birthDate":"1970-01-01"}`, ""},
		{"punctuation_of_searches", `{"resourceType":"Patient","name":[{"family":"Mü|l,l$e\\r","given":["A&a=1"]}],"birthDate":"1984-07-02","identifier":[{"system":"urn:mrn","value":"A,17|x"}]}`, ""},
		{"a_resource_that_is_not_valid", `{"resourceType":"Patient","name":[{"family":"Müller","given":["Ada"]}],"birthDate":"soon","gender":"?"}`, "ada possible"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := graded(do(t, s, match(auth.Principal{}, c.patient))); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	t.Run("says_what_it_needs", func(t *testing.T) {
		refused(t, s, fhir.Invalid, match(auth.Principal{}, `{"resourceType":"Patient","name":[{"family":"Müller"}]}`))
	})
	t.Run("onlyCertainMatches_gives_one_or_none", func(t *testing.T) {
		only := `{"name":"onlyCertainMatches","valueBoolean":true}`
		ask := `{"resourceType":"Patient","name":[{"family":"Müller","given":["Ada"]}],"birthDate":"1984-07-02"}`
		if got := graded(do(t, s, match(auth.Principal{}, ask, only))); got != "ada certain" {
			t.Errorf("got %q", got)
		}
		put(t, s, `{"resourceType":"Patient","id":"again","name":[{"family":"Muller","given":["Ada"]}],"birthDate":"1984-07-02"}`)
		r := do(t, s, match(auth.Principal{}, ask, only))
		if got := graded(r); got != "" || len(r.Bundle.Issues) != 1 || r.Bundle.Issues[0].Code != fhir.CodeMultipleMatches {
			t.Errorf("two alike: got %q and %v", got, r.Bundle.Issues)
		}
		if got := graded(do(t, s, match(auth.Principal{}, ask, `{"name":"count","valueInteger":1}`))); got != "ada certain" && got != "again certain" {
			t.Errorf("count 1: got %q", got)
		}
	})
}

// TestMatch_shows_nobody_else: who does not see a Patient does not learn by $match that there is one.
func TestMatch_shows_nobody_else(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.put(`{"resourceType":"Patient","id":"eve","name":[{"family":"Berry","given":["Eve"]}],"birthDate":"1984-07-02"}`)
	ask := `{"resourceType":"Patient","name":[{"family":"Berry","given":["Eve"]}],"birthDate":"1984-07-02"}`
	for _, c := range []struct {
		name string
		who  auth.Principal
		want string
	}{
		{"administrator", admin("user/*.cruds"), "eve certain"},
		{"backend", backend("system/Patient.rs"), "eve certain"},
		{"practitioner_who_treats_others", doctor("treats", "user/*.cruds"), ""},
		{"patient", patientApp("anna", "patient/*.rs"), ""},
	} {
		if got := graded(do(t, w.Service, match(c.who, ask))); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	refused(t, w.Service, fhir.Forbidden, match(backend("system/Observation.rs"), ask))
}
