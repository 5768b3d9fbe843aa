package scheduling

import (
	"strconv"
	"strings"
	"time"

	"kiln/fhir"
)

// ZoneOf is the IANA zone that the first of the resources with one names, by HL7's extension timezone: a Schedule's
// rule first, then its Location, then its Practitioner. ok is false where none does, or the name is no zone.
func ZoneOf(resources ...*fhir.Node) (zone *time.Location, ok bool) {
	for _, r := range resources {
		e := extension(r, ExtensionTimezone)
		if e == nil {
			continue
		}
		name := e.GetText("valueCode")
		if name == "" {
			name = e.GetText("valueString")
		}
		// "Local" would be the zone of whatever machine this runs on.
		if zone, err := time.LoadLocation(name); err == nil && name != "" && name != "Local" {
			return zone, true
		}
		return nil, false
	}
	return nil, false
}

// ReadRules reads when a Schedule is open: its own extension availability, else the availableTime or hoursOfOperation
// of its actors, given in the order of their precedence: the first that has any wins. problem says what cannot be used.
func ReadRules(schedule *fhir.Node, actors ...*fhir.Node) (rules []Rule, problem string) {
	for e := range schedule.Get("extension").Items() {
		if e.GetText("url") != ExtensionAvailability {
			continue
		}
		rule, problem := readRule(e)
		if problem != "" {
			return nil, problem
		}
		rules = append(rules, rule)
	}
	if len(rules) > 0 {
		return rules, ""
	}
	for _, a := range actors {
		for _, name := range []string{"availableTime", "hoursOfOperation"} {
			for at := range a.Get(name).Items() {
				rule, problem := readHours(at)
				if problem != "" {
					return nil, problem
				}
				rules = append(rules, rule)
			}
		}
		if len(rules) > 0 {
			return rules, ""
		}
	}
	return nil, ""
}

// ReadAway reads notAvailable of a resource; its periods are whole days of the zone where they are dates.
func ReadAway(resource *fhir.Node, zone *time.Location) []Interval {
	var away []Interval
	for n := range resource.Get("notAvailable").Items() {
		during := n.Get("during")
		if during == nil {
			continue
		}
		i := Interval{time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}
		if d, ok := fhir.ParseDateTime(during.GetText("start"), zone); ok {
			i.Start = d.Time.UTC()
		}
		if d, ok := fhir.ParseDateTime(during.GetText("end"), zone); ok {
			i.End = d.End().UTC() // a period's end is inclusive
		}
		if i.Start.Before(i.End) {
			away = append(away, i)
		}
	}
	return away
}

func readRule(e *fhir.Node) (r Rule, problem string) {
	bad := func(part string) (Rule, string) {
		return r, "The extension availability has a part " + strconv.Quote(part) + " that cannot be used"
	}
	var start, end bool
	for part := range e.Get("extension").Items() {
		var ok bool
		switch name := part.GetText("url"); name {
		case "daysOfWeek":
			var day time.Weekday
			day, ok = weekday(part.GetText("valueCode"))
			r.Days = append(r.Days, day)
		case "start":
			r.Start, ok = localTime(part.GetText("valueTime"))
			start = true
		case "end":
			r.End, ok = localTime(part.GetText("valueTime"))
			end = true
		case "service":
			if r.Service = part.At("valueReference").GetText("reference"); r.Service == "" {
				r.Service = part.GetText("valueCode")
			}
			ok = r.Service != ""
		case "from":
			r.From, ok = date(part.GetText("valueDate"))
		case "to":
			r.To, ok = date(part.GetText("valueDate"))
		}
		if !ok {
			return bad(part.GetText("url"))
		}
	}
	switch {
	case len(r.Days) == 0:
		return bad("daysOfWeek")
	case !start:
		return bad("start")
	case !end:
		return bad("end")
	}
	return r, ""
}

func readHours(n *fhir.Node) (r Rule, problem string) {
	for d := range n.Get("daysOfWeek").Items() {
		day, ok := weekday(d.Text)
		if !ok {
			return r, strconv.Quote(d.Text) + " is not a day of the week"
		}
		r.Days = append(r.Days, day)
	}
	if len(r.Days) == 0 {
		r.Days = []time.Weekday{0, 1, 2, 3, 4, 5, 6}
	}
	if all := n.Get("allDay"); all != nil && all.Text == "true" {
		return r, "" // from midnight to midnight
	}
	start, end := n.GetText("availableStartTime"), n.GetText("availableEndTime")
	if start == "" && end == "" {
		start, end = n.GetText("openingTime"), n.GetText("closingTime")
	}
	var ok bool
	if r.Start, ok = localTime(start); !ok && start != "" {
		return r, strconv.Quote(start) + " is not a time of the day"
	}
	if r.End, ok = localTime(end); !ok && end != "" {
		return r, strconv.Quote(end) + " is not a time of the day"
	}
	return r, ""
}

func weekday(code string) (time.Weekday, bool) {
	for day := time.Sunday; day <= time.Saturday; day++ {
		if strings.ToLower(day.String()[:3]) == code {
			return day, true
		}
	}
	return 0, false
}

// localTime reads hh:mm:ss; seconds must be zero, except that 23:59:59 and 24:00:00 are meant as the day's end.
func localTime(s string) (LocalTime, bool) {
	if s == "23:59:59" || s == "24:00:00" {
		return 1440, true
	}
	t, err := time.Parse("15:04:05", s)
	if err != nil || t.Second() != 0 {
		return 0, false
	}
	return LocalTime(t.Hour()*60 + t.Minute()), true
}

func date(s string) (Date, bool) {
	t, err := time.Parse(time.DateOnly, s)
	return Date{t.Year(), t.Month(), t.Day()}, err == nil
}
