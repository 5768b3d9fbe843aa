package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"kiln/auth"
)

// signedIn is for pages that need somebody to be signed in; to names the page to come back to. Its error is written
// already when done is true.
func (s *Server) signedIn(w http.ResponseWriter, r *http.Request, to string) (v *visitor, done bool, err error) {
	if v = s.visitorOf(r); v == nil {
		return nil, true, redirect(w, pathLogin+"?to="+to)
	}
	return v, false, nil
}

// home leads on to what a person comes for most: staff to the launcher, patients to their apps.
func (s *Server) home(w http.ResponseWriter, r *http.Request) error {
	v, done, err := s.signedIn(w, r, "")
	if done {
		return err
	}
	if onlyPatient(v.account) {
		return redirect(w, pathApps)
	}
	return redirect(w, pathLaunch)
}

// appView is a line of the page of apps.
type appView struct {
	ID, Name string
	Since    time.Time
	Used     time.Time
	Scopes   []string
	Offline  bool
}

// apps lists what the user has let in.
func (s *Server) apps(w http.ResponseWriter, r *http.Request) error {
	visitor, done, err := s.signedIn(w, r, "apps")
	if done {
		return err
	}
	grants, err := s.store.Grants(r.Context(), visitor.account.ID)
	if err != nil {
		return err
	}
	v := s.view(r, "apps")
	v.Title, v.Done = "Apps with access", r.URL.Query().Has("done")
	byClient := map[string]*appView{}
	for _, g := range grants {
		if g.Client == "" {
			continue
		}
		app := byClient[g.Client]
		if app == nil {
			c, err := s.store.Client(r.Context(), g.Client)
			if err != nil {
				return err
			}
			app = &appView{ID: c.ID, Name: c.Name, Since: g.Created, Used: g.Used}
			byClient[g.Client] = app
			v.Apps = append(v.Apps, app)
		}
		if g.Created.Before(app.Since) {
			app.Since = g.Created
		}
		if g.Used.After(app.Used) {
			app.Used = g.Used
		}
		scopes, _ := auth.ParseScopes(g.Scope)
		for _, scope := range scopes {
			if scope.Text == scopeOffline {
				app.Offline = true
			}
			if scope.Level == auth.LevelNone {
				continue
			}
			c := choiceOf(scope, "")
			line := c.Label + ": " + c.Actions
			if c.Note != "" {
				line += " (" + c.Note + ")"
			}
			if !contains(app.Scopes, line) {
				app.Scopes = append(app.Scopes, line)
			}
		}
	}
	return s.write(w, http.StatusOK, v)
}

func contains(list []string, one string) bool {
	for _, have := range list {
		if have == one {
			return true
		}
	}
	return false
}

// revokeApp takes back everything that the user granted to an app. Its tokens fail from the next request on.
func (s *Server) revokeApp(w http.ResponseWriter, r *http.Request) error {
	visitor, done, err := s.signedIn(w, r, "apps")
	if done {
		return err
	}
	id := r.PostForm.Get("client")
	err = s.noted(r.Context(), &Event{Principal: s.self(visitor.account), Action: ActRevoke, Detail: id}, func(ctx context.Context) error {
		_, err := s.store.RevokeClient(ctx, visitor.account.ID, id)
		return err
	})
	if err != nil {
		return err
	}
	return redirect(w, pathApps+"?done")
}

// account is where people change how they sign in, and see where they are signed in.
func (s *Server) account(w http.ResponseWriter, r *http.Request) error {
	visitor, done, err := s.signedIn(w, r, "account")
	if done {
		return err
	}
	return s.showAccount(w, r, visitor, accountPage{})
}

// accountPage is what the account page shows beside what is always there: what was wrong, a new seed of one-time codes, a passkey
// about to be made, or new recovery codes, this once.
type accountPage struct {
	wrong fault
	seed  []byte
	made  *ceremony
	codes []string
}

func (s *Server) showAccount(w http.ResponseWriter, r *http.Request, visitor *visitor, page accountPage) error {
	sessions, err := s.store.Sessions(r.Context(), visitor.account.ID)
	if err != nil {
		return err
	}
	v := s.view(r, "account")
	v.Title, v.Fault, v.wrong, v.Done = "Your account", page.wrong.text, page.wrong.field, r.URL.Query().Has("done") || page.codes != nil
	v.Codes = page.codes
	v.Sessions, v.Account = len(sessions), visitor.account
	v.Staff = !onlyPatient(visitor.account)
	v.HasPasskeys = s.passkeys != nil
	if v.Passkeys, err = s.store.Passkeys(r.Context(), visitor.account.ID); err != nil {
		return err
	}
	if v.Ceremony = page.made; page.made != nil {
		v.Script = pathScript
	}
	if page.seed != nil {
		v.Seed, v.SeedURI = totpText(page.seed), s.totpURI(visitor.account.Username, page.seed)
		v.Halfway = sealedText(s.seal.seal(totpPurpose+"new"+visitor.account.ID, page.seed))
	}
	status := http.StatusOK
	if page.wrong.text != "" {
		status = http.StatusBadRequest
	}
	return s.write(w, status, v)
}

// currentFields are the ids of the fields for the current password, by what is done.
var currentFields = map[string]string{"password": "current", "totp-start": "current2", "totp-remove": "current2", "recovery": "current2", "passkey-start": "current3", "passkey-remove": "current3"}

