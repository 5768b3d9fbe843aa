package oauth

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"kiln/storage/identity"
)

// Passkeys sign in without a password: the device proves that it holds a key, and that its owner is there. A page of ours
// has the browser's options and a sealed ceremony in a form; the script only asks the device and sends the form.

//go:embed pages/passkey.js
var passkeyScript []byte

const (
	ceremonyPurpose = "passkey ceremony"
	ceremonyLife    = 10 * time.Minute
	maxPasskeys     = 20
)

// newPasskeys makes what checks passkeys; nil where the origin can have none: they belong to a name, not to an address.
func newPasskeys(origin string) (*webauthn.WebAuthn, error) {
	u, err := url.Parse(origin)
	if err != nil || net.ParseIP(u.Hostname()) != nil || u.Scheme != "https" && u.Hostname() != "localhost" {
		return nil, nil
	}
	return webauthn.New(&webauthn.Config{RPID: u.Hostname(), RPDisplayName: "Kiln", RPOrigins: []string{origin}})
}

// passkeyUser is an account as package webauthn sees it.
type passkeyUser struct {
	account     *identity.Account
	credentials []webauthn.Credential
}

func (u *passkeyUser) WebAuthnID() []byte                         { return []byte(u.account.ID) }
func (u *passkeyUser) WebAuthnName() string                       { return u.account.Username }
func (u *passkeyUser) WebAuthnDisplayName() string                { return u.account.Username }
func (u *passkeyUser) WebAuthnCredentials() []webauthn.Credential { return u.credentials }

func (s *Server) passkeyUser(ctx context.Context, account *identity.Account) (*passkeyUser, error) {
	keys, err := s.store.Passkeys(ctx, account.ID)
	if err != nil {
		return nil, err
	}
	u := &passkeyUser{account: account}
	for _, key := range keys {
		var c webauthn.Credential
		if err := json.Unmarshal(key.Credential, &c); err != nil {
			return nil, err
		}
		u.credentials = append(u.credentials, c)
	}
	return u, nil
}

// ceremony is what a form has for the browser's script: options, and what they will be checked against, sealed.
type ceremony struct{ Options, Sealed string }

func (s *Server) newCeremony(options any, session *webauthn.SessionData) (*ceremony, error) {
	text, err := json.Marshal(options)
	if err != nil {
		return nil, err
	}
	session.Expires = time.Now().Add(ceremonyLife)
	plain, err := json.Marshal(session)
	if err != nil {
		return nil, err
	}
	return &ceremony{string(text), sealedText(s.seal.seal(ceremonyPurpose, plain))}, nil
}

// openCeremony reads a form's ceremony, which works once.
func (s *Server) openCeremony(ctx context.Context, sealed string) (*webauthn.SessionData, error) {
	expired := bad("That took too long", "Open the page again.")
	plain, err := s.seal.open(ceremonyPurpose, unsealedText(sealed))
	if err != nil {
		return nil, expired
	}
	session := new(webauthn.SessionData)
	if json.Unmarshal(plain, session) != nil || time.Now().After(session.Expires) {
		return nil, expired
	}
	switch err := s.store.UseAssertion(ctx, "passkey", session.Challenge, s.now().Add(2*ceremonyLife)); {
	case errors.Is(err, identity.ErrUsed):
		return nil, expired
	case err != nil:
		return nil, err
	}
	return session, nil
}

// loginCeremony is for the sign-in page; nil where passkeys cannot be.
func (s *Server) loginCeremony() (*ceremony, error) {
	if s.passkeys == nil {
		return nil, nil
	}
	options, session, err := s.passkeys.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, err
	}
	return s.newCeremony(options, session)
}

