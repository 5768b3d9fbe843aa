package resources

import (
	"context"
	"fmt"
	"slices"
	"time"

	"kiln/auth"
	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// Bounds of $find; docs/limits.md publishes them.
const (
	maxFindWindow    = 31 * 24 * time.Hour
	maxFindSchedules = 200
	maxOffers        = 1000
)

// findAppointments is Appointment/$find: the free times that $hold and $book would take, judged by the same rules. What
// is given several times is alternatives; what is given in different parameters must hold together; all-of must be free
// at the same time. Spec: IHE ITI-115.
//
// Errors: TooCostly for a window of more than 31 days, or with more free times than maxOffers.
func (s *Service) findAppointments(ctx context.Context, c *call) (*Response, error) {
	if err := permitted(ctx, auth.Search, "Appointment"); err != nil {
		return nil, err
	}
	w := wish{limit: maxOffers, strict: s.isPatient(&c.Principal)}
	var err error
	zone, err := s.findZone(c)
	if err != nil {
		return nil, err
	}
	if w.start, w.end, err = window(c.arguments, zone); err != nil {
		return nil, err
	}
	if w.patient, err = s.findsFor(ctx, c); err != nil {
		return nil, err
	}
	if w.when, err = readTiming(c, zone); err != nil {
		return nil, err
	}
	if a := c.first("ignore-appointment"); a != nil {
		w.ignore = s.local(a.value)
		if v, err := s.store.Read(acting(ctx, auth.Read), "Appointment", keyOf(w.ignore).ID); err != nil {
			return nil, err
		} else if v == nil {
			return nil, notFound(storage.Key{Type: "Appointment", ID: keyOf(w.ignore).ID})
		}
	}
	var list []offer
	var more bool
	var issues []fhir.Issue
	err = s.store.Write(everything(ctx), func(tx *storage.Tx) (err error) {
		if issues, err = s.chooseSchedules(ctx, tx, c, &w); err != nil {
			return err
		}
		list, more, err = s.offers(ctx, tx, w)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"reason", "insurance-reference", "referral-identifier"} {
		if c.first(name) != nil {
			issues = append(issues, fhir.Issue{Severity: fhir.SeverityInformation, Code: fhir.CodeInformational, Text: name + " chooses no times"})
		}
	}
	if more { // a part of them would look like all, and total would not be true
		return nil, fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly,
			fmt.Sprintf("More than %d times are free; ask for fewer days, or name a practitioner, a service or a place", maxOffers)).Coded("window-too-wide").At("Parameters")
	}
	total := int64(len(list))
	answer := &Bundle{Type: "searchset", Total: &total, Issues: issues}
	list, answer.Links = pageOf(c, list, s.limits.MaxPageSize)
	for _, o := range list {
		n := s.proposed(o)
		if c.first("time-zone") != nil {
			for _, name := range []string{"start", "end"} {
				n.Set(name, fhir.Str(instant(n.Get(name)).In(zone).Format("2006-01-02T15:04:05.000Z07:00")))
			}
		}
		answer.Entries = append(answer.Entries, Entry{Mode: "match", Version: &storage.Version{Type: "Appointment", ID: n.ID(), Content: n.JSON()}})
	}
	return &Response{Bundle: answer}, nil
}

// isPatient says whether a caller has no other role than that of a patient.
func (s *Service) isPatient(p *auth.Principal) bool {
	return !p.IsOperator() && p.User != "" && !p.Has(auth.RolePractitioner) && !p.Has(auth.RoleAdmin)
}

// number is a small count among the arguments, or the bound.
func (a arguments) number(name string, most int) int {
	n := 0
	for _, r := range a.text(name) {
		if n = n*10 + int(r-'0'); n > most || r < '0' || r > '9' {
			return most
		}
	}
	if a.first(name) == nil {
		return most
	}
	return n
}

// findZone is where the days of the window begin and end: as time-zone says, or Prefer, or the server's setting.
//
// Errors: Invalid for a name that is no zone of the IANA data base.
func (s *Service) findZone(c *call) (*time.Location, error) {
	name, at := c.text("time-zone"), "http.time-zone"
	if a := c.first("time-zone"); a != nil {
		at = a.at
	} else if name = c.TimeZone; name == "" {
		return s.store.Zone(), nil
	} else { // so that the links say which
		c.arguments = append(c.arguments, argument{name: "time-zone", value: new(fhir.Str(name)), at: at})
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "" || name == "Local" {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeValue, quote(name)+" is no time zone: it takes a name such as Europe/Oslo").At(at)
	}
	return zone, nil
}

// window reads start and end; what has no zone is by the clocks of one.
func window(a arguments, zone *time.Location) (start, end time.Time, err error) {
	low, ok1 := fhir.ParseDateTime(a.text("start"), zone)
	high, ok2 := fhir.ParseDateTime(a.text("end"), zone)
	switch {
	case !ok1 || !ok2:
		return start, end, fhir.NewError(fhir.Invalid, fhir.CodeValue, "start and end are dates and times such as 2026-11-30T09:00:00Z").At("Parameters")
	case !low.Time.Before(high.End()):
		return start, end, fhir.NewError(fhir.Invalid, fhir.CodeValue, "The end is not after the start").At("Parameters")
	}
	start, end = low.Time.UTC(), high.End().UTC()
	if a.text("end") != "" && len(a.text("end")) > len("2006-01-02") {
		end = high.Time.UTC()
	}
	if end.Sub(start) > maxFindWindow {
		return start, end, fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, "$find looks at 31 days at most; ask for less at once").Coded("window-too-wide").At("Parameters")
	}
	return start, end, nil
}

