package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"kiln/auth"
	"kiln/auth/oauth"
	"kiln/conformance"
	"kiln/storage/identity"
)

type clientCmd struct {
	Add    clientAddCmd    `cmd:"" help:"Register an app or a backend system."`
	List   clientListCmd   `cmd:"" help:"List the registered clients."`
	Rotate clientRotateCmd `cmd:"" help:"Replace the secret or the keys of a client."`
	Remove clientRemoveCmd `cmd:"" help:"Remove a client and revoke everything it was granted."`
}

type clientAddCmd struct {
	identityCmd `embed:""`
	ID          string   `name:"id" required:"" placeholder:"ID" help:"The client_id: letters, digits, - . _ ~"`
	Name        string   `name:"name" placeholder:"NAME" help:"What people see. Empty: the id."`
	Secret      string   `name:"secret" placeholder:"TEXT" help:"The client's secret, 12 characters at least. With neither this, --jwks, --jwks-uri nor --public one is made and printed."`
	JWKS        string   `name:"jwks" placeholder:"FILE" help:"The client's public keys, a JWK set: it signs assertions (private_key_jwt)."`
	JWKSURI     string   `name:"jwks-uri" placeholder:"URL" help:"Where the client's public keys are."`
	RedirectURI []string `name:"redirect-uri" sep:"none" placeholder:"URI" help:"Where the app is answered; may be repeated."`
	LaunchURI   string   `name:"launch-uri" placeholder:"URI" help:"Where the app is launched from Kiln."`
	Grant       []string `name:"grant" required:"" placeholder:"TYPE" help:"authorization_code, refresh_token or client_credentials; may be repeated."`
	Scope       string   `name:"scope" required:"" placeholder:"SCOPES" help:"What it may ask for at most, such as \"launch/patient openid fhirUser patient/*.rs\"."`
	Public      bool     `name:"public" help:"An app that can keep no secret: in a browser or on a phone."`
}

// Run registers the client and prints its secret if it was made here.
func (c *clientAddCmd) Run(ctx context.Context, stdout io.Writer) error {
	client, made, err := c.client()
	if err != nil {
		return err
	}
	return c.changing(ctx, "client add "+c.ID, func(ctx context.Context, store *identity.Store) error {
		if err := said(store.AddClient(ctx, client), "client "+c.ID); err != nil {
			return err
		}
		if made != "" {
			fmt.Fprintln(stdout, made)
		}
		fmt.Fprintf(os.Stderr, "client %s is registered (%s)\n", client.ID, client.AuthMethod)
		return nil
	})
}

// client makes what is to be stored, and a secret where one is needed and none was given.
func (c *clientAddCmd) client() (client *identity.Client, made string, err error) {
	if !plainID.MatchString(c.ID) {
		return nil, "", errors.New("--id: 1 to 128 letters, digits, - . _ ~")
	}
	client = &identity.Client{
		ID: c.ID, Name: c.Name, RedirectURIs: c.RedirectURI, LaunchURI: c.LaunchURI, GrantTypes: slices.Compact(slices.Sorted(slices.Values(c.Grant))),
	}
	if client.Name == "" {
		client.Name = c.ID
	}
	for _, grant := range c.Grant {
		if !slices.Contains(oauth.GrantTypes(), grant) {
			return nil, "", fmt.Errorf("--grant: %q is not one of %s", grant, strings.Join(oauth.GrantTypes(), ", "))
		}
	}
	if client.Scope, err = checkScopes(c.Scope); err != nil {
		return nil, "", err
	}
	if made, err = c.credential(client); err != nil {
		return nil, "", err
	}
	if client.May("authorization_code") && len(c.RedirectURI) == 0 {
		return nil, "", errors.New("--grant authorization_code needs a --redirect-uri")
	}
	if client.May("client_credentials") && client.AuthMethod != identity.AuthPrivateKey {
		return nil, "", errors.New("--grant client_credentials needs --jwks or --jwks-uri: SMART Backend Services knows signed assertions only")
	}
	for _, uri := range c.RedirectURI {
		if err := oauth.CheckRedirectURI(uri); err != nil {
			return nil, "", fmt.Errorf("--redirect-uri %s: %w", uri, err)
		}
	}
	if c.LaunchURI != "" {
		if u, err := url.Parse(c.LaunchURI); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			return nil, "", errors.New("--launch-uri: want an http or https URL")
		}
	}
	return client, made, nil
}

