package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"kiln/auth"
	"kiln/storage/identity"
)

// loginPage asks for name and password. It knows what the user was about: an app's request, or one of our pages.
func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	return s.showLogin(w, r, http.StatusOK, query.Get("request"), query.Get("to"), "", "")
}

func (s *Server) showLogin(w http.ResponseWriter, r *http.Request, status int, handle, to, username, fault string) error {
	v := s.view(r, "login")
	v.Title, v.Request, v.To, v.Username, v.Fault = "Sign in", handle, to, username, fault
	if fault == wrongLogin {
		v.wrong = "password"
	}
	v.JoinLink = s.joinLink(handle)
	if handle != "" {
		pending, err := s.store.Request(r.Context(), identity.Hash(handle))
		if err != nil {
			return err
		}
		var form url.Values
		if err := json.Unmarshal(pending.Form, &form); err != nil {
			return err
		}
		if v.Client, err = s.store.Client(r.Context(), form.Get("client_id")); err != nil {
			return err
		}
		v.formAction = formActionOf(form.Get("redirect_uri"))
	}
	if s.outside != nil {
		v.Outside = s.outside.Name
		v.formAction += formActionOf(s.outside.Issuer)
	}
	ceremony, err := s.loginCeremony()
	if err != nil {
		return err
	}
	if v.Ceremony = ceremony; ceremony != nil {
		v.Script = pathScript
	}
	return s.write(w, status, v)
}

// ownPages are where a sign-in may lead to beside an app's request: names, so that no URL is ever followed.
var ownPages = map[string]string{"": pathHome, "apps": pathApps, "account": pathAccount, "messages": "/admin/messages", "launch": pathLaunch, "manage": pathManage, "newcomers": pathNewcomers, "emergencies": pathEmergencies}

// next is where the user goes once signed in.
func next(handle, to string) string {
	if handle != "" {
		return pathContinue + "?request=" + url.QueryEscape(handle)
	}
	if path, ok := ownPages[to]; ok {
		return path
	}
	return pathHome
}

const (
	wrongLogin      = "The name or the password is wrong, or the account is closed."
	tooManyAttempts = "Too many attempts have failed. Wait a while, then try again."
)

// login takes name and password.
func (s *Server) login(w http.ResponseWriter, r *http.Request) error {
	form := r.PostForm
	username, handle, to := form.Get("username"), form.Get("request"), form.Get("to")
	if len(username) > 200 || len(form.Get("password")) > 4*MaxPassword {
		return s.showLogin(w, r, http.StatusUnauthorized, handle, to, "", wrongLogin)
	}
	locked, err := s.attempt(r, username)
	if err != nil {
		return err
	}
	if locked {
		if err := s.note(r.Context(), Event{Principal: auth.Principal{Name: username}, Action: ActLogin, Refused: true, Detail: "locked out"}); err != nil {
			return err
		}
		return s.showLogin(w, r, http.StatusTooManyRequests, handle, to, username, tooManyAttempts)
	}
	account, err := s.checkLogin(r, username, form.Get("password"))
	if err != nil {
		return err
	}
	if account == nil {
		if err := s.note(r.Context(), Event{Principal: auth.Principal{Name: username}, Action: ActLogin, Refused: true, Detail: "pwd"}); err != nil {
			return err
		}
		return s.showLogin(w, r, http.StatusUnauthorized, handle, to, username, wrongLogin)
	}
	if err := s.fitted(r, username); err != nil {
		return err
	}
	if account.TOTP != nil {
		return s.showCode(w, r, http.StatusOK, account, "pwd", handle, to, fault{})
	}
	if err := s.signIn(w, r, account, "pwd"); err != nil {
		return err
	}
	return redirect(w, next(handle, to))
}

// checkLogin returns the account that name and password open, nil for none. Its work is the same for a name that does
// not exist.
func (s *Server) checkLogin(r *http.Request, username, password string) (*identity.Account, error) {
	account, err := s.store.AccountNamed(r.Context(), username)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return nil, err
	}
	hash := decoyHash
	if account != nil && account.Password != "" {
		hash = account.Password
	}
	fits, err := CheckPassword(hash, password)
	if err != nil {
		return nil, err
	}
	if !fits || account == nil || account.Password == "" || account.Disabled {
		return nil, nil
	}
	return account, nil
}

// halfway is what a person carries between the first step, by Method, and the one-time code, sealed.
type halfway struct {
	Account string    `json:"a"`
	Method  string    `json:"m"`
	Until   time.Time `json:"u"`
}

const halfwayPurpose, halfwayLife = "second factor", 5 * time.Minute

func (s *Server) showCode(w http.ResponseWriter, r *http.Request, status int, account *identity.Account, method, handle, to string, wrong fault) error {
	plain, err := json.Marshal(halfway{account.ID, method, s.now().Add(halfwayLife)})
	if err != nil {
		return err
	}
	v := s.view(r, "code")
	v.Title, v.Request, v.To, v.Fault, v.wrong = "One more step", handle, to, wrong.text, wrong.field
	v.Halfway = sealedText(s.seal.seal(halfwayPurpose, plain))
	return s.write(w, status, v)
}

// loginCode takes the one-time code after the first step, or a recovery code instead.
func (s *Server) loginCode(w http.ResponseWriter, r *http.Request) error {
	form := r.PostForm
	expired := bad("That took too long", "Sign in again.")
	plain, err := s.seal.open(halfwayPurpose, unsealedText(form.Get("halfway")))
	if err != nil {
		return expired
	}
	var at halfway
	if json.Unmarshal(plain, &at) != nil || s.now().After(at.Until) {
		return expired
	}
	account, err := s.store.Account(r.Context(), at.Account)
	if err != nil {
		return err
	}
	locked, err := s.attempt(r, account.Username)
	if err != nil {
		return err
	}
	if locked || account.Disabled {
		if err := s.note(r.Context(), Event{Principal: s.self(account), Action: ActLogin, Refused: true, Detail: at.Method + " locked out"}); err != nil {
			return err
		}
		return s.showLogin(w, r, http.StatusTooManyRequests, form.Get("request"), form.Get("to"), account.Username, tooManyAttempts)
	}
	use, field := s.useTOTP, "code"
	if form.Has("recovery") {
		use, field = s.useRecoveryCode, "recovery"
	}
	fits, err := use(r.Context(), account, form.Get(field))
	if err != nil {
		return err
	}
	if !fits {
		if err := s.note(r.Context(), Event{Principal: s.self(account), Action: ActLogin, Refused: true, Detail: at.Method + " otp"}); err != nil {
			return err
		}
		return s.showCode(w, r, http.StatusUnauthorized, account, at.Method, form.Get("request"), form.Get("to"), fault{field, "The code is wrong, or was used before."})
	}
	if err := s.fitted(r, account.Username); err != nil {
		return err
	}
	if err := s.signIn(w, r, account, at.Method, "otp"); err != nil {
		return err
	}
	return redirect(w, next(form.Get("request"), form.Get("to")))
}

// logout ends the session of this browser.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	if v := s.visitorOf(r); v != nil {
		if err := s.noted(r.Context(), &Event{Principal: s.self(v.account), Action: ActLogout}, func(ctx context.Context) error {
			return s.store.EndSession(ctx, v.login.ID)
		}); err != nil {
			return err
		}
	}
	s.setCookie(w, "session", "", -1)
	return redirect(w, pathLogin)
}
