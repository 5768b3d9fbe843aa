package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ory/fosite"

	"kiln/auth"
	"kiln/storage/identity"
)

// flow is an authorization request of a user who has signed in, on its way to a decision.
type flow struct {
	handle  string
	pending *identity.Request
	form    url.Values
	client  *client
	visitor *visitor
	// asked is what can be granted at most; launch is the launch that the app was started by, or nil.
	asked   auth.Scopes
	launch  *identity.Launch
	context Context
}

// flowOf finds the request whose handle came with r. Errors: a problem; errLogin where the user must sign in first.
func (s *Server) flowOf(r *http.Request, handle string) (*flow, error) {
	ctx := r.Context()
	pending, err := s.store.Request(ctx, identity.Hash(handle))
	if err != nil {
		return nil, err
	}
	f := &flow{handle: handle, pending: pending}
	if err := json.Unmarshal(pending.Form, &f.form); err != nil {
		return nil, err
	}
	c, err := s.store.Client(ctx, f.form.Get("client_id"))
	if err != nil {
		return nil, err
	}
	f.client = &client{c}
	f.asked = s.askable(f.client, f.form.Get("scope"), f.form.Get("launch") != "")
	f.visitor = s.visitorOf(r)
	if f.visitor == nil || s.loginNeeded(f.form, pending.Created, f.visitor.login) {
		return f, errLogin
	}
	if err := s.store.BindRequest(ctx, pending.ID, f.visitor.login.ID); errors.Is(err, identity.ErrUsed) {
		return nil, bad("This page belongs to somebody else", "Go back to the app and start again.")
	} else if err != nil {
		return nil, err
	}
	return f, nil
}

var errLogin = errors.New("oauth: the user must sign in")

// settle finds the context that the request is about. It says what is still to be asked of the user: a patient, or
// nothing. Errors: fosite's, for the app.
func (s *Server) settle(ctx context.Context, f *flow) (pick bool, err error) {
	account := f.visitor.account
	f.context = Context{
		Username: account.Username, Roles: account.Roles, Linked: account.FHIRUser, AuthTime: f.visitor.login.Created,
		Methods: f.visitor.login.Methods,
	}
	charges, err := s.charges(ctx, account)
	if err != nil {
		return false, err
	}
	if err := f.act(charges); err != nil {
		return false, err
	}
	if value := f.form.Get("launch"); value != "" {
		launch, err := s.store.Launch(ctx, identity.Hash(value))
		switch {
		case errors.Is(err, identity.ErrNotFound):
			return false, fosite.ErrInvalidRequest.WithHint("The launch is not known, has expired or was used before.")
		case err != nil:
			return false, err
		case launch.Client != f.client.ID || launch.Account != account.ID:
			return false, fosite.ErrInvalidRequest.WithHint("The launch was made for another app or user.")
		}
		var from Context
		if err := json.Unmarshal(launch.Context, &from); err != nil {
			return false, err
		}
		f.launch = launch
		if f.asked.Has(scopeLaunch) || wantsPatient(f.asked) {
			f.launchedWith(from, charges)
		}
	}
	if f.context.Encounter == "" { // nobody chooses one here: it comes with a launch or not at all
		f.asked = slices.DeleteFunc(f.asked, func(scope auth.Scope) bool { return scope.Text == scopeLaunchEncounter })
		if len(f.asked) == 0 {
			return false, fosite.ErrInvalidScope.WithHint("There is no encounter in this launch.")
		}
	}
	if !wantsPatient(f.asked) || f.context.Patient != "" {
		return false, nil
	}
	if onlyPatient(account) && len(charges) == 1 {
		f.take(charges[0])
		return false, nil
	}
	switch chosen, is := charged(charges, f.pending.Link, ""); {
	case f.pending.Link != "" && is:
		f.take(chosen)
	case f.pending.Link == "" && f.pending.Patient != "" && !onlyPatient(account):
		f.context.Patient = f.pending.Patient
	default:
		return true, nil
	}
	return false, nil
}

