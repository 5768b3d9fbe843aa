package oauth_test

import (
	"net/http"
	"testing"

	"kiln/auth"
	"kiln/resources"
	"kiln/storage"
)

// BenchmarkRead tells what a read costs by itself, with the rules of access, and with the access token looked up before.
func BenchmarkRead(b *testing.B) {
	w := makeWorld(b)
	token := w.token(backend(w.assertion("backend", "ES384"), "system/*.rs")).json(b)["access_token"].(string)
	p, err := w.oauth.Authenticate(b.Context(), token)
	if err != nil {
		b.Fatal(err)
	}
	read := func(b *testing.B, p auth.Principal) {
		if _, err := w.service.Do(b.Context(), resources.Request{Interaction: resources.Read, Type: "Patient", ID: "p1", Principal: p}); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("operator", func(b *testing.B) {
		for b.Loop() {
			read(b, auth.Operator("bench"))
		}
	})
	b.Run("access", func(b *testing.B) {
		for b.Loop() {
			read(b, p)
		}
	})
	b.Run("token", func(b *testing.B) {
		for b.Loop() {
			if _, err := w.oauth.Authenticate(b.Context(), token); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("access_and_token", func(b *testing.B) {
		for b.Loop() {
			p, err := w.oauth.Authenticate(b.Context(), token)
			if err != nil {
				b.Fatal(err)
			}
			read(b, p)
		}
	})
	b.Run("access_and_proof", func(b *testing.B) { // as the server does for a token that it has seen before
		for b.Loop() {
			p, proof, known := w.oauth.Recall(token)
			if !known {
				b.Fatal("the token is not known")
			}
			if _, err := w.service.Do(storage.WithProof(b.Context(), proof), resources.Request{Interaction: resources.Read, Type: "Patient", ID: "p1", Principal: p}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("http", func(b *testing.B) {
		for b.Loop() {
			if r := w.send(nil, http.MethodGet, "/fhir/Patient/p1", nil, "Authorization: Bearer "+token); r.StatusCode != 200 {
				b.Fatal(r.StatusCode)
			}
		}
	})
}
