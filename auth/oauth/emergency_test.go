package oauth_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/auth/oauth"
	"kiln/storage/identity"
)

// told makes the AuditEvents of what happened so far.
func (w *world) told() {
	w.Helper()
	for {
		n, err := w.service.ChainAudit(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

// emergencyWard is a patient whom nobody treats, with a Consent that nobody may see anything, and staff.
func emergencyWard(w *world) {
	w.put(`{"resourceType":"Patient","id":"stray","name":[{"family":"Stray","given":["Sam"]}]}`, `{"resourceType":"Condition","id":"allergic","subject":{"reference":"Patient/stray"}}`,
		`{"resourceType":"Practitioner","id":"other","name":[{"family":"Other"}]}`,
		`{"resourceType":"Consent","id":"no","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],"patient":{"reference":"Patient/stray"},"policyRule":{"text":"x"},"provision":{"type":"deny"}}`)
	hash, err := oauth.HashPassword(password)
	if err != nil {
		w.Fatal(err)
	}
	for _, a := range []*identity.Account{
		{Username: "other", Roles: []string{"practitioner"}, FHIRUser: []string{"Practitioner/other"}},
		{Username: "chief", Roles: []string{"practitioner", "admin"}, FHIRUser: []string{"Practitioner/dr"}},
		{Username: "sam", Roles: []string{"patient"}, FHIRUser: []string{"Patient/stray"}},
	} {
		a.Password = hash
		if err := w.identity.AddAccount(w.Context(), a); err != nil {
			w.Fatal(err)
		}
	}
}

const glass = `X-Break-Glass: BTG; reason="unconscious, nobody to ask"`

// TestEmergency: breaking the glass over HTTP, from the header to the review.
func TestEmergency(t *testing.T) {
	w := newWorld(t)
	emergencyWard(w)
	token := func(user, scope string) string { return w.tokens(user, "", scope)["access_token"].(string) }
	greta, other, root := token("greta", "user/*.cruds"), token("other", "user/*.cruds"), token("root", "user/*.cruds")
	get := func(path, token string, headers ...string) *response { return w.get(path, token, headers...) }
	sql := func(text string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), w.database)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		if _, err := conn.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	closed := func(token string) {
		t.Helper()
		for _, path := range []string{"/Patient/stray", "/Condition/allergic", "/Condition/allergic/_history/1"} {
			if r := get(path, token); r.StatusCode != http.StatusNotFound || r.Header.Get("X-Break-Glass-Expires") != "" {
				t.Errorf("%s: %d", path, r.StatusCode)
			}
		}
		if r := get("/Condition?patient=stray", token); strings.Contains(r.body, "allergic") {
			t.Error("a search finds it")
		}
	}

	t.Run("a_header_that_is_no_good", func(t *testing.T) {
		for _, header := range []string{"", "BTG", "BTG;", "BTG; reason", `BTG; reason=""`, `BTG; reason="four"`, `BTG; reason="     a    "`, "BTG; reason=without quotes", `TREAT; reason="long enough"`,
			`BTG; because="long enough"`, `BTG; reason="not closed`, `BTG; reason="long enough" and more`, `BTG; reason="` + strings.Repeat("x", 2001) + `"`, "BTG; reason=\"\xff\xfe\xfd\xfc\xfb\xfa\""} {
			if r := get("/Patient/stray", greta, "X-Break-Glass: "+header); r.StatusCode != http.StatusBadRequest || !strings.Contains(r.body, "bad-header") {
				t.Errorf("%.40q: %d %s", header, r.StatusCode, r.body)
			}
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.origin+"/fhir/Patient/stray", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+greta)
		req.Header["X-Break-Glass"] = []string{`BTG; reason="long enough"`, `BTG; reason="and again"`}
		if r := w.do(req, nil); r.StatusCode != http.StatusBadRequest {
			t.Errorf("twice: %d", r.StatusCode)
		}
		closed(greta)
	})
	t.Run("who_may_not", func(t *testing.T) {
		backend := w.token(backend(w.assertion("backend", "RS384"), "system/*.rs")).json(t)["access_token"].(string)
		for name, token := range map[string]string{"an administrator": root, "a patient": token("ada", "launch/patient patient/*.rs"), "a backend system": backend} {
			if r := get("/Patient/stray", token, glass); r.StatusCode != http.StatusForbidden {
				t.Errorf("%s: %d %s", name, r.StatusCode, r.body)
			}
		}
		if r := get("/Patient/stray", "", glass); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("without a token: %d", r.StatusCode)
		}
		closed(root)
	})
	t.Run("only_for_one_patient_and_not_in_bundles", func(t *testing.T) {
		for _, path := range []string{"/Condition", "/Condition?code=x", "/Condition?patient=stray,p1", "/_history", "/Patient?name=stray"} {
			if r := get(path, greta, glass); r.StatusCode != http.StatusBadRequest || !strings.Contains(r.body, "break-glass-patient") {
				t.Errorf("%s: %d %s", path, r.StatusCode, r.body)
			}
		}
		for body, path := range map[string]string{`{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Patient/stray"}}]}`: "",
			`{"resourceType":"Condition","subject":{"reference":"Patient/stray"}}`: "/Condition"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.origin+"/fhir"+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+greta)
			req.Header.Set("Content-Type", "application/fhir+json")
			req.Header.Set("X-Break-Glass", `BTG; reason="long enough"`)
			if r := w.do(req, nil); r.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %d %s", path, r.StatusCode, r.body)
			}
		}
		if r := get("/Patient/nobody", greta, glass); r.StatusCode != http.StatusNotFound || r.Header.Get("X-Break-Glass-Expires") != "" {
			t.Errorf("nobody: %d", r.StatusCode)
		}
		closed(greta)
	})
	t.Run("scopes_still_bind", func(t *testing.T) {
		narrow := token("greta", "user/Patient.rs")
		if r := get("/Condition/allergic", narrow, glass); r.StatusCode != http.StatusForbidden {
			t.Errorf("%d", r.StatusCode)
		}
		sql("DELETE FROM treatment WHERE kind = 0")
		closed(greta)
	})
	t.Run("opens_for_half_an_hour", func(t *testing.T) {
		r := get("/Condition/allergic", greta, strings.Replace(glass, "BTG", "etreat", 1))
		until, err := time.Parse(time.RFC3339, r.Header.Get("X-Break-Glass-Expires"))
		if left := time.Until(until); r.StatusCode != http.StatusOK || err != nil || left < 29*time.Minute || left > 31*time.Minute {
			t.Fatalf("%d %q %v", r.StatusCode, r.Header.Get("X-Break-Glass-Expires"), err)
		}
		for _, path := range []string{"/Patient/stray", "/Condition/allergic", "/Condition/allergic/_history/1"} {
			if r := get(path, greta); r.StatusCode != http.StatusOK {
				t.Errorf("%s: %d", path, r.StatusCode)
			}
		}
		if r := get("/Condition?patient=stray", greta); !strings.Contains(r.body, "allergic") {
			t.Error("a search does not find it")
		}
		if again := get("/Patient/stray", greta, glass).Header.Get("X-Break-Glass-Expires"); again != r.Header.Get("X-Break-Glass-Expires") {
			t.Errorf("asked again, it is open until %s", again)
		}
		closed(other)
		closed(root)
	})
	t.Run("the_patient_reads_of_it", func(t *testing.T) {
		w.told()
		r := get("/AuditEvent?subtype=http://dicom.nema.org/resources/ontology/DCM%7C110127", token("sam", "launch/patient patient/AuditEvent.rs"))
		if r.StatusCode != http.StatusOK || !strings.Contains(r.body, "unconscious, nobody to ask") || !strings.Contains(r.body, "Practitioner/dr") {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
	t.Run("ends", func(t *testing.T) {
		sql("UPDATE treatment SET high = now() WHERE kind = 0")
		closed(greta)
	})

	page := func(b *person, grant string) string { return b.open("/auth/emergencies" + grant).body }
	review := func(b *person, grant, verdict string) *response {
		return b.submit("/auth/emergencies", url.Values{"token": form(b.open("/auth/account").body)["token"], "grant": {grant}, "verdict": {verdict}})
	}
	admin := w.browser()
	admin.signIn(admin.open("/auth/emergencies"), "root")
	t.Run("administrators_see_who_and_why_and_what", func(t *testing.T) {
		list := page(admin, "")
		if !strings.Contains(list, "House (Practitioner/dr)") || !strings.Contains(list, "unconscious, nobody to ask") || !strings.Contains(list, `grant=1"`) {
			t.Fatalf("%s", list)
		}
		if strings.Contains(list, "Stray") { // the Consent holds for administrators here too
			t.Error("it tells the name of a patient who is behind a Consent")
		}
		w.told()
		one := page(admin, "?grant=1")
		for _, want := range []string{"unconscious, nobody to ask", "ETREAT", "Patient/stray", "Emergency Override Started", "read", "Condition/allergic", "Condition?patient=stray"} {
			if !strings.Contains(one, want) {
				t.Errorf("no %q in %s", want, one)
			}
		}
		if r := admin.open("/auth/emergencies?grant=99"); r.StatusCode != http.StatusNotFound {
			t.Errorf("one that is not there: %d", r.StatusCode)
		}
	})
	t.Run("only_administrators", func(t *testing.T) {
		for _, user := range []string{"greta", "sam"} {
			b := w.browser()
			if r := b.signIn(b.open("/auth/emergencies"), user); r.StatusCode != http.StatusForbidden || strings.Contains(r.body, "unconscious") {
				t.Errorf("%s: %d", user, r.StatusCode)
			}
			if r := review(b, "1", "it was right"); r.StatusCode != http.StatusForbidden {
				t.Errorf("%s reviews: %d", user, r.StatusCode)
			}
		}
		if r := admin.send(admin.client, http.MethodPost, "/auth/emergencies", url.Values{"grant": {"2"}, "verdict": {"x"}}, "Origin: https://evil.example.org"); r.StatusCode != http.StatusForbidden {
			t.Errorf("a form from elsewhere: %d", r.StatusCode)
		}
	})
	t.Run("nobody_reviews_the_own", func(t *testing.T) {
		chief := w.browser()
		chief.signIn(chief.open("/auth/emergencies"), "chief")
		if r := review(chief, "1", "I was right"); r.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(r.body, "Nobody reviews the own") {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	})
	t.Run("a_review_is_kept", func(t *testing.T) {
		if r := review(admin, "1", "  "); r.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("without a note: %d", r.StatusCode)
		}
		if r := review(admin, "1", "called the ward; <b>it was right</b>"); r.StatusCode != http.StatusOK || !strings.Contains(r.body, "Done.") || strings.Contains(r.body, `grant=1"`) {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
		if one := page(admin, "?grant=1"); !strings.Contains(one, "called the ward; &lt;b&gt;it was right") || !strings.Contains(one, "root") || strings.Contains(one, "<textarea") {
			t.Errorf("%s", one)
		}
		if all := page(admin, "?all"); !strings.Contains(all, `grant=1"`) || !strings.Contains(all, "reviewed") {
			t.Errorf("%s", all)
		}
		if r := review(admin, "1", "again"); r.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(r.body, "reviewed before") {
			t.Errorf("again: %d %s", r.StatusCode, r.body)
		}
		w.told()
		if r := get("/AuditEvent?subtype=break-glass-review", root); !strings.Contains(r.body, "Patient/stray") {
			t.Errorf("the log does not tell: %s", r.body)
		}
	})
}
