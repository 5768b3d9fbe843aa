package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"kiln/auth/oauth"
	"kiln/internal/config"
	"kiln/storage/identity"
)

type keyCmd struct {
	List   keyListCmd   `cmd:"" help:"List the keys that id_tokens are signed with and verified by."`
	Rotate keyRotateCmd `cmd:"" help:"Replace the signing key, before its 90 days are over."`
}

type keyListCmd struct {
	identityCmd `embed:""`
}

// Run prints a line for each key that is published.
func (c *keyListCmd) Run(ctx context.Context, stdout io.Writer) error {
	return c.with(ctx, func(ctx context.Context, store *identity.Store) error {
		keys, err := oauth.SigningKeys(ctx, store, time.Now())
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "KEY\tSIGNS FROM\tPUBLISHED UNTIL\tSTATE")
		for _, key := range keys {
			state, until := "published", "-"
			if key.Signs {
				state = "signs"
			} else if key.From.After(time.Now()) {
				state = "next"
			}
			if !key.Until.IsZero() {
				until = key.Until.UTC().Format(time.RFC3339)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", key.KID, key.From.UTC().Format(time.RFC3339), until, state)
		}
		return w.Flush()
	})
}

type keyRotateCmd struct {
	identityCmd   `embed:""`
	config.SignIn `embed:"" group:"Sign-in"`
	Distrust      bool `name:"distrust" help:"The old keys may be known to others: take them out of use at once. id_tokens that they signed verify no more."`
	SecretLost    bool `name:"secret-lost" help:"The secret key that encrypts the old keys is lost, and the server has that of these settings now: as --distrust."`
}

// Run replaces the key and prints the id of the new one.
func (c *keyRotateCmd) Run(ctx context.Context, stdout io.Writer) error {
	secret := string(c.SecretKey)
	if secret == "" {
		file := filepath.Join(c.DataDir, "secret.key")
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) { // SecretFile would make one that the server does not know
			return fmt.Errorf("there is no %s: give the server's KILN_SECRET_KEY, or its --data-dir", file)
		}
		var err error
		if secret, err = oauth.SecretFile(file); err != nil {
			return err
		}
	}
	what := "key rotate"
	why := oauth.RotateInTime
	switch {
	case c.SecretLost:
		what, why = what+" --secret-lost", oauth.RotateLost
	case c.Distrust:
		what, why = what+" --distrust", oauth.RotateDistrusted
	}
	return c.changing(ctx, what, func(ctx context.Context, store *identity.Store) error {
		kid, err := oauth.RotateKey(ctx, store, secret, why, time.Now())
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, kid)
		return nil
	})
}
