package main

import (
	"context"
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
	"kiln/fhir"
	"kiln/storage/identity"
)

type userCmd struct {
	Add      userAddCmd      `cmd:"" help:"Make an account."`
	List     userListCmd     `cmd:"" help:"List the accounts."`
	FHIRUser userFHIRUserCmd `cmd:"" name:"fhir-user" help:"Say whom an account stands for, instead of before; its sessions end and its tokens are revoked."`
	Disable  userDisableCmd  `cmd:"" help:"Close an account: its sessions end and its tokens are revoked."`
	Password userPasswordCmd `cmd:"" help:"Set the password of an account; its sessions end and its tokens are revoked."`
	Factors  userFactorsCmd  `cmd:"" name:"remove-factors" help:"Take one-time codes and passkeys off an account whose owner has lost the device; its sessions end and its tokens are revoked."`
	Link     userLinkCmd     `cmd:"" help:"Let somebody of an outside OpenID provider sign in to an account."`
	Unlink   userUnlinkCmd   `cmd:"" help:"Take that back; the account's sessions end and its tokens are revoked."`
}

type userAddCmd struct {
	identityCmd `embed:""`
	Username    string   `name:"username" required:"" placeholder:"NAME" help:"The name to sign in with."`
	Password    string   `name:"password" required:"" placeholder:"TEXT" help:"8 characters at least, or - to read it from standard input, which keeps it out of the list of processes."`
	Role        []string `name:"role" required:"" placeholder:"ROLE" help:"patient, practitioner or admin; may be repeated."`
	FHIRUser    []string `name:"fhir-user" placeholder:"TYPE/ID" help:"Whom the account stands for, such as Patient/1 or Practitioner/2. May be repeated: patients choose in whose name an app acts; staff act as the Practitioner, else as the first."`
}

// Run makes the account.
func (c *userAddCmd) Run(ctx context.Context) error {
	account := &identity.Account{Username: strings.TrimSpace(c.Username), Roles: slices.Compact(slices.Sorted(slices.Values(c.Role))), FHIRUser: c.FHIRUser}
	if account.Username == "" || len(account.Username) > 200 || strings.ContainsFunc(account.Username, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("--username: 1 to 200 characters")
	}
	for _, role := range c.Role {
		if !slices.Contains(auth.Roles(), auth.Role(role)) {
			return fmt.Errorf("--role: %q is not one of patient, practitioner, admin", role)
		}
	}
	if err := checkLinks(account); err != nil {
		return err
	}
	password, err := givenPassword(c.Password)
	if err != nil {
		return err
	}
	if account.Password, err = oauth.HashPassword(password); err != nil {
		return err
	}
	return c.changing(ctx, "user add "+c.Username, func(ctx context.Context, store *identity.Store) error {
		if err := said(store.AddAccount(ctx, account), "user "+account.Username); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "user %s may sign in\n", account.Username)
		if account.Has("practitioner") && account.Linked("Practitioner") == "" {
			fmt.Fprintf(os.Stderr, "but sees no patient as a practitioner: that needs --fhir-user Practitioner/ID, which kiln user fhir-user says too\n")
		}
		return nil
	})
}

// checkLinks says what is wrong with the resources that an account is to stand for.
func checkLinks(account *identity.Account) error {
	for _, ref := range account.FHIRUser {
		typ, id, _ := strings.Cut(ref, "/")
		if !slices.Contains([]string{"Patient", "Practitioner", "RelatedPerson", "Person"}, typ) || !fhir.ValidID(id) {
			return fmt.Errorf("--fhir-user: %q is not Patient/ID, Practitioner/ID, RelatedPerson/ID or Person/ID", ref)
		}
	}
	if account.Has("patient") && account.Linked("Patient") == "" && account.Linked("RelatedPerson") == "" {
		return errors.New("--role patient needs --fhir-user Patient/ID, or RelatedPerson/ID of a person who acts for a patient")
	}
	return nil
}

type userFHIRUserCmd struct {
	identityCmd `embed:""`
	Username    string   `name:"username" required:"" placeholder:"NAME" help:"The account."`
	FHIRUser    []string `name:"fhir-user" required:"" placeholder:"TYPE/ID" help:"As for user add: all of them, the first first."`
}

// Run sets whom the account stands for.
func (c *userFHIRUserCmd) Run(ctx context.Context) error {
	return c.changing(ctx, "user fhir-user "+c.Username, func(ctx context.Context, store *identity.Store) error {
		account, err := store.AccountNamed(ctx, c.Username)
		if err != nil {
			return said(err, "user "+c.Username)
		}
		account.FHIRUser = c.FHIRUser
		if err := checkLinks(account); err != nil {
			return err
		}
		return store.SetFHIRUser(ctx, account.ID, account.FHIRUser)
	})
}

