package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"kiln/auth"
	"kiln/storage/identity"
)

// Newcomer is what a person says who registers as a patient. Its fields have been looked at.
type Newcomer struct {
	Given, Family string
	// Born is YYYY-MM-DD; Gender a code of administrative-gender, or "".
	Born, Gender string
	// Email and Phone are "" where they were not given.
	Email, Phone string
}

// Admissions keeps the records of people who register by themselves. Whom it shows, and what it changes, is for the
// principal to see and change.
type Admissions interface {
	// Admit makes a Patient of a newcomer, marked as not verified, and returns its id.
	Admit(ctx context.Context, n Newcomer) (id string, err error)
	// Waiting lists Patients who are not verified, those who wait longest first, and counts them all.
	Waiting(ctx context.Context, as auth.Principal) (list []Entry, total int, err error)
	// Alike finds Patients who may be the same person, likeliest first, with how sure that is in Entry.Note.
	Alike(ctx context.Context, as auth.Principal, id string) ([]Entry, error)
	// Verify takes away the mark. Unify makes the record of a newcomer part of another's. Reject takes it out of use.
	// Errors: ErrNoEntry.
	Verify(ctx context.Context, as auth.Principal, id string) error
	Unify(ctx context.Context, as auth.Principal, id, other string) error
	Reject(ctx context.Context, as auth.Principal, id string) error
}

// Bounds of registrations by patients; docs/limits.md publishes them.
const (
	// joinsPerWindow is how many people one address may register within the window of failed sign-ins.
	joinsPerWindow = 10
	// maxWaiting is how many registrations may wait for staff; beyond it, nobody can register.
	maxWaiting = 500
	maxField   = 100
)

// joinForm is the form as it came, to be shown again.
type joinForm struct {
	Newcomer
	Username string
}

// joinPage is where a person becomes a patient.
func (s *Server) joinPage(w http.ResponseWriter, r *http.Request) error {
	return s.showJoin(w, r, http.StatusOK, r.URL.Query().Get("request"), joinForm{}, fault{})
}

func (s *Server) showJoin(w http.ResponseWriter, r *http.Request, status int, handle string, f joinForm, wrong fault) error {
	v := s.view(r, "join")
	v.Title, v.Request, v.Join, v.Fault, v.wrong = "Register as a patient", handle, f, wrong.text, wrong.field
	return s.write(w, status, v)
}

// join makes a Patient and an account, and signs in. The record holds nothing but what the person says: staff look at
// it, and only they can make it one with a record that is there already.
func (s *Server) join(w http.ResponseWriter, r *http.Request) error {
	form := r.PostForm
	handle, password := form.Get("request"), form.Get("password")
	text := func(name string) string { return strings.Join(strings.Fields(form.Get(name)), " ") }
	f := joinForm{Newcomer{Given: text("given"), Family: text("family"), Born: text("born"), Gender: text("gender"),
		Email: text("email"), Phone: text("phone")}, text("username")}
	if wrong := s.checkJoin(f, password, form.Get("again")); wrong.text != "" {
		return s.showJoin(w, r, http.StatusUnprocessableEntity, handle, f, wrong)
	}
	if full, err := s.tooManyJoins(r); err != nil {
		return err
	} else if full {
		return s.showJoin(w, r, http.StatusTooManyRequests, handle, f, fault{text: "Too many people are registering. Try again later, or call us."})
	}
	hash, err := HashPassword(password)
	if err != nil {
		return err
	}
	if _, err := s.store.AccountNamed(r.Context(), f.Username); err == nil {
		return s.showJoin(w, r, http.StatusConflict, handle, f, fault{"username", "Somebody has that user name already. Choose another."})
	} else if !errors.Is(err, identity.ErrNotFound) {
		return err
	}
	id, err := s.options.Admissions.Admit(r.Context(), f.Newcomer)
	if err != nil {
		return err
	}
	account := &identity.Account{Username: f.Username, Password: hash, Roles: []string{string(auth.RolePatient)}, FHIRUser: []string{"Patient/" + id}}
	event := Event{Action: ActJoin, Detail: f.Username, Patient: id}
	err = s.noted(r.Context(), &event, func(ctx context.Context) error {
		if err := s.store.AddAccount(ctx, account); err != nil {
			return err
		}
		event.Principal = s.self(account)
		return nil
	})
	if errors.Is(err, identity.ErrExists) { // taken in this moment
		if err := s.options.Admissions.Reject(r.Context(), auth.System(), id); err != nil {
			return err
		}
		return s.showJoin(w, r, http.StatusConflict, handle, f, fault{"username", "Somebody has that user name already. Choose another."})
	}
	if err != nil {
		return err
	}
	if err := s.signIn(w, r, account, "pwd"); err != nil {
		return err
	}
	return redirect(w, next(handle, ""))
}

// fault is what is wrong with a form, and the id of the field; "" for none.
type fault struct{ field, text string }