// loginPasskey signs in by a passkey.
func (s *Server) loginPasskey(w http.ResponseWriter, r *http.Request) error {
	form, ctx := r.PostForm, r.Context()
	if s.passkeys == nil {
		return bad("There are no passkeys here", "Sign in with your password.")
	}
	session, err := s.openCeremony(ctx, form.Get("ceremony"))
	if err != nil {
		return err
	}
	refused := func() error {
		if err := s.note(ctx, Event{Action: ActLogin, Refused: true, Detail: "hwk"}); err != nil {
			return err
		}
		return s.showLogin(w, r, http.StatusUnauthorized, form.Get("request"), form.Get("to"), "", "This passkey does not open an account here.")
	}
	response, err := protocol.ParseCredentialRequestResponseBytes([]byte(form.Get("credential")))
	if err != nil {
		return refused()
	}
	var fault error
	find := func(_, handle []byte) (webauthn.User, error) {
		account, err := s.store.Account(ctx, string(handle))
		if err == nil {
			var u *passkeyUser
			if u, err = s.passkeyUser(ctx, account); err == nil {
				return u, nil
			}
		}
		if !errors.Is(err, identity.ErrNotFound) {
			fault = err
		}
		return nil, err
	}
	found, credential, err := s.passkeys.ValidatePasskeyLogin(find, *session, response)
	if fault != nil {
		return fault
	}
	if err != nil || credential.Authenticator.CloneWarning {
		return refused()
	}
	account := found.(*passkeyUser).account
	if account.Disabled || onlyPatient(account) {
		return refused()
	}
	content, err := json.Marshal(credential)
	if err != nil {
		return err
	}
	if err := s.store.UsedPasskey(ctx, credential.ID, content); err != nil {
		return err
	}
	if err := s.signIn(w, r, account, "hwk", "user"); err != nil {
		return err
	}
	return redirect(w, next(form.Get("request"), form.Get("to")))
}

// registerCeremony is for the account page of somebody who just gave the password.
func (s *Server) registerCeremony(ctx context.Context, account *identity.Account) (*ceremony, error) {
	u, err := s.passkeyUser(ctx, account)
	if err != nil {
		return nil, err
	}
	if s.passkeys == nil || len(u.credentials) >= maxPasskeys {
		return nil, bad("No passkey can be added", "Remove one first.")
	}
	var have []protocol.CredentialDescriptor
	for _, c := range u.credentials {
		have = append(have, c.Descriptor())
	}
	options, session, err := s.passkeys.BeginRegistration(u, webauthn.WithExclusions(have),
		webauthn.WithAuthenticatorSelection(protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, UserVerification: protocol.VerificationRequired,
		}))
	if err != nil {
		return nil, err
	}
	return s.newCeremony(options, session)
}

var errPasskeyNotAdded = bad("The passkey was not added", "The device's answer does not fit. Try again.")

// madePasskey checks what the device made.
func (s *Server) madePasskey(ctx context.Context, account *identity.Account, form url.Values) (*identity.Passkey, error) {
	if s.passkeys == nil {
		return nil, bad("No passkey can be added", "This address cannot have any.")
	}
	session, err := s.openCeremony(ctx, form.Get("ceremony"))
	if err != nil {
		return nil, err
	}
	u, err := s.passkeyUser(ctx, account)
	if err != nil {
		return nil, err
	}
	response, err := protocol.ParseCredentialCreationResponseBytes([]byte(form.Get("credential")))
	if err != nil {
		return nil, errPasskeyNotAdded
	}
	credential, err := s.passkeys.CreateCredential(u, *session, response)
	if err != nil {
		return nil, errPasskeyNotAdded
	}
	content, err := json.Marshal(credential)
	return &identity.Passkey{
		ID: credential.ID, Account: account.ID, Name: "Added " + s.now().UTC().Format("2 January 2006 15:04"), Credential: content,
	}, err
}

func (s *Server) addPasskey(ctx context.Context, made *identity.Passkey) error {
	err := s.store.AddPasskey(ctx, made)
	if errors.Is(err, identity.ErrExists) {
		return errPasskeyNotAdded
	}
	return err
}

// script serves the one script that there is.
func (s *Server) script(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(passkeyScript)
	return nil
}
