package resources

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/storage"
)

// This file reads what IHE ITI-115 lets a client ask $find beside who and when.

// weekly is when in the week a visit may begin: on some days, at some times of the day; empty for any. bounds, if any, hold it.
type weekly struct {
	days, times []string // as in Timing.repeat: mon, 09:00:00
	from, until time.Time
}

// readTiming reads the argument timing; nil for none.
//
// Errors: Invalid for a Timing that says anything else: it would be promised and not kept.
func readTiming(c *call, zone *time.Location) (*weekly, error) {
	a := c.first("timing")
	if a == nil {
		return nil, nil
	}
	w := &weekly{}
	for i := range a.value.Kids {
		if k := &a.value.Kids[i]; k.Name != "repeat" {
			return nil, unheard(a, k.Name)
		}
	}
	repeat := a.value.Get("repeat")
	if repeat == nil {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeRequired, "timing has a repeat").At(a.at)
	}
	for i := range repeat.Kids {
		switch k := &repeat.Kids[i]; k.Name {
		case "dayOfWeek":
			for d := range k.Items() {
				w.days = append(w.days, d.Text)
			}
		case "timeOfDay":
			for t := range k.Items() {
				w.times = append(w.times, t.Text)
			}
		case "boundsPeriod":
			if d, ok := fhir.ParseDateTime(k.GetText("start"), zone); ok {
				w.from = d.Time
			}
			if d, ok := fhir.ParseDateTime(k.GetText("end"), zone); ok {
				w.until = d.End()
			}
		default:
			return nil, unheard(a, "repeat."+k.Name)
		}
	}
	return w, nil
}

func unheard(a *argument, element string) error {
	return fhir.NewError(fhir.Invalid, fhir.CodeNotSupported, "$find reads dayOfWeek, timeOfDay and boundsPeriod of a timing, and not "+element).At(a.at)
}

// fits says whether a visit may begin at a time, by the clocks of a place.
func (w *weekly) fits(start time.Time, zone *time.Location) bool {
	if w == nil {
		return true
	}
	if zone == nil {
		zone = time.UTC
	}
	local := start.In(zone)
	day := strings.ToLower(local.Weekday().String()[:3])
	switch {
	case len(w.days) > 0 && !slices.Contains(w.days, day):
		return false
	case len(w.times) > 0 && !slices.Contains(w.times, local.Format(time.TimeOnly)):
		return false
	case !w.from.IsZero() && start.Before(w.from), !w.until.IsZero() && !start.Before(w.until):
		return false
	}
	return true
}

// schedulesAt are the Schedules of the roles, services and places of an organization, or of the places with a name.
func (s *Service) schedulesAt(ctx context.Context, tx *storage.Tx, parameter string, a argument) (names []string, err error) {
	searches := map[string]string{"PractitionerRole": "organization", "HealthcareService": "organization", "Location": "organization"}
	value := s.local(a.value)
	if parameter == "location-string" {
		searches, value = map[string]string{"Location": ""}, ""
	}
	for typ, by := range searches {
		var keys []storage.Key
		if by != "" {
			keys, err = s.match(unattended(ctx), tx, typ, by+"="+escape(value), maxFindSchedules)
		} else {
			keys, err = s.placesNamed(ctx, tx, a.value.Text)
		}
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			found, err := s.schedulesBy(ctx, tx, "actor", k.Type+"/"+k.ID)
			if err != nil {
				return nil, err
			}
			names = append(names, found...)
		}
	}
	return names, nil
}

// schedulesOfMode are the Schedules of services that are provided in a mode, such as in person or by video; it notes which those
// services are. R4 has no element for it: HealthcareService.characteristic, with the codes of R5's service-mode, is where R5 has it.
func (s *Service) schedulesOfMode(ctx context.Context, tx *storage.Tx, c *call, w *wish) (names []string, err error) {
	for _, a := range c.all("modality") {
		keys, err := s.match(unattended(ctx), tx, "HealthcareService", "characteristic="+escape(a.value.Text), maxFindSchedules)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			service := k.Type + "/" + k.ID
			w.services = append(w.services, service)
			found, err := s.schedulesFor(ctx, tx, service)
			if err != nil {
				return nil, err
			}
			names = append(names, found...)
		}
	}
	return names, nil
}

// placesNamed are the Locations with a text in their name or address.
func (s *Service) placesNamed(ctx context.Context, tx *storage.Tx, text string) (list []storage.Key, err error) {
	for _, by := range []string{"name:contains", "address:contains"} {
		keys, err := s.match(unattended(ctx), tx, "Location", by+"="+escape(text), maxFindSchedules)
		if err != nil {
			return nil, err
		}
		list = append(list, keys...)
	}
	return list, nil
}

// pageOf cuts the page out of a list that the arguments _count and _offset ask for, and links to itself and the next one.
func pageOf(c *call, list []offer, most int) ([]offer, []Link) {
	size, offset := c.number("_count", most), 0
	if c.first("_offset") != nil {
		offset = c.number("_offset", maxOffers)
	}
	query := url.Values{}
	for _, a := range c.arguments {
		if a.name == "_offset" || a.value == nil {
			continue
		}
		text := a.value.Text
		if a.value.Kind == fhir.Object {
			if text = a.value.GetText("reference"); text == "" { // a Timing has no form in a URL
				return list[min(offset, len(list)):min(offset+size, len(list))], nil
			}
		}
		query.Add(a.name, text)
	}
	at := func(offset int) string {
		q := query.Encode()
		if offset > 0 {
			q += "&_offset=" + strconv.Itoa(offset)
		}
		return "Appointment/$find?" + q
	}
	links := []Link{{"self", at(offset)}}
	if offset+size < len(list) && size > 0 {
		links = append(links, Link{"next", at(offset + size)})
	}
	return list[min(offset, len(list)):min(offset+size, len(list))], links
}
