package oauth

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"kiln/auth"
)

// Emergencies are the records that practitioners opened by breaking the glass, as an administrator sees them, who reviews them.
type Emergencies interface {
	// Emergencies lists them, newest first: those that nobody has reviewed, or all.
	Emergencies(ctx context.Context, as auth.Principal, all bool) ([]Emergency, error)
	// Emergency is one of them, with what was done. Errors: ErrNoEntry.
	Emergency(ctx context.Context, as auth.Principal, id string) (Emergency, error)
	// Review says what came of looking at one. Errors: ErrNoEntry; a Refusal.
	Review(ctx context.Context, as auth.Principal, id, verdict string) error
}

// Emergency is one use of break-glass.
type Emergency struct {
	ID string
	// Practitioner and Patient are names, or references where the administrator may not see who it is.
	Practitioner, Patient string
	// Purpose is BTG or ETREAT, Reason what the practitioner wrote.
	Purpose, Reason  string
	Created, Expires time.Time
	// Reviewed is zero where nobody has reviewed it.
	Reviewed          time.Time
	Reviewer, Verdict string
	// Looks are what the practitioner did with the record while it was open, oldest first, More that there is more.
	Looks []Look
	More  bool
}

// Look is one thing that was done with a record.
type Look struct {
	At time.Time
	// What it was, such as "read", About what it was done with: references, or the query.
	What    string
	About   []string
	Refused bool
}

// Refusal is an error that says to a person why something was not done.
type Refusal struct{ Text string }

func (e *Refusal) Error() string { return e.Text }

// emergencies shows administrators who broke the glass, why, and what came of it.
func (s *Server) emergencies(w http.ResponseWriter, r *http.Request) error {
	visitor, done, err := s.administrator(w, r, "emergencies")
	if done || err != nil {
		return err
	}
	return s.showEmergencies(w, r, visitor, http.StatusOK, r.URL.Query().Get("grant"), "")
}

func (s *Server) showEmergencies(w http.ResponseWriter, r *http.Request, visitor *visitor, status int, grant, fault string) error {
	query := r.URL.Query()
	v := s.view(r, "emergencies")
	v.Title, v.Done, v.Fault, v.All = "Emergency access", query.Has("done"), fault, query.Has("all")
	as := s.staff(visitor.account)
	if grant != "" {
		e, err := s.options.Emergencies.Emergency(r.Context(), as, grant)
		if err != nil {
			return noSuchEmergency(err)
		}
		v.Emergency = &e
		return s.write(w, status, v)
	}
	var err error
	if v.Emergencies, err = s.options.Emergencies.Emergencies(r.Context(), as, v.All); err != nil {
		return err
	}
	return s.write(w, status, v)
}

func noSuchEmergency(err error) error {
	if errors.Is(err, ErrNoEntry) {
		return &problem{http.StatusNotFound, "There is no such emergency", "Go back to the list."}
	}
	return err
}

// reviewEmergency takes what an administrator found.
func (s *Server) reviewEmergency(w http.ResponseWriter, r *http.Request) error {
	visitor, done, err := s.administrator(w, r, "emergencies")
	if done || err != nil {
		return err
	}
	grant := r.PostForm.Get("grant")
	err = s.options.Emergencies.Review(r.Context(), s.staff(visitor.account), grant, strings.TrimSpace(r.PostForm.Get("verdict")))
	if refused := (*Refusal)(nil); errors.As(err, &refused) {
		return s.showEmergencies(w, r, visitor, http.StatusUnprocessableEntity, grant, refused.Text+".")
	}
	if err != nil {
		return noSuchEmergency(err)
	}
	return redirect(w, pathEmergencies+"?done")
}