// findsFor is the patient who has to be free too. Patients ask for themselves.
func (s *Service) findsFor(ctx context.Context, c *call) (string, error) {
	a := c.first("patient-reference")
	own := s.ownPatient(&c.Principal)
	if a == nil {
		if s.isPatient(&c.Principal) {
			return own, nil
		}
		return "", nil
	}
	name := s.local(a.value)
	if typeOf(name) != "Patient" {
		return "", fhir.NewError(fhir.Invalid, fhir.CodeValue, "patient-reference refers to a Patient of this server").At(a.at)
	}
	return name, s.seesPatient(ctx, name)
}

// seesPatient refuses a patient whom the caller may not read, as if there were none.
func (s *Service) seesPatient(ctx context.Context, name string) error {
	v, err := s.store.Read(acting(ctx, auth.Read), "Patient", keyOf(name).ID)
	if err == nil && (v == nil || v.Deleted) {
		err = notFound(keyOf(name))
	}
	return err
}

// ownPatient is the Patient that a caller is or acts for, or "".
func (s *Service) ownPatient(p *auth.Principal) string {
	switch {
	case p.Own() != "":
		return p.Own()
	case p.Patient != "":
		return "Patient/" + p.Patient
	}
	return ""
}

// chooseSchedules finds the Schedules to look at.
func (s *Service) chooseSchedules(ctx context.Context, tx *storage.Tx, c *call, w *wish) (issues []fhir.Issue, err error) {
	var sets [][]string
	if list := c.all("schedule"); len(list) > 0 {
		var names []string
		for _, a := range list {
			names = append(names, s.local(a.value))
		}
		sets = append(sets, names)
	}
	for _, parameter := range []string{"practitioner", "location-reference"} {
		var names []string
		for _, a := range c.all(parameter) {
			found, err := tx.SchedulesOf(ctx, s.local(a.value))
			if err != nil {
				return nil, err
			}
			names = append(names, found...)
		}
		if c.first(parameter) != nil {
			sets = append(sets, names)
		}
	}
	for _, parameter := range []string{"organization", "location-string"} {
		if c.first(parameter) == nil {
			continue
		}
		var names []string
		for _, a := range c.all(parameter) {
			found, err := s.schedulesAt(ctx, tx, parameter, a)
			if err != nil {
				return nil, err
			}
			names = append(names, found...)
		}
		sets = append(sets, names)
	}
	if c.first("modality") != nil {
		names, err := s.schedulesOfMode(ctx, tx, c, w)
		if err != nil {
			return nil, err
		}
		sets = append(sets, names)
	}
	var asked []string
	for parameter, by := range map[string]string{"healthcare-service": "actor", "specialty": "specialty", "visit-type": "service-type"} {
		var names []string
		for _, a := range c.all(parameter) {
			value := a.value.Text
			if parameter == "healthcare-service" {
				value = s.local(a.value)
				if c.first("modality") != nil && !slices.Contains(w.services, value) {
					continue
				}
				asked = append(asked, value)
			}
			found, err := s.schedulesBy(ctx, tx, by, value)
			if parameter == "healthcare-service" {
				found, err = s.schedulesFor(ctx, tx, value)
			}
			if err != nil {
				return nil, err
			}
			names = append(names, found...)
		}
		if c.first(parameter) != nil {
			sets = append(sets, names)
		}
	}
	switch len(asked) {
	case 0:
	case 1:
		w.service = asked[0]
	default:
		w.services = asked
	}
	for _, a := range c.all("all-of") {
		found, err := tx.SchedulesOf(ctx, s.local(a.value))
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return []fhir.Issue{{Severity: fhir.SeverityWarning, Code: fhir.CodeNotFound, Text: quote(s.local(a.value)) + " has no Schedule, so it is never free together with others"}}, nil
		}
		if len(sets) == 0 {
			sets = append(sets, found)
		} else {
			w.together = append(w.together, found[0])
		}
	}
	if len(sets) == 0 {
		all, err := s.schedulesBy(ctx, tx, "", "")
		if err != nil {
			return nil, err
		}
		sets = append(sets, all)
	}
	if len(w.together)+1 > scheduling.MaxProposalSchedules {
		return nil, fhir.NewError(fhir.TooCostly, fhir.CodeTooCostly, fmt.Sprintf("all-of joins %d actors at most", scheduling.MaxProposalSchedules)).Coded("too-many-actors")
	}
	names := sets[0]
	for _, set := range sets[1:] {
		names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !slices.Contains(set, n) })
	}
	known := map[string]bool{}
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { was := known[n]; known[n] = true; return was || n == "" })
	found, err := s.readAll(ctx, tx, names...)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if schedule := found[n]; schedule != nil && (schedule.Get("active") == nil || schedule.Get("active").Text != "false") {
			w.schedules = append(w.schedules, n)
		}
	}
	if len(w.schedules) > maxFindSchedules {
		w.schedules = w.schedules[:maxFindSchedules]
		issues = append(issues, fhir.Issue{Severity: fhir.SeverityWarning, Code: fhir.CodeTooCostly,
			Text: fmt.Sprintf("Only the first %d Schedules were looked at; name a practitioner, a service or a place", maxFindSchedules)})
	}
	return issues, nil
}

// schedulesFor are the Schedules that name a service, or that have Slots for it.
func (s *Service) schedulesFor(ctx context.Context, tx *storage.Tx, service string) ([]string, error) {
	names, err := s.schedulesBy(ctx, tx, "actor", service)
	if err != nil {
		return nil, err
	}
	more, err := tx.SchedulesFor(ctx, service)
	return append(names, more...), err
}

// schedulesBy searches for Schedules.
func (s *Service) schedulesBy(ctx context.Context, tx *storage.Tx, parameter, value string) ([]string, error) {
	query := "_count=" + fmt.Sprint(maxFindSchedules+1) + "&_elements=id"
	if parameter != "" {
		query += "&" + parameter + "=" + escape(value)
	}
	resp, err := s.searchIn(everything(ctx), tx, Request{Interaction: SearchType, Type: "Schedule", Query: query})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range resp.Bundle.Entries {
		names = append(names, e.Version.Type+"/"+e.Version.ID)
	}
	return names, nil
}