// act settles what the user acts through: the resource at work, or of who is a patient and nothing else the first record that
// they may open, beside which they may open the others. Errors: access_denied, for the app, where there is none.
func (f *flow) act(charges []charge) error {
	f.context.FHIRUser = staffLink(f.visitor.account)
	if !onlyPatient(f.visitor.account) {
		return nil
	}
	if len(charges) == 0 {
		return fosite.ErrAccessDenied.WithHint("The user has no record, and acts for nobody, at this time.")
	}
	f.take(charges[0])
	f.context.Patient = ""
	for _, c := range charges[1:] {
		f.context.Others = append(f.context.Others, auth.Record{Link: c.Link, Patient: c.Patient})
	}
	return nil
}

// launchedWith makes what a launch is about what the request is about.
func (f *flow) launchedWith(from Context, charges []charge) {
	f.context.Patient, f.context.Encounter, f.context.Appointment = from.Patient, from.Encounter, from.Appointment
	f.context.EHR = true
	if mine, is := charged(charges, "", from.Patient); is && onlyPatient(f.visitor.account) {
		f.take(mine)
	}
}

// take makes a charge what the request is about: its patient, and the resource that the user acts through.
func (f *flow) take(c charge) {
	f.context.FHIRUser, f.context.Patient, f.context.Represents, f.context.Others = c.Link, c.Patient, "", nil
	if !c.Own() {
		f.context.Represents = c.Patient
	}
}

// principal is the user at Kiln's own pages, as the one whom the request is about knows them.
func (s *Server) principal(f *flow) auth.Principal {
	p := s.self(f.visitor.account)
	p.FHIRUser, p.Represents = f.context.FHIRUser, f.context.Represents
	return p
}

func onlyPatient(a *identity.Account) bool { return !a.Has("practitioner") && !a.Has("admin") }

// self is the user at Kiln's own pages, where they may see what their roles let them see of the types that the pages
// show.
func (s *Server) self(a *identity.Account) auth.Principal {
	p := auth.Principal{User: a.ID, Name: a.Username, Roles: roles(a.Roles)}
	if len(a.FHIRUser) > 0 {
		p.FHIRUser = a.FHIRUser[0]
	}
	p.Patient = strings.TrimPrefix(a.Linked("Patient"), "Patient/")
	p.Scopes, _ = auth.ParseScopes("user/Patient.rs user/Encounter.rs user/Appointment.rs user/Practitioner.rs user/RelatedPerson.rs user/Person.rs")
	return p
}

// staffed is self at work: a user who is a patient too acts as what they are at work.
func (s *Server) staffed(a *identity.Account) auth.Principal {
	p := s.self(a)
	p.FHIRUser = staffLink(a)
	return p
}

// proceed shows the next page of a request: sign-in, choice of a patient, or consent.
func (s *Server) proceed(w http.ResponseWriter, r *http.Request) error {
	f, err := s.flowOf(r, r.URL.Query().Get("request"))
	if errors.Is(err, errLogin) {
		return redirect(w, pathLogin+"?request="+url.QueryEscape(f.handle))
	}
	if err != nil {
		return err
	}
	pick, err := s.settle(r.Context(), f)
	if err != nil {
		return s.refuseFlow(w, r, f, err)
	}
	if pick {
		return s.showPicker(w, r, f)
	}
	return s.showConsent(w, r, f, "")
}

// refuseFlow ends a request that cannot be granted and tells the app, and the audit log, why. The entry names no patient: it
// may be one whom the user may not know of.
func (s *Server) refuseFlow(w http.ResponseWriter, r *http.Request, f *flow, err error) error {
	e, fault := tell(err)
	if fault {
		return err
	}
	if err := s.note(r.Context(), Event{Principal: s.principal(f), Action: ActGrant, Refused: true, Detail: f.client.ID + ": " + e.Description}); err != nil {
		return err
	}
	return s.endFlow(w, r, f, e)
}

// endFlow ends a request and tells the app why.
func (s *Server) endFlow(w http.ResponseWriter, r *http.Request, f *flow, e oauthError) error {
	if err := s.store.EndRequest(r.Context(), f.pending.ID); err != nil {
		return err
	}
	return backToApp(w, f.form.Get("redirect_uri"), f.form.Get("state"), url.Values{"error": {e.Code}, "error_description": {e.Description}})
}

