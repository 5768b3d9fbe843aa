package oauth_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"kiln/auth/oauth"
	"kiln/storage/identity"
)

// family makes an account of a mother who is a patient herself, acts for two children, and once acted for a third.
func family(w *world) {
	for _, id := range []string{"kim", "lee", "max"} {
		w.put(`{"resourceType":"Patient","id":"` + id + `","name":[{"family":"Okafor","given":["` + strings.ToUpper(id[:1]) + id[1:] + `"]}],"generalPractitioner":[{"reference":"Practitioner/dr"}]}`)
		w.put(`{"resourceType":"Condition","id":"c-` + id + `","subject":{"reference":"Patient/` + id + `"}}`)
	}
	relative := func(id, more string) {
		w.put(`{"resourceType":"RelatedPerson","id":"of-` + id + `","patient":{"reference":"Patient/` + id + `"},"relationship":[{"text":"mother"}]` + more + `}`)
	}
	relative("kim", "")
	relative("lee", `,"active":true,"period":{"start":"2020-01-01"}`)
	relative("max", `,"period":{"start":"2010-01-01","end":"2020-01-01"}`)
	hash, err := oauth.HashPassword(password)
	if err != nil {
		w.Fatal(err)
	}
	for _, a := range []*identity.Account{
		{Username: "mother", Roles: []string{"patient"}, FHIRUser: []string{"Patient/p1", "RelatedPerson/of-kim", "RelatedPerson/of-lee", "RelatedPerson/of-max"}},
		{Username: "nanny", Roles: []string{"patient"}, FHIRUser: []string{"RelatedPerson/of-kim"}},
		{Username: "past", Roles: []string{"patient"}, FHIRUser: []string{"RelatedPerson/of-max"}},
		{Username: "doctor mother", Roles: []string{"patient", "practitioner"}, FHIRUser: []string{"Practitioner/dr", "RelatedPerson/of-kim"}},
	} {
		a.Password = hash
		if err := w.identity.AddAccount(w.Context(), a); err != nil {
			w.Fatal(err)
		}
	}
}

// as gets tokens of a user who picks one of the account's resources.
func (w *world) as(user, link, scope string) map[string]any {
	w.Helper()
	b := w.browser()
	page := b.signIn(b.open("/auth/authorize?"+w.request("public", scope).Encode()), user)
	if !strings.Contains(page.body, `value="`+link+`"`) {
		w.Fatalf("%s is not offered %s: %s", user, link, page.body)
	}
	fields := url.Values{"token": form(page.body)["token"], "request": form(page.body)["request"], "link": {link}}
	q := w.outcome(b.consent(b.submit("/auth/patient", fields), user, ""))
	r := w.token(exchange(q.Get("code"), "client_id", "public"))
	if r.StatusCode != http.StatusOK {
		w.Fatalf("token: %d %s", r.StatusCode, r.body)
	}
	return r.json(w)
}

