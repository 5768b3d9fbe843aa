package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"

	"kiln/auth/oauth"
	"kiln/internal/config"
	"kiln/storage/identity"
)

// demoPassword opens the demo users. Everybody can read it here, so they are there on a loopback address only.
const demoPassword = "kiln-demo"

// demoUsers are who can sign in to the demo data: one of each role.
func demoUsers() []*identity.Account {
	return []*identity.Account{
		{Username: "demo-patient", Roles: []string{"patient"}, FHIRUser: []string{"Patient/demo-ines"}},
		{Username: "demo-doctor", Roles: []string{"practitioner"}, FHIRUser: []string{"Practitioner/demo-okafor"}},
		{Username: "demo-admin", Roles: []string{"admin"}},
	}
}

// addDemoUsers makes the demo users that are not there yet.
func addDemoUsers(ctx context.Context, store *identity.Store) error {
	hash, err := oauth.HashPassword(demoPassword)
	if err != nil {
		return err
	}
	for _, account := range demoUsers() {
		account.Password = hash
		if err := store.AddAccount(ctx, account); err != nil && !errors.Is(err, identity.ErrExists) {
			return err
		}
	}
	return nil
}

// closeDemoUsers closes the demo users that still have the password that everybody knows. It returns how many.
func closeDemoUsers(ctx context.Context, store *identity.Store) (closed int, err error) {
	for _, demo := range demoUsers() {
		account, err := store.AccountNamed(ctx, demo.Username)
		if errors.Is(err, identity.ErrNotFound) || err == nil && account.Disabled {
			continue
		}
		if err != nil {
			return closed, err
		}
		if known, err := oauth.CheckPassword(account.Password, demoPassword); err != nil || !known {
			continue // changed, or none at all
		}
		if err := store.DisableAccount(ctx, account.ID, true); err != nil {
			return closed, err
		}
		closed++
	}
	return closed, nil
}

// demo looks after the demo users: made on a loopback address when the demo data are asked for, closed where others than
// the people at this machine reach the server.
func (c *serveCmd) demo(ctx context.Context, databaseURL string, log *slog.Logger) error {
	home := atHome(c.HTTP)
	if c.Auth != "smart" || home && !c.Seed {
		return nil
	}
	store, closeStore, err := identity.Open(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer closeStore()
	if home {
		return addDemoUsers(ctx, store)
	}
	closed, err := closeDemoUsers(ctx, store)
	if closed > 0 {
		log.Warn("closed the demo users, whose password everybody knows; kiln user password and kiln user disable --undo open them", "users", closed)
	}
	return err
}

// atHome says whether only this machine reaches the server: by its address, and by the one that it tells others.
func atHome(c config.HTTP) bool {
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil || !config.IsLoopback(host) {
		return false
	}
	u, err := url.Parse(c.BaseURL)
	return err == nil && config.IsLoopback(u.Hostname())
}