// showPicker shows the patients that the user may see and that fit what was typed.
func (s *Server) showPicker(w http.ResponseWriter, r *http.Request, f *flow) error {
	v := s.view(r, "patient")
	v.Title, v.Client, v.Request, v.Searches = "Choose a patient", f.client.Client, f.handle, !onlyPatient(f.visitor.account)
	if p := s.principal(f); f.asked.Has(scopeFHIRUser) {
		if p.Scopes = f.asked; p.ReadsSelf() {
			v.Self = p.FHIRUser
		}
	}
	v.formAction = formActionOf(f.form.Get("redirect_uri"))
	charges, err := s.charges(r.Context(), f.visitor.account)
	if err != nil {
		return err
	}
	if v.Charges, err = s.shown(r.Context(), f.visitor.account, charges); err != nil || !v.Searches {
		if err == nil {
			err = s.write(w, http.StatusOK, v)
		}
		return err
	}
	v.Query = strings.TrimSpace(r.URL.Query().Get("q"))
	if len(v.Query) > 200 {
		v.Query = v.Query[:200]
	}
	if v.Entries, err = s.options.Directory.Patients(r.Context(), s.staffed(f.visitor.account), v.Query); err != nil {
		return err
	}
	return s.write(w, http.StatusOK, v)
}

// pickPatient takes the choice, provided that the user may see the patient.
func (s *Server) pickPatient(w http.ResponseWriter, r *http.Request) error {
	f, err := s.flowOf(r, r.PostForm.Get("request"))
	if err != nil {
		return err
	}
	account, id, link := f.visitor.account, r.PostForm.Get("patient"), r.PostForm.Get("link")
	charges, err := s.charges(r.Context(), account)
	if err != nil {
		return err
	}
	as := s.staffed(account)
	if onlyPatient(account) || link != "" {
		chosen, is := charged(charges, link, id)
		if !is {
			return bad("That is not your record", "You can open your own record, and those of people whom you act for.")
		}
		as, id, link = s.as(account, chosen), chosen.Patient, chosen.Link
	}
	if _, err := s.options.Directory.Entry(r.Context(), as, "Patient", id); errors.Is(err, ErrNoEntry) {
		return bad("There is no such patient", "Choose one from the list.")
	} else if err != nil {
		return err
	}
	if err := s.store.PickPatient(r.Context(), f.pending.ID, id, link); err != nil {
		return err
	}
	return redirect(w, pathContinue+"?request="+url.QueryEscape(f.handle))
}

// about finds the patient that the request is about, as the user sees them; nil for none. Errors: access_denied, for the app,
// where the user may not see the patient, or the visit is not one of the patient's that the user may see: a script can make
// a launch with any (kiln launch).
func (s *Server) about(ctx context.Context, f *flow) (*Entry, error) {
	if f.context.Patient == "" {
		return nil, nil
	}
	self := s.principal(f)
	entry, err := s.options.Directory.Entry(ctx, self, "Patient", f.context.Patient)
	if errors.Is(err, ErrNoEntry) {
		return nil, fosite.ErrAccessDenied.WithHint("The user may not see this patient.")
	}
	if err != nil {
		return nil, err
	}
	for _, visit := range []string{"Encounter/" + f.context.Encounter, "Appointment/" + f.context.Appointment} {
		if strings.HasSuffix(visit, "/") {
			continue
		}
		switch found, err := s.options.Directory.HasVisit(ctx, self, f.context.Patient, visit); {
		case err != nil:
			return nil, err
		case !found:
			return nil, fosite.ErrAccessDenied.WithHint("The launch is for a visit that is not this patient's, or that the user may not see.")
		}
	}
	return &entry, nil
}

// showConsent asks the user what the app may have.
func (s *Server) showConsent(w http.ResponseWriter, r *http.Request, f *flow, fault string) error {
	v := s.view(r, "consent")
	v.Title, v.Client, v.Request, v.Fault = "Let "+f.client.Client.Name+" in?", f.client.Client, f.handle, fault
	v.Choices = s.choices(f)
	v.Offline, v.Online = f.asked.Has(scopeOffline), f.asked.Has(scopeOnline)
	v.Identity = f.asked.Has(scopeOpenID) || f.asked.Has(scopeFHIRUser) || f.asked.Has(scopeProfile)
	if p := s.principal(f); f.asked.Has(scopeFHIRUser) {
		if p.Scopes = f.asked; p.ReadsSelf() {
			v.Self = p.FHIRUser
		}
	}
	v.formAction = formActionOf(f.form.Get("redirect_uri"))
	if u, err := url.Parse(f.form.Get("redirect_uri")); err == nil {
		v.Destination = u.Host
		if v.Destination == "" {
			v.Destination = u.Scheme + ":"
		}
	}
	var err error
	if v.Patient, err = s.about(r.Context(), f); err != nil {
		return s.refuseFlow(w, r, f, err)
	}
	return s.write(w, http.StatusOK, v)
}