// TestCharges: whoever acts for others chooses in whose name an app acts, and reaches that record and no other.
func TestCharges(t *testing.T) {
	w := newWorld(t)
	family(w)
	const scope = "launch/patient openid fhirUser offline_access patient/*.rs"
	sees := func(m map[string]any, path string) int {
		t.Helper()
		return w.get(path, m["access_token"].(string)).StatusCode
	}
	finds := func(m map[string]any, query, id string) bool {
		t.Helper()
		return strings.Contains(w.get(query, m["access_token"].(string)).body, "/fhir/"+id+`"`)
	}
	t.Run("the_picker_offers_each", func(t *testing.T) {
		b := w.browser()
		page := b.signIn(b.open("/auth/authorize?"+w.request("public", scope).Encode()), "mother").body
		for _, want := range []string{`value="Patient/p1"`, "your own record", `value="RelatedPerson/of-kim"`, "Kim Okafor", `value="RelatedPerson/of-lee"`, "you act for them"} {
			if !strings.Contains(page, want) {
				t.Errorf("no %s in %s", want, page)
			}
		}
		if strings.Contains(page, "of-max") || strings.Contains(page, `type="search"`) {
			t.Errorf("offers what is over, or a search: %s", page)
		}
		fields := url.Values{"token": form(page)["token"], "request": form(page)["request"]}
		for _, forged := range []url.Values{{"link": {"RelatedPerson/of-max"}}, {"patient": {"p2"}}, {"link": {"Patient/p2"}}, {"link": {"Practitioner/dr"}, "patient": {"p2"}}} {
			for k, v := range fields {
				forged[k] = v
			}
			if r := b.submit("/auth/patient", forged); r.StatusCode != http.StatusBadRequest {
				t.Errorf("%v: %d", forged, r.StatusCode)
			}
		}
	})
	own := w.as("mother", "Patient/p1", scope)
	kim := w.as("mother", "RelatedPerson/of-kim", scope)
	t.Run("the_token_carries_the_choice", func(t *testing.T) {
		if own["patient"] != "p1" || kim["patient"] != "kim" {
			t.Errorf("patients %v, %v", own["patient"], kim["patient"])
		}
		if claims := w.verify(kim["id_token"].(string)); claims["fhirUser"] != w.origin+"/fhir/RelatedPerson/of-kim" {
			t.Errorf("fhirUser %v", claims["fhirUser"])
		}
		for path, want := range map[string]int{"/Patient/kim": 200, "/Condition/c-kim": 200, "/RelatedPerson/of-kim": 200, "/Practitioner/dr": 200,
			"/Patient/p1": 404, "/Condition/c1": 404, "/Patient/lee": 404, "/Condition/c-lee": 404, "/Patient/max": 404} {
			if got := sees(kim, path); got != want {
				t.Errorf("for Kim %s: %d, want %d", path, got, want)
			}
		}
		for path, want := range map[string]int{"/Patient/p1": 200, "/Condition/c1": 200, "/Patient/kim": 404, "/Condition/c-kim": 404} {
			if got := sees(own, path); got != want {
				t.Errorf("for herself %s: %d, want %d", path, got, want)
			}
		}
		if !finds(kim, "/Condition", "Condition/c-kim") || finds(kim, "/Condition", "Condition/c1") || finds(kim, "/Condition", "Condition/c-lee") || finds(own, "/Condition", "Condition/c-kim") {
			t.Error("searches find another record, or not the one")
		}
	})
	t.Run("a_refresh_keeps_it", func(t *testing.T) {
		r := w.token(refreshing(kim["refresh_token"]))
		if r.StatusCode != 200 {
			t.Fatal(r.body)
		}
		if kim = r.json(t); kim["patient"] != "kim" || sees(kim, "/Condition/c-kim") != 200 || sees(kim, "/Condition/c1") != 404 {
			t.Errorf("%v", kim)
		}
	})
	t.Run("without_a_record_of_ones_own", func(t *testing.T) {
		m := w.tokens("nanny", "", scope)
		if m["patient"] != "kim" || sees(m, "/Patient/kim") != 200 || sees(m, "/Patient/p1") != 404 {
			t.Errorf("%v", m["patient"])
		}
		byUser := w.tokens("nanny", "", "openid fhirUser user/Condition.rs")
		if sees(byUser, "/Condition/c-kim") != 200 || sees(byUser, "/Condition/c1") != 404 || sees(byUser, "/RelatedPerson/of-kim") != 200 || byUser["patient"] != nil {
			t.Error("by user scopes")
		}
		b := w.browser()
		if q := w.outcome(b.consent(b.open("/auth/authorize?"+w.request("public", scope).Encode()), "past", "")); q.Get("error") != "access_denied" {
			t.Errorf("who acts for nobody any more: %v", q)
		}
	})
	t.Run("by_user_scopes_alone_all_of_them", func(t *testing.T) {
		m := w.tokens("mother", "", "openid fhirUser user/Patient.rs user/Condition.rs user/Observation.crus user/RelatedPerson.rs")
		if m["patient"] != nil || w.verify(m["id_token"].(string))["fhirUser"] != w.origin+"/fhir/Patient/p1" {
			t.Errorf("%v", m)
		}
		all := func(kim int, when string) {
			t.Helper()
			for path, want := range map[string]int{"/Patient/p1": 200, "/Condition/c1": 200, "/Patient/lee": 200, "/Condition/c-lee": 200, "/RelatedPerson/of-lee": 200,
				"/Patient/kim": kim, "/Condition/c-kim": kim, "/RelatedPerson/of-kim": kim, "/Patient/max": 404, "/Condition/c-max": 404, "/Patient/p2": 404} {
				if got := sees(m, path); got != want {
					t.Errorf("%s: %s: %d, want %d", when, path, got, want)
				}
			}
			for id, want := range map[string]bool{"c1": true, "c-lee": true, "c-kim": kim == 200, "c-max": false} {
				if got := finds(m, "/Condition", "Condition/"+id); got != want {
					t.Errorf("%s: a search finds %s: %t", when, id, got)
				}
			}
			for id, want := range map[string]int{"lee": 201, "kim": map[int]int{200: 201, 404: 403}[kim], "max": 403, "p2": 403} {
				if r := w.fhir(http.MethodPost, "/Observation", m["access_token"].(string), `{"resourceType":"Observation","status":"preliminary","code":{"text":"x"},"subject":{"reference":"Patient/`+id+`"}}`); r.StatusCode != want {
					t.Errorf("%s: a record of %s: %d %s", when, id, r.StatusCode, r.body)
				}
			}
		}
		all(200, "all three")
		const related = `{"resourceType":"RelatedPerson","id":"of-kim","patient":{"reference":"Patient/kim"},"relationship":[{"text":"mother"}]`
		w.put(related + `,"period":{"end":"2020-01-01"}}`)
		all(404, "one is over")
		w.put(related + `}`)
		all(200, "and again")
		// Who chose a patient reaches that one, by user scopes too.
		chosen := w.as("mother", "RelatedPerson/of-lee", "launch/patient patient/Patient.rs user/Condition.rs")
		if sees(chosen, "/Condition/c-lee") != 200 || sees(chosen, "/Condition/c-kim") != 404 || sees(chosen, "/Condition/c1") != 404 {
			t.Error("who chose one reaches another")
		}
	})
	t.Run("staff_choose_what_they_are", func(t *testing.T) {
		mother := w.as("doctor mother", "RelatedPerson/of-kim", scope)
		if sees(mother, "/Condition/c-kim") != 200 || sees(mother, "/Condition/c1") != 404 {
			t.Error("as a mother")
		}
		doctor := w.tokens("doctor mother", "p1", scope)
		if doctor["patient"] != "p1" || sees(doctor, "/Condition/c1") != 200 || sees(doctor, "/Condition/c-kim") != 404 || sees(doctor, "/Practitioner/dr") != 200 {
			t.Error("as a doctor")
		}
	})
	t.Run("ends_with_the_relationship_at_the_next_request", func(t *testing.T) {
		end := func(name, ending, again string) {
			t.Helper()
			w.put(ending)
			for _, path := range []string{"/Patient/kim", "/Condition/c-kim", "/RelatedPerson/of-kim"} {
				if got := sees(kim, path); got != 404 {
					t.Errorf("%s: %s %d", name, path, got)
				}
			}
			if finds(kim, "/Condition", "Condition/c-kim") {
				t.Errorf("%s: a search finds", name)
			}
			w.put(again)
			if got := sees(kim, "/Condition/c-kim"); got != 200 {
				t.Errorf("%s, undone: %d", name, got)
			}
		}
		const related = `{"resourceType":"RelatedPerson","id":"of-kim","patient":{"reference":"Patient/kim"},"relationship":[{"text":"mother"}]`
		const consent = `{"resourceType":"Consent","id":"of-kim","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],"patient":{"reference":"Patient/kim"},"policyRule":{"text":"x"},
"provision":{"type":"deny","actor":[{"role":{"text":"x"},"reference":{"reference":"RelatedPerson/of-kim"}}]}`
		end("not active", related+`,"active":false}`, related+`}`)
		end("over", related+`,"period":{"end":"2020-01-01"}}`, related+`,"period":{"start":"2020-01-01"}}`)
		end("a period that cannot be read", related+`,"period":{"extension":[{"url":"http://x/y","valueString":"z"}]}}`, related+`}`)
		end("for somebody else", strings.Replace(related, "Patient/kim", "Patient/lee", 1)+`}`, related+`}`)
		end("a Consent", consent+`,"status":"active"}`, consent+`,"status":"inactive"}`)
	})
}
