package oracle

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"kiln/fhir"
	"kiln/fhir/path"
	"kiln/fhir/search"
)

// period is the time from begin up to, and without, end.
type period struct{ begin, end time.Time }

// Nothing in FHIR is before always or after never: years have four digits.
var (
	always = time.Date(-9999, 1, 1, 0, 0, 0, 0, time.UTC)
	never  = time.Date(99999, 1, 1, 0, 0, 0, 0, time.UTC)
)

var dateForm = regexp.MustCompile(`^(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?)?)?)?$`)

// read gives the time that a date, dateTime or instant stands for: all of the year, month, day, minute or second, or of
// the fraction that was written. Choice: a date without offset is one of the server's zone.
func (o *Oracle) read(s string) (period, bool) {
	m := dateForm.FindStringSubmatch(s)
	if m == nil {
		return period{}, false
	}
	zone := o.Zone
	if zone == nil {
		zone = time.UTC
	}
	if offset := m[8]; offset != "" {
		zone = time.UTC
		if offset != "Z" {
			seconds := (number(offset[1:3])*60 + number(offset[4:])) * 60
			if offset[0] == '-' {
				seconds = -seconds
			}
			zone = time.FixedZone(offset, seconds)
		}
	}
	y, month, day := number(m[1]), time.Month(max(number(m[2]), 1)), max(number(m[3]), 1)
	at := func(y int, month time.Month, day, hour, minute, second int) time.Time {
		return time.Date(y, month, day, hour, minute, second, 0, zone)
	}
	switch {
	case m[2] == "":
		return period{at(y, 1, 1, 0, 0, 0), at(y+1, 1, 1, 0, 0, 0)}, true
	case m[3] == "":
		return period{at(y, month, 1, 0, 0, 0), at(y, month+1, 1, 0, 0, 0)}, true
	case m[4] == "":
		return period{at(y, month, day, 0, 0, 0), at(y, month, day+1, 0, 0, 0)}, true
	}
	begin := at(y, month, day, number(m[4]), number(m[5]), min(number(m[6]), 59)) // Choice: a leap second is the one before it
	switch {
	case m[6] == "":
		return period{begin, begin.Add(time.Minute)}, true
	case m[7] == "":
		return period{begin, begin.Add(time.Second)}, true
	}
	width := time.Second
	for range m[7] {
		width /= 10
	}
	begin = begin.Add(time.Duration(number(m[7])) * width)
	return period{begin, begin.Add(width)}, true
}

func number(s string) int { n, _ := strconv.Atoi(s); return n }

// period is the time of a value (search.html#date, the table of data types). Choice: a Period that ends before it
// begins, one with neither end, and a Timing without outer limits are no time at all.
func (o *Oracle) period(v path.Element) (period, bool) {
	switch v.TypeName() {
	case "Period":
		return o.bounds(v.Value)
	case "Timing":
		whole, any := period{never, always}, false
		join := func(p period, ok bool) {
			if ok {
				any = true
				if p.begin.Before(whole.begin) {
					whole.begin = p.begin
				}
				if p.end.After(whole.end) {
					whole.end = p.end
				}
			}
		}
		for event := range v.Value.Get("event").Items() {
			join(o.read(event.Text))
		}
		join(o.bounds(v.Value.At("repeat", "boundsPeriod")))
		return whole, any
	case "instant": // "a fixed point in time ... with an effective width of 0"
		p, ok := o.read(v.Value.Text)
		return period{p.begin, p.begin.Add(1)}, ok
	}
	if v.Value.Kind != fhir.String {
		return period{}, false
	}
	return o.read(v.Value.Text)
}

func (o *Oracle) bounds(n *fhir.Node) (period, bool) {
	begin, hasBegin := o.read(n.GetText("start"))
	end, hasEnd := o.read(n.GetText("end"))
	p := period{always, never}
	if hasBegin {
		p.begin = begin.begin
	}
	if hasEnd {
		p.end = end.end
	}
	return p, (hasBegin || hasEnd) && p.begin.Before(p.end)
}

// date compares two periods (search.html#prefix). Choice: the range above a value begins where the value ends, so that
// gt2020 asks for what reaches into 2021, as the example sa2013-03-14 has it.
func (o *Oracle) date(v path.Element, asked search.Value) bool {
	target, ok := o.period(v)
	if !ok {
		return false
	}
	raw := asked.Raw
	prefix := "eq"
	if raw[0] >= 'a' {
		prefix, raw = raw[:2], raw[2:]
	}
	want, ok := o.read(strings.Replace(raw, " ", "+", 1))
	if !ok {
		panic("oracle: the parser let a date pass that is none: " + asked.Raw)
	}
	contains := !target.begin.Before(want.begin) && !target.end.After(want.end)
	above, below := target.end.After(want.end), target.begin.Before(want.begin)
	switch prefix {
	case "eq":
		return contains
	case "ne":
		return !contains
	case "gt":
		return above
	case "lt":
		return below
	case "ge":
		return above || contains
	case "le":
		return below || contains
	case "sa":
		return !target.begin.Before(want.end)
	case "eb":
		return !target.end.After(want.begin)
	case "ap": // Choice: a tenth of the gap between now and the date, as recommended, and a day at least
		slack := o.Now.Sub(want.begin).Abs() / 10
		if slack < 24*time.Hour {
			slack = 24 * time.Hour
		}
		return target.begin.Before(want.end.Add(slack)) && target.end.After(want.begin.Add(-slack))
	}
	panic("oracle: no rule for the prefix " + prefix)
}
