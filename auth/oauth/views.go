package oauth

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"kiln/auth"
	"kiln/storage/identity"
)

//go:embed pages
var pageFiles embed.FS

//go:embed pages/style.css
var styleSheet []byte

// views are the templates of the pages: each file of pages/ fills the frame of layout.html.
type views struct{ pages map[string]*template.Template }

// view is everything that a page can show; each uses what it needs.
type view struct {
	page string
	// Token goes into every form; see Server.guarded.
	Token string
	Title string
	// Text and Fault are sentences: what happened, and what was wrong with the form.
	Text, Fault string
	// wrong is the id of the field that Fault is about, "" for none.
	wrong string
	// Done says that what was asked for before this page happened.
	Done bool
	// User is who is signed in, "" for nobody; Staff says whether they see more than themselves.
	User  string
	Staff bool
	// Admits says that they decide about people who register.
	Admits bool
	// Script is the path of the page's script, "" for none.
	Script string

	// Request is the handle of the app's request that the page is part of, To one of our own pages to go on to.
	Request, To string
	Client      *identity.Client
	Destination string
	Username    string
	Halfway     string
	// Managed and Accounts are for administrators, who see them.
	Managed  []clientView
	Accounts []*identity.Account
	Manages  bool
	// Emergencies are for administrators, Emergency the one that they look at, All that reviewed ones are shown too; Reviews says
	// that the user may see them.
	Emergencies []Emergency
	Emergency   *Emergency
	All         bool
	Reviews     bool
	// Outside names the provider that people may sign in with, "" for none.
	Outside string

	// Join is the form of somebody who registers, JoinLink where to find it, "" for nowhere. Waiting counts those whom
	// staff have not looked at.
	Join     joinForm
	JoinLink string
	Waiting  int

	// Charges are records to choose from in the role of a patient; Searches says that there is a search beside them.
	Charges  []charge
	Searches bool

	Query   string
	Entries []Entry
	Patient *Entry

	Choices                   []choice
	Identity, Offline, Online bool
	Self                      string // the resource that stands for the user, where the app may read it

	Apps     []*appView
	Clients  []*identity.Client
	Sessions int
	Account  *identity.Account
	Seed     string
	SeedURI  template.URL
	Codes    []string
	// Ceremony is for a form that asks the device for a passkey; HasPasskeys says that the page may offer to add one.
	Ceremony    *ceremony
	Passkeys    []*identity.Passkey
	HasPasskeys bool

	// formAction is added to the page's policy.
	formAction string
}

func parseViews() (*views, error) {
	functions := template.FuncMap{
		"minute": func(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") },
		"text":   sealedText,
		"day":    func(t time.Time) string { return t.UTC().Format("2 January 2006") },
	}
	names, err := fs.Glob(pageFiles, "pages/*.html")
	if err != nil {
		return nil, err
	}
	v := &views{pages: map[string]*template.Template{}}
	for _, name := range names {
		base := strings.TrimSuffix(path.Base(name), ".html")
		if base == "layout" {
			continue
		}
		t, err := template.New("layout.html").Funcs(functions).ParseFS(pageFiles, "pages/layout.html", name)
		if err != nil {
			return nil, fmt.Errorf("oauth: page %s: %w", base, err)
		}
		v.pages[base] = t
	}
	return v, nil
}

// At ties a field to what is wrong with it, for those who hear the page: they come to the field without the sentence above.
func (v *view) At(id string) template.HTMLAttr {
	if v.Fault == "" || v.wrong != id {
		return ""
	}
	return ` aria-invalid="true" aria-describedby="fault"`
}

func (v *views) render(w io.Writer, data *view) error {
	page, ok := v.pages[data.page]
	if !ok {
		return fmt.Errorf("oauth: there is no page %q", data.page)
	}
	return page.Execute(w, data)
}

// view begins a page for whoever sends a request. The token of its forms hangs on the browser's cookie, which browse
// makes sure of.
func (s *Server) view(r *http.Request, page string) *view {
	v := &view{page: page, Token: s.formToken(s.cookie(r, "browser"), s.cookie(r, "session"))}
	if visitor := s.visitorOf(r); visitor != nil {
		v.User, v.Staff = visitor.account.Username, !onlyPatient(visitor.account)
		v.Manages = visitor.account.Has(string(auth.RoleAdmin))
		v.Reviews = v.Manages && s.options.Emergencies != nil
		v.Admits = s.options.Admissions != nil && visitor.account.Has(string(auth.RoleAdmin))
	}
	return v
}

// browse gives a browser that comes for the first time its cookie, before anything looks for it.
func (s *Server) browse(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if s.cookie(r, "browser") == "" {
			value := randomSecret()
			s.setCookie(w, "browser", value, 400*24*time.Hour)
			r.AddCookie(&http.Cookie{Name: s.cookieName("browser"), Value: value})
		}
		return h(w, r)
	}
}