func givenPassword(flag string) (string, error) {
	if flag != "-" {
		return flag, nil
	}
	content, err := io.ReadAll(io.LimitReader(os.Stdin, 4*oauth.MaxPassword))
	return strings.TrimRight(string(content), "\r\n"), err
}

type userListCmd struct {
	identityCmd `embed:""`
}

// Run prints a line for each account.
func (c *userListCmd) Run(ctx context.Context, stdout io.Writer) error {
	return c.with(ctx, func(ctx context.Context, store *identity.Store) error {
		all, err := store.Accounts(ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "USERNAME\tROLES\tSTANDS FOR\tSTATE\tOUTSIDE")
		for _, a := range all {
			state := "open"
			if a.Disabled {
				state = "closed"
			}
			linked, err := store.OutsideOf(ctx, a.ID)
			if err != nil {
				return err
			}
			var outside []string
			for _, o := range linked {
				outside = append(outside, o.Issuer+" "+o.Subject)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", a.Username, strings.Join(a.Roles, ","), strings.Join(a.FHIRUser, ","), state, strings.Join(outside, ", "))
		}
		return w.Flush()
	})
}

type userDisableCmd struct {
	identityCmd `embed:""`
	Username    string `name:"username" required:"" placeholder:"NAME" help:"The account."`
	Undo        bool   `name:"undo" help:"Open it again."`
}

// Run closes the account, or opens it again.
func (c *userDisableCmd) Run(ctx context.Context) error {
	return c.changing(ctx, "user disable "+c.Username, func(ctx context.Context, store *identity.Store) error {
		account, err := store.AccountNamed(ctx, c.Username)
		if err != nil {
			return said(err, "user "+c.Username)
		}
		return store.DisableAccount(ctx, account.ID, !c.Undo)
	})
}

type userPasswordCmd struct {
	identityCmd `embed:""`
	Username    string `name:"username" required:"" placeholder:"NAME" help:"The account."`
	Password    string `name:"password" required:"" placeholder:"TEXT" help:"The new password, or - to read it from standard input."`
}

// Run sets the password.
func (c *userPasswordCmd) Run(ctx context.Context) error {
	password, err := givenPassword(c.Password)
	if err != nil {
		return err
	}
	hash, err := oauth.HashPassword(password)
	if err != nil {
		return err
	}
	return c.changing(ctx, "user password "+c.Username, func(ctx context.Context, store *identity.Store) error {
		account, err := store.AccountNamed(ctx, c.Username)
		if err != nil {
			return said(err, "user "+c.Username)
		}
		return store.SetPassword(ctx, account.ID, hash)
	})
}

type userFactorsCmd struct {
	identityCmd `embed:""`
	Username    string `name:"username" required:"" placeholder:"NAME" help:"The account."`
}

// Run takes one-time codes and passkeys off the account.
func (c *userFactorsCmd) Run(ctx context.Context) error {
	return c.changing(ctx, "user remove-factors "+c.Username, func(ctx context.Context, store *identity.Store) error {
		account, err := store.AccountNamed(ctx, c.Username)
		if err != nil {
			return said(err, "user "+c.Username)
		}
		return store.RemoveFactors(ctx, account.ID)
	})
}

type userLinkCmd struct {
	identityCmd `embed:""`
	Username    string `name:"username" required:"" placeholder:"NAME" help:"The account."`
	Issuer      string `name:"issuer" required:"" placeholder:"URL" help:"The provider, as in KILN_OUTSIDE_ISSUER."`
	Subject     string `name:"subject" required:"" placeholder:"SUB" help:"Who they are there: the claim sub, which the sign-in page tells those that nobody has linked."`
}

// Run links the account.
func (c *userLinkCmd) Run(ctx context.Context) error {
	if u, err := url.Parse(c.Issuer); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || c.Subject == "" || len(c.Subject) > 255 {
		return errors.New("--issuer and --subject: what the provider's id_token says in iss, a URL, and in sub")
	}
	return c.changing(ctx, "user link "+c.Username, func(ctx context.Context, store *identity.Store) error {
		account, err := store.AccountNamed(ctx, c.Username)
		if err != nil {
			return said(err, "user "+c.Username)
		}
		return said(store.LinkOutside(ctx, account.ID, identity.Outside{Issuer: c.Issuer, Subject: c.Subject}), "user linked to "+c.Subject)
	})
}

type userUnlinkCmd struct {
	identityCmd `embed:""`
	Username    string `name:"username" required:"" placeholder:"NAME" help:"The account."`
}

// Run unlinks the account from all providers.
func (c *userUnlinkCmd) Run(ctx context.Context) error {
	return c.changing(ctx, "user unlink "+c.Username, func(ctx context.Context, store *identity.Store) error {
		account, err := store.AccountNamed(ctx, c.Username)
		if err != nil {
			return said(err, "user "+c.Username)
		}
		return said(store.UnlinkOutside(ctx, account.ID), "user "+c.Username+" that is linked to a provider")
	})
}