// decide takes the user's decision and sends the browser back to the app, with a code or with access_denied.
func (s *Server) decide(w http.ResponseWriter, r *http.Request) error {
	f, err := s.flowOf(r, r.PostForm.Get("request"))
	if err != nil {
		return err
	}
	pick, err := s.settle(r.Context(), f)
	if err != nil {
		return s.refuseFlow(w, r, f, err)
	}
	if pick {
		return redirect(w, pathContinue+"?request="+url.QueryEscape(f.handle))
	}
	event := Event{Principal: s.principal(f), Action: ActGrant, Detail: f.client.ID, Patient: f.context.Patient}
	if r.PostForm.Get("decision") != "allow" {
		event.Refused = true
		if err := s.note(r.Context(), event); err != nil {
			return err
		}
		no, _ := tell(fosite.ErrAccessDenied.WithHint("The user said no."))
		return s.endFlow(w, r, f, no)
	}
	if _, err := s.about(r.Context(), f); err != nil { // who sends the form may not have come by the page
		return s.refuseFlow(w, r, f, err)
	}
	granted := s.chosen(f, r.PostForm)
	if len(granted) == 0 {
		return s.showConsent(w, r, f, "Tick at least one thing, or choose “Do not allow”.")
	}
	var to string
	if err := s.noted(r.Context(), &event, func(ctx context.Context) (err error) {
		to, err = s.issueCode(ctx, r, f, granted)
		return err
	}); err != nil {
		return s.refuseAfter(w, f, err)
	}
	return redirect(w, to)
}

// refuseAfter is for a request that was ended already: by the same form sent twice, or by a launch that was used.
func (s *Server) refuseAfter(w http.ResponseWriter, f *flow, err error) error {
	e, fault := tell(err)
	if silent := (*unnoted)(nil); fault || errors.Is(err, identity.ErrUsed) || errors.As(err, &silent) {
		return err
	}
	return backToApp(w, f.form.Get("redirect_uri"), f.form.Get("state"), url.Values{"error": {e.Code}, "error_description": {e.Description}})
}

// issueCode grants, and returns the URL to send the browser to. The request and the launch end with it, in the transaction
// of ctx: neither can give two codes.
func (s *Server) issueCode(ctx context.Context, r *http.Request, f *flow, granted auth.Scopes) (string, error) {
	request, err := s.readAuthorize(r, f.form)
	if err != nil {
		return "", err
	}
	if err := s.store.EndRequest(ctx, f.pending.ID); err != nil {
		return "", err
	}
	if f.launch != nil {
		if err := s.store.TakeLaunch(ctx, f.launch.ID); errors.Is(err, identity.ErrUsed) {
			return "", fosite.ErrInvalidRequest.WithHint("The launch was used before.")
		} else if err != nil {
			return "", err
		}
	}
	carry := newSession(s.options.Now)
	carry.account, carry.context = f.visitor.account.ID, f.context
	if granted.Has(scopeOnline) && !granted.Has(scopeOffline) {
		carry.login = f.visitor.login.ID
	}
	for _, scope := range granted {
		request.GrantScope(scope.Text)
		carry.scope = append(carry.scope, scope.Text)
	}
	if !wantsPatient(granted) && !granted.Has(scopeLaunch) {
		carry.context.Patient, carry.context.Encounter, carry.context.Appointment = "", "", ""
	}
	// The id_token's checks of prompt and max_age look at these; loginNeeded has enforced them.
	carry.claim(s.urls.fhir, carry.scope)
	request.Form.Del("prompt")
	request.Form.Del("max_age")
	response, err := s.provider.NewAuthorizeResponse(ctx, request, carry)
	if err != nil {
		return "", err
	}
	to := *request.RedirectURI
	query := to.Query()
	query.Set("code", response.GetCode())
	query.Set("state", f.form.Get("state"))
	to.RawQuery = query.Encode()
	return to.String(), nil
}
