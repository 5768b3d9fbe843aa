package matching

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"kiln/fhir"
)

func person(t *testing.T, text string) Person {
	t.Helper()
	n, err := fhir.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return Read(n)
}

const ada = `{"resourceType":"Patient","identifier":[{"system":"urn:mrn","value":"A-17"}],"name":[{"family":"Müller","given":["Ada","Grace"]}],"birthDate":"1984-07-02",
	"gender":"female","telecom":[{"system":"phone","value":"+47 22 33 44 55"},{"system":"email","value":"Ada@example.org"}],"address":[{"city":"Oslo","postalCode":"0150"}]}`

func TestScore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, other string
		want        Grade
	}{
		{"the_same", ada, Certain},
		{"name_and_birth_date", `{"name":[{"family":"MULLER","given":["ada"]}],"birthDate":"1984-07-02"}`, Certain},
		{"an_identifier_alone", `{"identifier":[{"system":"urn:mrn","value":"a-17"}]}`, Probable},
		{"an_identifier_and_a_name", `{"identifier":[{"system":"urn:mrn","value":"A-17"}],"name":[{"family":"Müller","given":["Ada"]}]}`, Certain},
		{"the_same_identifier_and_another_birth_date", `{"identifier":[{"system":"urn:mrn","value":"A-17"}],"name":[{"family":"Müller","given":["Ada"]}],"birthDate":"1951-03-30"}`, Probable},
		{"day_and_month_swapped", `{"name":[{"family":"Müller","given":["Ada"]}],"birthDate":"1984-02-07","gender":"female"}`, Probable},
		{"day_and_month_swapped_and_the_telephone", `{"name":[{"family":"Müller","given":["Ada"]}],"birthDate":"1984-02-07","telecom":[{"system":"phone","value":"22334455"}]}`, Probable},
		{"a_twin_sister", `{"name":[{"family":"Müller","given":["Berta"]}],"birthDate":"1984-07-02","gender":"female","telecom":[{"system":"phone","value":"22 33 44 55"}],"address":[{"postalCode":"0150"}]}`, Probable},
		{"a_namesake_of_another_age", `{"name":[{"family":"Müller","given":["Ada"]}],"birthDate":"1951-03-30","gender":"female"}`, CertainlyNot},
		{"a_mother_at_the_same_address", `{"name":[{"family":"Müller","given":["Ada"]}],"birthDate":"1951-03-30","gender":"female","telecom":[{"system":"phone","value":"22334455"}],"address":[{"postalCode":"0150"}]}`, Possible},
		{"a_stranger", `{"name":[{"family":"Okafor","given":["Emeka"]}],"birthDate":"1990-01-01","gender":"male"}`, CertainlyNot},
		{"a_name_alone", `{"name":[{"family":"Müller","given":["Ada"]}]}`, Possible},
		{"a_family_name_alone", `{"name":[{"family":"Müller"}]}`, CertainlyNot},
		{"another_number_of_the_same_system", `{"identifier":[{"system":"urn:mrn","value":"A-18"}],"name":[{"family":"Müller","given":["Ada"]}],"birthDate":"1984-07-02"}`, Certain},
		{"married_with_a_double_name", `{"name":[{"family":"Müller-Berg","given":["Ada"]}],"birthDate":"1984-07-02","gender":"female"}`, Probable},
		{"nothing_to_compare", `{"active":true}`, CertainlyNot},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, got := Score(person(t, ada), person(t, c.other))
			if got != c.want {
				t.Errorf("graded %s (%.4f), want %s", got, p, c.want)
			}
		})
	}
}

// TestScore_is_symmetric and in bounds, whatever stands in the fields; and more that agrees never counts less.
func TestScore_is_symmetric(t *testing.T) {
	t.Parallel()
	text := rapid.SampledFrom([]string{"", "a", "ada", "ada grace", "müller", "müller-berg", "é", "17"})
	list := rapid.SliceOfN(text, 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) Person {
			return Person{Identifiers: list.Draw(t, name), Family: list.Draw(t, name), Given: list.Draw(t, name), Contacts: list.Draw(t, name),
				Postal: list.Draw(t, name), City: list.Draw(t, name), Gender: text.Draw(t, name),
				Birth: rapid.SampledFrom([]string{"", "1984", "1984-07", "1984-07-02", "1984-02-07", "1985-07-02", "x"}).Draw(t, name)}
		}
		a, b := draw("a"), draw("b")
		p, g := Score(a, b)
		q, h := Score(b, a)
		if p != q || g != h {
			t.Fatalf("%v %s one way, %v %s the other", p, g, q, h)
		}
		if math.IsNaN(p) || p < 0 || p > 1 {
			t.Fatalf("%v is no probability", p)
		}
		if jw := jaroWinkler(text.Draw(t, "s"), text.Draw(t, "t")); jw < 0 || jw > 1 {
			t.Fatalf("jaroWinkler %v", jw)
		}
	})
}

// The examples that Winkler published.
func TestJaroWinkler(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want float64
	}{
		{"martha", "marhta", 0.961}, {"dwayne", "duane", 0.840}, {"dixon", "dicksonx", 0.813}, {"abc", "xyz", 0}, {"", "a", 0},
	} {
		if got := jaroWinkler(c.a, c.b); math.Abs(got-c.want) > 0.001 {
			t.Errorf("%s, %s: %.3f, want %.3f", c.a, c.b, got, c.want)
		}
	}
}