func (c *clientAddCmd) credential(client *identity.Client) (made string, err error) {
	ways := 0
	for _, given := range []bool{c.Public, c.Secret != "", c.JWKS != "", c.JWKSURI != ""} {
		if given {
			ways++
		}
	}
	switch {
	case ways > 1:
		return "", errors.New("give one of --public, --secret, --jwks and --jwks-uri")
	case c.Public:
		client.AuthMethod = identity.AuthNone
	case c.JWKS != "" || c.JWKSURI != "":
		client.AuthMethod = identity.AuthPrivateKey
		client.JWKS, client.JWKSURI, err = readKeys(c.JWKS, c.JWKSURI)
	default:
		secret := c.Secret
		if secret == "" {
			secret = oauth.NewSecret()
			made = secret
		} else if err := oauth.CheckSecret(secret); err != nil {
			return "", fmt.Errorf("--secret: %w", err)
		}
		client.AuthMethod, client.Secret = identity.AuthSecret, identity.Hash(secret)
	}
	return made, err
}

// readKeys reads a key set from a file, or checks the URL that it will be fetched from.
func readKeys(file, uri string) (json.RawMessage, string, error) {
	if uri != "" {
		u, err := url.Parse(uri)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			return nil, "", errors.New("--jwks-uri: want an http or https URL")
		}
		return nil, uri, nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, "", fmt.Errorf("--jwks: %w", err)
	}
	if _, err := oauth.ParseJWKS(content); err != nil {
		return nil, "", fmt.Errorf("--jwks %s: %w", file, err)
	}
	return content, "", nil
}

// checkScopes refuses scopes that could never be granted, where a person can still correct them.
func checkScopes(text string) (string, error) {
	scopes, faults := auth.ParseScopes(text)
	registry, err := conformance.R4()
	if err != nil {
		return "", err
	}
	for i := range scopes {
		faults = append(faults, scopes[i].Check(registry))
	}
	if err := errors.Join(faults...); err != nil {
		return "", fmt.Errorf("--scope: %w", err)
	}
	if len(scopes) == 0 {
		return "", errors.New("--scope: at least one")
	}
	return scopes.String(), nil
}

type clientListCmd struct {
	identityCmd `embed:""`
}

// Run prints a line for each client.
func (c *clientListCmd) Run(ctx context.Context, stdout io.Writer) error {
	return c.with(ctx, func(ctx context.Context, store *identity.Store) error {
		all, err := store.Clients(ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tNAME\tAUTHENTICATION\tGRANTS\tSCOPE")
		for _, client := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", client.ID, client.Name, client.AuthMethod, strings.Join(client.GrantTypes, ","), client.Scope)
		}
		return w.Flush()
	})
}

type clientRotateCmd struct {
	identityCmd `embed:""`
	ID          string `name:"id" required:"" placeholder:"ID" help:"The client."`
	Secret      string `name:"secret" placeholder:"TEXT" help:"The new secret, 12 characters at least. Empty, for a client that has a secret: one is made and printed."`
	JWKS        string `name:"jwks" placeholder:"FILE" help:"The new public keys."`
	JWKSURI     string `name:"jwks-uri" placeholder:"URL" help:"Where the new public keys are."`
}

// Run replaces the credential at once: the old one is of no use from the next request on.
func (c *clientRotateCmd) Run(ctx context.Context, stdout io.Writer) error {
	return c.changing(ctx, "client rotate "+c.ID, func(ctx context.Context, store *identity.Store) error {
		if c.JWKS != "" || c.JWKSURI != "" {
			jwks, uri, err := readKeys(c.JWKS, c.JWKSURI)
			if err != nil {
				return err
			}
			return said(store.SetJWKS(ctx, c.ID, jwks, uri), "client "+c.ID+" that signs assertions")
		}
		secret := c.Secret
		if secret == "" {
			secret = oauth.NewSecret()
		} else if err := oauth.CheckSecret(secret); err != nil {
			return fmt.Errorf("--secret: %w", err)
		}
		if err := said(store.SetSecret(ctx, c.ID, identity.Hash(secret)), "client "+c.ID+" that has a secret"); err != nil {
			return err
		}
		if c.Secret == "" {
			fmt.Fprintln(stdout, secret)
		}
		return nil
	})
}

type clientRemoveCmd struct {
	identityCmd `embed:""`
	ID          string `name:"id" required:"" placeholder:"ID" help:"The client."`
}

// Run removes the client.
func (c *clientRemoveCmd) Run(ctx context.Context) error {
	return c.changing(ctx, "client remove "+c.ID, func(ctx context.Context, store *identity.Store) error {
		return said(store.RemoveClient(ctx, c.ID), "client "+c.ID)
	})
}
