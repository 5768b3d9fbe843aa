package oauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/ory/fosite"

	"kiln/storage/identity"
)

// Launch says which app is launched by whom, and with what in context.
type Launch struct {
	Client, Account                 string
	Patient, Encounter, Appointment string
}

// AddLaunch records a launch and returns its value, which the app brings back within five minutes, once.
func AddLaunch(ctx context.Context, store *identity.Store, l Launch, now time.Time) (string, error) {
	value := randomSecret()
	return value, store.AddLaunch(ctx, &identity.Launch{
		ID: identity.Hash(value), Client: l.Client, Account: l.Account, Expires: now.Add(launchLife),
		Context: jsonOf(Context{Patient: l.Patient, Encounter: l.Encounter, Appointment: l.Appointment}),
	})
}

// CheckLaunch says whether an app would get what a launch is for: by the same rules as when the app comes with it. d shows
// what the account may see.
//
// Errors: a Refusal.
func CheckLaunch(ctx context.Context, store *identity.Store, d Directory, a *identity.Account, l Launch) error {
	s := &Server{store: store, options: Options{Directory: d}}
	f := &flow{visitor: &visitor{account: a}}
	charges, err := s.charges(ctx, a)
	if err != nil {
		return err
	}
	if err = f.act(charges); err == nil {
		f.launchedWith(Context{Patient: l.Patient, Encounter: l.Encounter, Appointment: l.Appointment}, charges)
		_, err = s.about(ctx, f)
	}
	if refused := (*fosite.RFC6749Error)(nil); errors.As(err, &refused) {
		return &Refusal{refused.HintField}
	}
	return err
}

// IssueToken makes an access token outside of any flow, for an operator who has the database. scope was checked.
func IssueToken(ctx context.Context, store *identity.Store, scope string, life time.Duration, now time.Time) (token, grant string, err error) {
	return issueToken(ctx, store, "", Context{Username: operatorClient, Roles: []string{"admin"}}, scope, life, now)
}

// IssueUserToken is IssueToken for the rights of an account, with a patient in context; "" for none.
func IssueUserToken(ctx context.Context, store *identity.Store, a *identity.Account, patient, scope string, life time.Duration, now time.Time) (token, grant string, err error) {
	about := Context{Username: a.Username, Roles: a.Roles, Linked: a.FHIRUser, Patient: patient}
	if len(a.FHIRUser) > 0 {
		about.FHIRUser = a.FHIRUser[0]
	}
	return issueToken(ctx, store, a.ID, about, scope, life, now)
}

// IssueProof records an access token that nobody holds and that has no scopes: what is found of it opens nothing. A check of who sees what asks
// with its hash, as requests do with those of theirs (storage.NewProof).
func IssueProof(ctx context.Context, store *identity.Store, life time.Duration, now time.Time) (hash []byte, grant string, err error) {
	hash, grant = make([]byte, sha256.Size), "cli-"+randomSecret()[:22]
	if _, err := rand.Read(hash); err != nil {
		return nil, "", err
	}
	if err := store.EnsureGrant(ctx, &identity.Grant{ID: grant, Context: jsonOf(Context{Username: operatorClient})}); err != nil {
		return nil, "", err
	}
	return hash, grant, store.AddToken(ctx, &identity.Token{Hash: hash, Kind: identity.Access, Grant: grant, Expires: now.Add(life)})
}

func issueToken(ctx context.Context, store *identity.Store, account string, about Context, scope string, life time.Duration, now time.Time) (token, grant string, err error) {
	token, _, err = generate(accessPrefix)
	if err != nil {
		return "", "", err
	}
	grant = "cli-" + randomSecret()[:22]
	if err := store.EnsureGrant(ctx, &identity.Grant{ID: grant, Account: account, Requested: scope, Scope: scope, Context: jsonOf(about)}); err != nil {
		return "", "", err
	}
	return token, grant, store.AddToken(ctx, &identity.Token{
		Hash: identity.Hash(token), Kind: identity.Access, Grant: grant, Scope: scope, Expires: now.Add(life),
	})
}
