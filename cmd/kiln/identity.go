package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"kiln/auth"
	"kiln/auth/oauth"
	"kiln/internal/config"
	"kiln/resources"
	"kiln/server"
	"kiln/storage"
	"kiln/storage/identity"
)

// identityCmd is what the commands share that look after accounts, clients and tokens. They need the database and no
// more, so they work beside a running server: what they change counts from its next request on.
type identityCmd struct {
	config.Common   `embed:""`
	config.Database `embed:"" group:"Database"`
}

// with gives work the identities of the settings' database.
func (c *identityCmd) with(ctx context.Context, work func(context.Context, *identity.Store) error) error {
	return c.reaching(ctx, func(ctx context.Context, _ string, store *identity.Store) error { return work(ctx, store) })
}

// reaching is with, for work that needs more of the database than the identities, by its URL.
func (c *identityCmd) reaching(ctx context.Context, work func(ctx context.Context, databaseURL string, store *identity.Store) error) error {
	log := c.Logger()
	database, err := openMigrated(ctx, c.Database, true, log)
	if err != nil {
		return err
	}
	defer database.close(log)
	store, closeStore, err := identity.Open(ctx, database.url)
	if err != nil {
		return err
	}
	defer closeStore()
	return work(ctx, database.url, store)
}

// changing is with, in one transaction with the entry of the audit log that says what was done. what names no secret.
func (c *identityCmd) changing(ctx context.Context, what string, work func(context.Context, *identity.Store) error) error {
	return c.with(ctx, func(ctx context.Context, store *identity.Store) error { return change(ctx, store, what, work) })
}

// change does work in one transaction with its entry of the audit log.
func change(ctx context.Context, store *identity.Store, what string, work func(context.Context, *identity.Store) error) error {
	ctx, err := store.Begin(ctx)
	if err != nil {
		return err
	}
	defer store.Rollback(ctx)
	if err := work(ctx, store); err != nil {
		return err
	}
	e := resources.NewAct(time.Now(), auth.Operator("kiln command"), resources.ActCommand, what)
	if err := store.Note(ctx, e.Recorded, e.Text()); err != nil {
		return err
	}
	return store.Commit(ctx)
}

// said turns the store's errors into sentences about what a command named.
func said(err error, what string) error {
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return errors.New("there is no " + what)
	case errors.Is(err, identity.ErrExists):
		return errors.New("there is already a " + what)
	}
	return err
}

// plainID is what may be a client id: characters that need no encoding in a form, a URL or a Basic header.
var plainID = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,128}$`)

// openOAuth makes the authorization server of the settings; nil where they want none.
func openOAuth(ctx context.Context, c config.Config, store *storage.Store, service *resources.Service, log *slog.Logger) (*oauth.Server, error) {
	if c.Auth != "smart" {
		return nil, nil
	}
	secret := string(c.SecretKey)
	if secret == "" {
		var err error
		if secret, err = oauth.SecretFile(filepath.Join(c.DataDir, "secret.key")); err != nil {
			return nil, err
		}
	}
	// The page at /swagger/ signs in, and is launched, like any other app that can keep no secret.
	page := strings.TrimRight(c.BaseURL, "/") + "/swagger/"
	if err := store.Identity().KeepClient(ctx, &identity.Client{
		ID: server.SwaggerClient, Name: "Kiln API pages", AuthMethod: identity.AuthNone, GrantTypes: []string{"authorization_code"},
		RedirectURIs: []string{page + "oauth2-redirect.html"}, LaunchURI: page,
		Scope: "openid fhirUser launch launch/patient user/*.cruds patient/*.rs",
	}); err != nil {
		return nil, err
	}
	var admissions oauth.Admissions
	if c.PatientsRegister {
		admissions = server.Admissions{Service: service}
	}
	mode := map[string]oauth.RegistrationMode{"token": oauth.RegistrationToken, "open": oauth.RegistrationOpen}[c.Registration]
	system, err := systemScopes(c.RegistrationScope)
	if err != nil {
		return nil, err
	}
	authorization, err := oauth.New(oauth.Options{
		Store:       store.Identity(),
		Registry:    store.Registry,
		Origin:      c.BaseURL,
		FHIRBase:    strings.TrimRight(c.BaseURL, "/") + server.FHIRPath,
		Secret:      secret,
		Audit:       auditSignIns(store, service),
		Directory:   server.Directory{Service: service},
		Admissions:  admissions,
		Emergencies: server.Emergencies{Service: service},
		Logger:      log,
		Limits: oauth.Limits{
			AccessLife: c.AccessTokenLife, RefreshLife: c.RefreshTokenLife,
			SessionLife: c.SessionLife, SessionIdle: c.SessionIdle,
			LoginAttempts: c.LoginAttempts, LoginWindow: c.LoginWindow,
		},
		Registration: oauth.Registration{Mode: mode, Token: string(c.RegistrationToken), System: system},
		Outside: oauth.Outside{
			Issuer: c.OutsideIssuer, Name: c.OutsideName, ClientID: c.OutsideClientID, ClientSecret: string(c.OutsideSecret),
		},
	})
	if err != nil {
		return nil, err
	}
	if err := authorization.SecretFits(ctx); errors.Is(err, oauth.ErrOtherSecret) {
		// Records can be read all the same, with tokens that are there: so this is told, and does not end the start.
		log.Error("nobody can sign in with OpenID or one-time codes: KILN_SECRET_KEY, or secret.key in the data folder, is not the one that the keys in the database are encrypted with; where that is lost, kiln key rotate --secret-lost")
	} else if err != nil {
		return nil, err
	}
	return authorization, nil
}

// systemScopes reads KILN_REGISTRATION_SCOPE.
func systemScopes(text string) (auth.Scopes, error) {
	if text == "" {
		return nil, nil
	}
	checked, err := checkScopes(text)
	scopes, _ := auth.ParseScopes(checked)
	if err != nil || slices.ContainsFunc(scopes, func(s auth.Scope) bool { return s.Level != auth.LevelSystem }) {
		return nil, errors.Join(errors.New("KILN_REGISTRATION_SCOPE: want system scopes"), err)
	}
	return scopes, nil
}

// auditSignIns notes what the authorization server tells of. A name that somebody failed to sign in with is noted only where
// an account has it: people type passwords into the wrong field. Introspection and userinfo change nothing, and some ask with each
// request that they get: they are noted as reads are, without a transaction of their own.
func auditSignIns(store *storage.Store, service *resources.Service) func(context.Context, oauth.Event) error {
	accounts := store.Identity()
	return func(ctx context.Context, e oauth.Event) error {
		ctx = context.WithoutCancel(ctx)
		if e.Action == oauth.ActLogin && e.Refused {
			if _, err := accounts.AccountNamed(ctx, e.Principal.Name); err != nil {
				e.Principal.Name = "a name that no account has"
			}
		}
		entry, wanted := service.ActEntry(ctx, e.Principal, e.Action, e.Refused, e.Detail, e.Patient)
		if !wanted {
			return nil
		}
		if e.Action == oauth.ActIntrospect || e.Action == oauth.ActUserInfo {
			return store.Audit(ctx, entry)
		}
		return accounts.Note(ctx, entry.Recorded, entry.Text())
	}
}
