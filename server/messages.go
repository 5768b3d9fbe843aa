package server

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources"
	"kiln/storage"
)

// Outbox is what the page of messages shows and does, for administrators alone.
type Outbox interface {
	Outbox(ctx context.Context, p auth.Principal, state string, below int64) (*resources.Outbox, error)
	RetryMessage(ctx context.Context, p auth.Principal, id int64) error
}

//go:embed admin
var adminPages embed.FS

var messagesPage = template.Must(template.New("messages.html").Funcs(template.FuncMap{
	"when": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
}).ParseFS(adminPages, "admin/messages.html"))

const messagesPath = "/admin/messages"

// maxAdminForm bounds the form of the page.
const maxAdminForm = 4 << 10

// jobStateNames are what the page calls the states of jobs.
var jobStateNames = map[string]string{"discarded": "Given up", "retryable": "Failed, will be tried again", "running": "Being sent", "available": "Next",
	"scheduled": "Later", "completed": "Done", "cancelled": "Dropped: nothing to tell any more"}

// messagesView is everything that the page shows.
type messagesView struct {
	Outbox          *resources.Outbox
	State           string
	States          []string
	Names           map[string]string
	Retryable, Done bool
	Problem         string
	// Pages says that there are pages of the authorization server to go back to.
	Pages bool
}

// addMessages adds the page of messages.
func (s *server) addMessages(add func(string, map[string]action) *route) {
	if s.outbox == nil {
		return
	}
	add("/admin/style.css", map[string]action{http.MethodGet: func(x *exchange) error {
		data, err := adminPages.ReadFile("admin/style.css")
		if err != nil {
			return err
		}
		x.pagePolicy()
		return x.writeBody(http.StatusOK, []string{"text/css; charset=utf-8"}, data)
	}}).page = true
	add(messagesPath, map[string]action{http.MethodGet: (*exchange).showMessages, http.MethodPost: (*exchange).retryMessage}).page = true
}

// pagePolicy lets a page load its style and send its forms here, and nothing else.
func (x *exchange) pagePolicy() {
	x.header["Content-Security-Policy"] = []string{"default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"}
	x.header["Referrer-Policy"] = []string{"same-origin"} // no-referrer would make browsers send Origin: null with the form
	x.header["Cache-Control"] = []string{"no-store"}
}

// visitor is who looks at a page. ok is false where they have been sent to sign in; without an authorization server
// whoever reaches the server is its operator.
func (x *exchange) visitor() (p auth.Principal, ok bool) {
	if x.s.oauth == nil {
		return auth.Principal{}, true
	}
	if p, ok = x.s.oauth.SignedIn(x.r); !ok {
		x.header["Location"] = []string{x.s.oauth.SignInPage("messages")}
		x.header["Cache-Control"] = []string{"no-store"}
		x.writeEmpty(http.StatusSeeOther)
	}
	return p, ok
}

func (x *exchange) showMessages() error {
	p, ok := x.visitor()
	if !ok {
		return nil
	}
	query := x.r.URL.Query()
	v := &messagesView{State: query.Get("state"), States: storage.JobStates(), Names: jobStateNames, Done: query.Get("done") == "1"}
	if !slices.Contains(v.States, v.State) {
		v.State = v.States[0]
	}
	v.Retryable = slices.Contains([]string{"discarded", "retryable", "scheduled", "cancelled"}, v.State)
	below, err := strconv.ParseInt(query.Get("below"), 10, 64)
	if err != nil {
		below = 0
	}
	if v.Outbox, err = x.s.outbox.Outbox(x.r.Context(), p, v.State, below); err != nil {
		return x.messagesProblem(err)
	}
	return x.writePage(http.StatusOK, v)
}

func (x *exchange) retryMessage() error {
	p, ok := x.visitor()
	if !ok {
		return nil
	}
	if x.foreignForm() {
		return x.messagesProblem(fhir.NewError(fhir.Forbidden, fhir.CodeForbidden, "This form comes from another site"))
	}
	x.r.Body = http.MaxBytesReader(x, x.r.Body, maxAdminForm)
	if err := x.r.ParseForm(); err != nil {
		return x.messagesProblem(fhir.NewError(fhir.Invalid, fhir.CodeStructure, "The form cannot be read"))
	}
	id, err := strconv.ParseInt(x.r.PostForm.Get("id"), 10, 64)
	if err != nil {
		return x.messagesProblem(fhir.NewError(fhir.Invalid, fhir.CodeValue, "There is no such message"))
	}
	if err := x.s.outbox.RetryMessage(x.r.Context(), p, id); err != nil {
		return x.messagesProblem(err)
	}
	x.header["Location"] = []string{messagesPath + "?done=1&state=" + url.QueryEscape(x.r.PostForm.Get("state"))}
	x.writeEmpty(http.StatusSeeOther)
	return nil
}

// foreignForm says whether the browser tells that another site sent the form. Cookies of a session do not come with such
// a form either (SameSite). Behind a proxy the host that we see may not be the public one, so Origin is held against that.
func (x *exchange) foreignForm() bool {
	var c http.CrossOriginProtection
	own := strings.TrimSuffix(x.s.base, FHIRPath)
	return x.r.Header.Get("Origin") != own && c.Check(x.r) != nil
}

// messagesProblem tells of an error on the page; those of the server itself are told like any other.
func (x *exchange) messagesProblem(err error) error {
	told, ok := errors.AsType[*fhir.Error](err)
	status := map[fhir.Kind]int{fhir.Forbidden: http.StatusForbidden, fhir.Unauthenticated: http.StatusForbidden, fhir.Invalid: http.StatusBadRequest,
		fhir.NotFound: http.StatusNotFound}[fhir.KindOf(err)]
	if !ok || status == 0 {
		return err
	}
	return x.writePage(status, &messagesView{Problem: told.Issues[0].Text})
}

func (x *exchange) writePage(status int, v *messagesView) error {
	v.Pages = x.s.oauth != nil
	var b bytes.Buffer
	if err := messagesPage.Execute(&b, v); err != nil {
		return err
	}
	x.pagePolicy()
	return x.writeBody(status, []string{"text/html; charset=utf-8"}, b.Bytes())
}