// checkJoin says what is wrong with a form.
func (s *Server) checkJoin(f joinForm, password, again string) fault {
	for _, field := range [][2]string{{"given", f.Given}, {"family", f.Family}, {"born", f.Born}, {"email", f.Email}, {"phone", f.Phone}, {"username", f.Username}} {
		if utf8.RuneCountInString(field[1]) > maxField || strings.ContainsFunc(field[1], func(r rune) bool { return r < ' ' || r == utf8.RuneError }) {
			return fault{field[0], fmt.Sprintf("A field is longer than %d characters, or has characters that cannot be kept.", maxField)}
		}
	}
	born, err := time.Parse(time.DateOnly, f.Born)
	switch {
	case f.Given == "":
		return fault{"given", "Give your given name and your family name."}
	case f.Family == "":
		return fault{"family", "Give your given name and your family name."}
	case err != nil || born.After(s.now()) || born.Year() < s.now().Year()-130:
		return fault{"born", "Give your date of birth, such as 1984-07-02."}
	case f.Gender != "" && f.Gender != "female" && f.Gender != "male" && f.Gender != "other" && f.Gender != "unknown":
		return fault{"gender", "Choose one of the genders, or none."}
	case f.Email == "" && f.Phone == "":
		return fault{"email", "Give an e-mail address or a telephone number, so that we can reach you."}
	case f.Email != "" && (strings.Count(f.Email, "@") != 1 || strings.Contains(f.Email, " ") || strings.HasPrefix(f.Email, "@") || strings.HasSuffix(f.Email, "@")):
		return fault{"email", "The e-mail address is not one."}
	case f.Phone != "" && strings.Trim(f.Phone, "+0123456789 ()-/.") != "":
		return fault{"phone", "The telephone number has letters in it."}
	case utf8.RuneCountInString(f.Username) < 3 || strings.Contains(f.Username, " "):
		return fault{"username", "Choose a user name of three characters at least, without blanks."}
	case password != again:
		return fault{"again", "The two passwords are not the same."}
	}
	if _, err := HashPassword(password); err != nil {
		return fault{"password", "Choose a password: " + err.Error() + "."}
	}
	return fault{}
}

// tooManyJoins counts this try and says whether there were too many.
func (s *Server) tooManyJoins(r *http.Request) (bool, error) {
	if _, waiting, err := s.options.Admissions.Waiting(r.Context(), auth.System()); err != nil || waiting >= maxWaiting {
		return true, err
	}
	address := addressSubject(r)
	if address == "" {
		return false, nil
	}
	return s.counted(r.Context(), limited{"join-" + address, joinsPerWindow})
}

// newcomers is where administrators look at who has registered: the list, or one of them beside those who may be the
// same.
func (s *Server) newcomers(w http.ResponseWriter, r *http.Request) error {
	visitor, done, err := s.administrator(w, r, "newcomers")
	if done || err != nil {
		return err
	}
	as := s.staff(visitor.account)
	v := s.view(r, "newcomers")
	v.Title, v.Done = "People who registered", r.URL.Query().Has("done")
	if id := r.URL.Query().Get("patient"); id != "" {
		entry, err := s.options.Directory.Entry(r.Context(), as, "Patient", id)
		if err != nil {
			return noSuchNewcomer(err)
		}
		v.Title, v.Patient = "Who is this?", &entry
		v.Entries, err = s.options.Admissions.Alike(r.Context(), as, id)
		if err != nil {
			return noSuchNewcomer(err)
		}
		return s.write(w, http.StatusOK, v)
	}
	v.Entries, v.Waiting, err = s.options.Admissions.Waiting(r.Context(), as)
	if err != nil {
		return err
	}
	return s.write(w, http.StatusOK, v)
}

func noSuchNewcomer(err error) error {
	if errors.Is(err, ErrNoEntry) {
		return &problem{http.StatusNotFound, "There is nobody like that", "Somebody else may have decided already. Go back to the list."}
	}
	return err
}

// judge takes an administrator's decision about a newcomer.
func (s *Server) judge(w http.ResponseWriter, r *http.Request) error {
	visitor, done, err := s.administrator(w, r, "newcomers")
	if done || err != nil {
		return err
	}
	as, id, other := s.staff(visitor.account), r.PostForm.Get("patient"), r.PostForm.Get("other")
	decision := r.PostForm.Get("do")
	switch {
	case decision == "verify":
		err = s.options.Admissions.Verify(r.Context(), as, id)
	case decision == "unify" && other != "":
		err = s.options.Admissions.Unify(r.Context(), as, id, other)
	case decision == "reject":
		if err = s.options.Admissions.Reject(r.Context(), as, id); err == nil {
			err = s.closeAccounts(r.Context(), "Patient/"+id)
		}
	default:
		return &problem{http.StatusBadRequest, "Nothing was chosen", "Go back and choose what to do."}
	}
	if err != nil {
		return noSuchNewcomer(err)
	}
	if err := s.note(r.Context(), Event{Principal: as, Action: ActJudge, Detail: decision, Patient: id}); err != nil {
		return err
	}
	return redirect(w, pathNewcomers+"?done")
}

func (s *Server) closeAccounts(ctx context.Context, reference string) error {
	list, err := s.store.AccountsOf(ctx, reference)
	if err != nil {
		return err
	}
	for _, a := range list {
		if err := s.store.DisableAccount(ctx, a.ID, true); err != nil {
			return err
		}
	}
	return nil
}

// administrator is signedIn for pages that only administrators may see.
func (s *Server) administrator(w http.ResponseWriter, r *http.Request, to string) (*visitor, bool, error) {
	visitor, done, err := s.signedIn(w, r, to)
	if done {
		return nil, true, err
	}
	if !visitor.account.Has(string(auth.RoleAdmin)) {
		if err := s.note(r.Context(), Event{Principal: s.self(visitor.account), Action: ActAdminister, Refused: true, Detail: r.Method + " " + to}); err != nil {
			return nil, true, err
		}
		return nil, true, &problem{http.StatusForbidden, "This page is for administrators", "Sign in with an account that has that role."}
	}
	return visitor, false, nil
}

// staff is an administrator at a page where Patients are changed.
func (s *Server) staff(a *identity.Account) auth.Principal {
	p := s.self(a)
	p.Scopes, _ = auth.ParseScopes("user/*.cruds")
	return p
}

// joinLink is where the page of sign-in leads people who have no account; "" where nobody can register.
func (s *Server) joinLink(handle string) string {
	if s.options.Admissions == nil {
		return ""
	}
	return pathJoin + "?request=" + url.QueryEscape(handle)
}
