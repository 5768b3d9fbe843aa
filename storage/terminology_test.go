package storage_test

import (
	"context"
	"errors"
	"testing"

	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/storage"
	"kiln/storage/terminology"
)

// expandIn lists the codes of a value set as a transaction sees it, or says what is wrong.
func expandIn(t *testing.T, s *storage.Store, tx *storage.Tx, url string) string {
	t.Helper()
	r, err := s.Terminology(context.Background(), tx, terminology.Options{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := r.Set(context.Background(), url)
	if err == nil {
		var x *terminology.Expansion
		if x, err = r.Expand(context.Background(), set, terminology.ExpandOptions{Count: -1}); err == nil {
			text := ""
			for _, m := range x.Members {
				text += m.Code
			}
			return text
		}
	}
	if fhir.KindOf(err) == fhir.NotFound {
		return "!NotFound"
	}
	return "!" + err.Error()
}

// What a client writes holds at once: in its own transaction, afterwards on every server, and not when it fails.
func TestTerminology_follows_writes(t *testing.T) {
	t.Parallel()
	url := kilntest.TerminologyDB(t)
	s, other := openOn(t, url), openOn(t, url)
	ctx := context.Background()
	write := func(src string, method string, then func(*storage.Tx) error) error {
		n, err := fhir.ParseJSON([]byte(src))
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Prepare(n)
		if err != nil {
			return err
		}
		key := storage.Key{Type: n.ResourceType(), ID: n.ID()}
		return s.Write(ctx, func(tx *storage.Tx) error {
			found, err := tx.Lock(ctx, key)
			if err != nil {
				return err
			}
			switch old := found[key]; {
			case method == storage.MethodDelete:
				tx.Delete(old)
			case old == nil:
				tx.Insert(p, method)
			default:
				tx.Replace(p, old, method)
			}
			return then(tx)
		})
	}
	system := func(codes string) string {
		list := ""
		for i, c := range codes {
			if i > 0 {
				list += ","
			}
			list += `{"code":"` + string(c) + `"}`
		}
		return `{"resourceType":"CodeSystem","id":"s","url":"http://s","valueSet":"http://s/all","status":"active","content":"complete","concept":[` + list + `]}`
	}
	steps := []struct {
		rule, src, method, want string
		fail                    bool
	}{
		{"created", system("ab"), storage.MethodCreate, "ab", false},
		{"undone", system("xyz"), storage.MethodUpdate, "ab", true},
		{"updated", system("bcd"), storage.MethodUpdate, "bcd", false},
		{"deleted", system(""), storage.MethodDelete, "!NotFound", false},
		{"created_again", system("e"), storage.MethodUpdate, "e", false},
	}
	for _, step := range steps {
		err := write(step.src, step.method, func(tx *storage.Tx) error {
			if got := expandIn(t, s, tx, "http://s/all"); !step.fail && got != step.want {
				t.Errorf("%s: inside of the transaction %s, want %s", step.rule, got, step.want)
			}
			if step.fail {
				return errors.New("no")
			}
			return nil
		})
		if (err != nil) != step.fail {
			t.Fatalf("%s: %v", step.rule, err)
		}
		for i, one := range []*storage.Store{s, other} {
			if got := expandIn(t, one, nil, "http://s/all"); got != step.want {
				t.Errorf("%s: on server %d %s, want %s", step.rule, i, got, step.want)
			}
		}
	}
	t.Run("bulk", func(t *testing.T) {
		n, _ := fhir.ParseJSON([]byte(`{"resourceType":"ValueSet","id":"v","url":"http://v","status":"active","compose":{"include":[{"system":"http://s"}]}}`))
		p, err := s.Prepare(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Copy(ctx, []*storage.Prepared{p}); err != nil {
			t.Fatal(err)
		}
		if got := expandIn(t, other, nil, "http://v"); got != "e" {
			t.Error(got)
		}
	})
	t.Run("a_hierarchy_in_circles_is_refused", func(t *testing.T) {
		n, _ := fhir.ParseJSON([]byte(`{"resourceType":"CodeSystem","id":"c","url":"http://c","status":"active","content":"complete","concept":[
			{"code":"a","property":[{"code":"parent","valueCode":"b"}]},{"code":"b","property":[{"code":"parent","valueCode":"a"}]}]}`))
		if _, err := s.Prepare(n); fhir.KindOf(err) != fhir.Unprocessable {
			t.Errorf("got %v", err)
		}
	})
}

func TestValidateCodes(t *testing.T) {
	t.Parallel()
	s := openOn(t, kilntest.TerminologyDB(t))
	const gender = "http://hl7.org/fhir/administrative-gender"
	questions := []validate.CodeQuestion{
		{ValueSet: "http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1", System: gender, Code: "male"},
		{ValueSet: "http://hl7.org/fhir/ValueSet/administrative-gender", Code: "male"},
		{ValueSet: "http://hl7.org/fhir/ValueSet/administrative-gender", System: gender, Code: "Male"},
		{ValueSet: "http://hl7.org/fhir/ValueSet/administrative-gender", System: "http://x", Code: "male"},
		{ValueSet: "http://hl7.org/fhir/ValueSet/observation-codes", System: "http://loinc.org", Code: "8302-2"},
		{ValueSet: "http://nowhere", System: gender, Code: "male"},
		{ValueSet: "http://hl7.org/fhir/ValueSet/ucum-units", System: "http://unitsofmeasure.org", Code: "kg"},
		{ValueSet: "http://hl7.org/fhir/ValueSet/ucum-units", System: "http://unitsofmeasure.org", Code: "kgs"},
		{ValueSet: "http://hl7.org/fhir/ValueSet/mimetypes", Code: "text/plain; charset=utf-8"},
		{ValueSet: "http://hl7.org/fhir/ValueSet/item-type", System: "http://hl7.org/fhir/item-type", Code: "question"},
	}
	want := []validate.CodeVerdict{validate.CodeMember, validate.CodeMember, validate.CodeNotMember, validate.CodeNotMember, validate.CodeUnknown,
		validate.CodeUnknown, validate.CodeMember, validate.CodeNotMember, validate.CodeMember, validate.CodeNotMember}
	answers, err := s.ValidateCodes(context.Background(), questions)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range answers {
		if a.Verdict != want[i] || a.Verdict == validate.CodeUnknown && a.Text == "" {
			t.Errorf("%+v: %+v, want %d", questions[i], a, want[i])
		}
	}
}
