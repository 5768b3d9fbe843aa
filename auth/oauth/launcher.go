package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// launcher shows staff the apps that can be launched, and lets them choose a patient and a visit.
func (s *Server) launcher(w http.ResponseWriter, r *http.Request) error {
	visitor, done, err := s.signedIn(w, r, "launch")
	if done {
		return err
	}
	if onlyPatient(visitor.account) {
		return s.refusePatient(r, visitor)
	}
	ctx, query := r.Context(), r.URL.Query()
	v := s.view(r, "launch")
	v.Title, v.Query = "Launch an app", strings.TrimSpace(query.Get("q"))
	clients, err := s.store.Clients(ctx)
	if err != nil {
		return err
	}
	for _, c := range clients {
		if c.LaunchURI != "" && c.May(grantCode) {
			v.Clients = append(v.Clients, c)
			if action := formActionOf(c.LaunchURI); !strings.Contains(v.formAction, action) {
				v.formAction += action
			}
		}
	}
	self := s.staffed(visitor.account)
	if id := query.Get("patient"); id != "" {
		entry, err := s.options.Directory.Entry(ctx, self, "Patient", id)
		if errors.Is(err, ErrNoEntry) {
			return &problem{http.StatusNotFound, "There is no such patient", "Or none that you may see."}
		}
		if err != nil {
			return err
		}
		v.Patient = &entry
		if v.Entries, err = s.options.Directory.Visits(ctx, self, id); err != nil {
			return err
		}
		return s.write(w, http.StatusOK, v)
	}
	if len(v.Query) > 200 {
		v.Query = v.Query[:200]
	}
	if v.Entries, err = s.options.Directory.Patients(ctx, self, v.Query); err != nil {
		return err
	}
	return s.write(w, http.StatusOK, v)
}

// refusePatient refuses the launcher to who is a patient and nothing else.
func (s *Server) refusePatient(r *http.Request, visitor *visitor) error {
	if err := s.note(r.Context(), Event{Principal: s.self(visitor.account), Action: ActLaunch, Refused: true, Detail: r.Method + " launch"}); err != nil {
		return err
	}
	return &problem{http.StatusForbidden, "This page is for staff", "Patients open apps from the apps themselves."}
}

// launch starts an app with a patient in context: the browser goes to its launch URL.
func (s *Server) launch(w http.ResponseWriter, r *http.Request) error {
	visitor, done, err := s.signedIn(w, r, "launch")
	if done {
		return err
	}
	if onlyPatient(visitor.account) {
		return s.refusePatient(r, visitor)
	}
	form, ctx := r.PostForm, r.Context()
	c, err := s.store.Client(ctx, form.Get("client"))
	if err != nil {
		return err
	}
	if c.LaunchURI == "" {
		return bad("This app cannot be launched", "It has no launch URL.")
	}
	self := s.staffed(visitor.account)
	launch := Launch{Client: c.ID, Account: visitor.account.ID, Patient: form.Get("patient")}
	if _, err := s.options.Directory.Entry(ctx, self, "Patient", launch.Patient); errors.Is(err, ErrNoEntry) {
		return &problem{http.StatusNotFound, "There is no such patient", "Or none that you may see."}
	} else if err != nil {
		return err
	}
	if visit := form.Get("visit"); visit != "" {
		switch found, err := s.options.Directory.HasVisit(ctx, self, launch.Patient, visit); {
		case err != nil:
			return err
		case !found:
			return bad("There is no such visit of this patient", "Open the launcher again.")
		}
		if typ, id, _ := strings.Cut(visit, "/"); typ == "Encounter" {
			launch.Encounter = id
		} else {
			launch.Appointment = id
		}
	}
	var value string
	if err := s.noted(ctx, &Event{Principal: self, Action: ActLaunch, Detail: c.ID, Patient: launch.Patient}, func(ctx context.Context) (err error) {
		value, err = AddLaunch(ctx, s.store, launch, s.now())
		return err
	}); err != nil {
		return err
	}
	to, err := url.Parse(c.LaunchURI)
	if err != nil {
		return err
	}
	query := to.Query()
	query.Set("iss", s.urls.fhir)
	query.Set("launch", value)
	to.RawQuery = query.Encode()
	return redirect(w, to.String())
}
