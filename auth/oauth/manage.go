package oauth

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"kiln/storage/identity"
)

// maxListed bounds the users on the page of administrators; the search finds the others.
const maxListed = 50

// clientView is an app or a backend system as administrators see it.
type clientView struct {
	*identity.Client
	identity.Use
	// Kind says how it gets in, Lasting that the server keeps it.
	Kind    string
	Lasting bool
}

var kindOfClient = map[string]string{
	identity.AuthNone: "public app", identity.AuthSecret: "app with a secret", identity.AuthPrivateKey: "app that signs",
}

// manage shows administrators the apps, the backend systems and the users.
func (s *Server) manage(w http.ResponseWriter, r *http.Request) error {
	visitor, done, err := s.administrator(w, r, "manage")
	if done || err != nil {
		return err
	}
	ctx := r.Context()
	v := s.view(r, "manage")
	v.Title, v.Done, v.Query = "Apps and users", r.URL.Query().Has("done"), strings.TrimSpace(r.URL.Query().Get("q"))
	if len(v.Query) > 200 {
		v.Query = v.Query[:200]
	}
	uses, err := s.store.Uses(ctx)
	if err != nil {
		return err
	}
	clients, err := s.store.Clients(ctx)
	if err != nil {
		return err
	}
	for _, c := range clients {
		kind := kindOfClient[c.AuthMethod]
		if slices.Equal(c.GrantTypes, []string{grantClient}) {
			kind = "backend system"
		}
		v.Managed = append(v.Managed, clientView{c, uses[c.ID], kind, c.RegisteredBy == "server"})
	}
	v.Account = visitor.account
	if v.Accounts, err = s.store.AccountsLike(ctx, strings.ToValidUTF8(strings.ReplaceAll(v.Query, "\x00", ""), ""), maxListed); err != nil {
		return err
	}
	return s.write(w, http.StatusOK, v)
}

// changeManaged does what an administrator chose. It counts from the next request on, on every node.
func (s *Server) changeManaged(w http.ResponseWriter, r *http.Request) error {
	visitor, done, err := s.administrator(w, r, "manage")
	if done || err != nil {
		return err
	}
	form, ctx := r.PostForm, r.Context()
	what := form.Get("do")
	event := Event{Principal: s.self(visitor.account), Action: ActCredential, Detail: what + " " + form.Get("client") + form.Get("account")}
	var work func(context.Context) error
	switch what {
	case "revoke-client", "remove-client":
		event.Action = ActRevoke
		work = func(ctx context.Context) error { return s.changeClient(ctx, what, form.Get("client")) }
	case "close-user", "open-user", "sign-out-user":
		if form.Get("account") == visitor.account.ID {
			return bad("That is you", "Another administrator can do this to you.")
		}
		work = func(ctx context.Context) error { return s.changeUser(ctx, what, form.Get("account")) }
	default:
		return bad("This page has expired", "Open it again.")
	}
	if err = s.noted(ctx, &event, work); err != nil {
		event.Refused = true
		if fault := s.note(ctx, event); fault != nil {
			return fault
		}
	}
	if errors.Is(err, identity.ErrNotFound) {
		return &problem{http.StatusNotFound, "It is not there any more", "Somebody else may have removed it. Open the page again."}
	}
	if err != nil {
		return err
	}
	return redirect(w, pathManage+"?done")
}

func (s *Server) changeClient(ctx context.Context, what, id string) error {
	c, err := s.store.Client(ctx, id)
	if err != nil {
		return err
	}
	if what == "revoke-client" {
		_, err := s.store.RevokeAll(ctx, id)
		return err
	}
	if c.RegisteredBy == "server" {
		return bad("The server keeps this one", "It would be back after the next start.")
	}
	return s.store.RemoveClient(ctx, id)
}

func (s *Server) changeUser(ctx context.Context, what, id string) error {
	if uuid.Validate(id) != nil {
		return identity.ErrNotFound
	}
	account, err := s.store.Account(ctx, id)
	if err != nil {
		return err
	}
	if what == "sign-out-user" {
		return s.store.EndAccount(ctx, account.ID)
	}
	return s.store.DisableAccount(ctx, account.ID, what == "close-user")
}