// changeAccount takes one of the forms of the account page. Each change of how to sign in needs the password again.
func (s *Server) changeAccount(w http.ResponseWriter, r *http.Request) error {
	visitor, done, err := s.signedIn(w, r, "account")
	if done {
		return err
	}
	form, ctx, account := r.PostForm, r.Context(), visitor.account
	switch form.Get("do") {
	case "sign-out-others":
		return s.change(w, r, visitor, "other sessions ended", func(ctx context.Context) error {
			return s.store.EndOtherSessions(ctx, account.ID, visitor.login.ID)
		})
	case "password", "totp-start", "totp-remove", "recovery", "passkey-start", "passkey-remove":
		locked, err := s.attempt(r, account.Username)
		if err != nil {
			return err
		}
		fits := false
		if !locked && len(form.Get("current")) <= 4*MaxPassword && account.Password != "" {
			if fits, err = CheckPassword(account.Password, form.Get("current")); err != nil {
				return err
			}
		}
		if !fits {
			if err := s.note(ctx, Event{Principal: s.self(account), Action: ActCredential, Refused: true, Detail: form.Get("do")}); err != nil {
				return err
			}
			wrong := fault{currentFields[form.Get("do")], "The current password is wrong."}
			if locked {
				wrong.text = tooManyAttempts
			}
			return s.showAccount(w, r, visitor, accountPage{wrong: wrong})
		}
		if err := s.fitted(r, account.Username); err != nil {
			return err
		}
	}
	switch form.Get("do") {
	case "password":
		return s.changePassword(w, r, visitor)
	case "totp-start":
		return s.showAccount(w, r, visitor, accountPage{seed: newTOTPSeed()})
	case "totp-confirm":
		seed, err := s.seal.open(totpPurpose+"new"+account.ID, unsealedText(form.Get("halfway")))
		if err != nil {
			return bad("This page has expired", "Open your account page again.")
		}
		step, ok := s.totpFits(seed, form.Get("code"))
		if !ok {
			return s.showAccount(w, r, visitor, accountPage{wrong: fault{"code", "The code does not fit. Enter the one that your app shows now."}, seed: seed})
		}
		return s.giveCodes(w, r, visitor, "totp", func(ctx context.Context) error {
			account.TOTP = s.seal.seal(totpPurpose+account.ID, seed)
			return s.store.SetTOTP(ctx, account.ID, account.TOTP, step)
		})
	case "recovery":
		if account.TOTP == nil {
			return s.showAccount(w, r, visitor, accountPage{wrong: fault{"", "Recovery codes stand for one-time codes, which are off."}})
		}
		return s.giveCodes(w, r, visitor, "recovery codes", func(context.Context) error { return nil })
	case "totp-remove":
		return s.change(w, r, visitor, "totp removed", func(ctx context.Context) error { return s.store.SetTOTP(ctx, account.ID, nil, 0) })
	}
	return s.changePasskeys(w, r, visitor)
}

func (s *Server) changePasskeys(w http.ResponseWriter, r *http.Request, visitor *visitor) error {
	form, ctx, account := r.PostForm, r.Context(), visitor.account
	switch form.Get("do") {
	case "passkey-start":
		made, err := s.registerCeremony(ctx, account)
		if err != nil {
			return err
		}
		return s.showAccount(w, r, visitor, accountPage{made: made})
	case "passkey-confirm":
		made, err := s.madePasskey(ctx, account, form)
		if err != nil {
			return err
		}
		return s.change(w, r, visitor, "passkey", func(ctx context.Context) error { return s.addPasskey(ctx, made) })
	case "passkey-remove":
		return s.change(w, r, visitor, "passkey removed", func(ctx context.Context) error {
			return s.store.RemovePasskey(ctx, account.ID, unsealedText(form.Get("passkey")))
		})
	}
	return bad("This page has expired", "Open your account page again.")
}

func (s *Server) changePassword(w http.ResponseWriter, r *http.Request, visitor *visitor) error {
	form := r.PostForm
	if form.Get("new") != form.Get("again") {
		return s.showAccount(w, r, visitor, accountPage{wrong: fault{"again", "The two new passwords differ."}})
	}
	hash, err := HashPassword(form.Get("new"))
	if err != nil {
		return s.showAccount(w, r, visitor, accountPage{wrong: fault{"new", "Choose another password: " + err.Error() + "."}})
	}
	var cookie string
	return s.change(w, r, visitor, "password", func(ctx context.Context) error {
		if err := s.store.SetPassword(ctx, visitor.account.ID, hash); err != nil {
			return err
		}
		// That ended every session, this one too: whoever just proved both passwords gets a new one.
		var err error
		cookie, err = s.startSession(ctx, "", visitor.account, visitor.login.Methods)
		return err
	}, func() { s.setCookie(w, "session", cookie, s.limits.SessionLife) })
}

// change does a change of how somebody signs in, notes it, and shows the account page, after what is to be done then.
func (s *Server) change(w http.ResponseWriter, r *http.Request, visitor *visitor, what string, work func(context.Context) error, then ...func()) error {
	if err := s.noted(r.Context(), &Event{Principal: s.self(visitor.account), Action: ActCredential, Detail: what}, work); err != nil {
		return err
	}
	for _, f := range then {
		f()
	}
	return redirect(w, pathAccount+"?done")
}

// giveCodes does a change, with which new recovery codes are made, notes it, and shows them.
func (s *Server) giveCodes(w http.ResponseWriter, r *http.Request, visitor *visitor, what string, work func(context.Context) error) error {
	codes, hashes := newRecoveryCodes()
	if err := s.noted(r.Context(), &Event{Principal: s.self(visitor.account), Action: ActCredential, Detail: what}, func(ctx context.Context) error {
		if err := work(ctx); err != nil {
			return err
		}
		return s.store.SetRecoveryCodes(ctx, visitor.account.ID, hashes)
	}); err != nil {
		return err
	}
	return s.showAccount(w, r, visitor, accountPage{codes: codes})
}

// jsonOf is for values whose encoding cannot fail.
func jsonOf(v any) json.RawMessage {
	b, _ := json.Marshal(v)
	return b
}
