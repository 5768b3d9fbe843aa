// Package oauth is the authorization server: SMART App Launch 2.2 (and its 1.0 scopes), OpenID Connect and SMART Backend
// Services, with the pages on which people sign in, choose a patient and decide what an app may see.
//
// The protocol's core is github.com/ory/fosite; what it does not know (aud, launch contexts, consent by resource type,
// the rules of SMART for assertions) is here. Tokens are opaque random strings that the database knows by their hash, so
// revoking one takes effect at the next request, on every node. Package storage/identity keeps everything; answers
// leave through answer.go alone.
//
// Read first: Server, Routes, context.go, authorize.go, token.go. docs/auth.md describes the whole for users.
package oauth
