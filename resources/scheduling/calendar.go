package scheduling

import (
	"slices"
	"time"
)

// LocalTime is a wall-clock time of day in minutes after midnight, 0 to 1440. 1440 is the midnight that ends the day:
// a rule until 24:00 leaves no hole of a second, as 23:59:59 would.
type LocalTime int

// WallTime is the form, for time.Format, of what clocks show on a day.
const WallTime = "2006-01-02T15:04:05"

// AtWall is the instant when clocks of the zone show a wall time. ok is false where they never do, or it is none.
func AtWall(wall string, zone *time.Location) (instant time.Time, ok bool) {
	t, err := time.Parse(WallTime, wall)
	if err != nil {
		return time.Time{}, false
	}
	instant, ok = DateOf(t, time.UTC).At(LocalTime(t.Hour()*60+t.Minute()), zone)
	return instant.Add(time.Duration(t.Second()) * time.Second), ok
}

// Date is a day of the calendar, without a zone.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// DateOf is the calendar day of an instant in a zone.
func DateOf(t time.Time, zone *time.Location) Date {
	y, m, d := t.In(zone).Date()
	return Date{y, m, d}
}

// Next is the day n days later, by the calendar: a day may have 23 or 25 hours.
func (d Date) Next(n int) Date {
	t := time.Date(d.Year, d.Month, d.Day+n, 12, 0, 0, 0, time.UTC)
	return Date{t.Year(), t.Month(), t.Day()}
}

// Weekday is the day of the week.
func (d Date) Weekday() time.Weekday {
	return time.Date(d.Year, d.Month, d.Day, 12, 0, 0, 0, time.UTC).Weekday()
}

// Before compares days.
func (d Date) Before(o Date) bool {
	if d.Year != o.Year {
		return d.Year < o.Year
	}
	if d.Month != o.Month {
		return d.Month < o.Month
	}
	return d.Day < o.Day
}

// String is the FHIR date.
func (d Date) String() string {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
}

// At is the instant when clocks of the zone show t on the day. ok is false where they never do, because they are put
// forward over it; where they show it twice, it is the first time.
func (d Date) At(t LocalTime, zone *time.Location) (instant time.Time, ok bool) {
	if t >= 1440 {
		d, t = d.Next(1), t-1440
	}
	shows := func(i time.Time) bool {
		y, m, day := i.In(zone).Date()
		return y == d.Year && m == d.Month && day == d.Day && i.In(zone).Hour()*60+i.In(zone).Minute() == int(t) && i.In(zone).Second() == 0
	}
	instant = time.Date(d.Year, d.Month, d.Day, 0, int(t), 0, 0, zone)
	if !shows(instant) {
		return time.Time{}, false
	}
	// time.Date does not promise which of two it gives. No zone is set back by more than three hours.
	for _, back := range []time.Duration{3 * time.Hour, 2 * time.Hour, time.Hour, 30 * time.Minute} {
		if earlier := instant.Add(-back); shows(earlier) {
			return earlier.UTC(), true
		}
	}
	return instant.UTC(), true
}

// reach is At, or where clocks never show t the instant at which they jump over it: the edge of a period in which
// somebody works is there, even if no appointment can begin at that wall time.
func (d Date) reach(t LocalTime, zone *time.Location) time.Time {
	if instant, ok := d.At(t, zone); ok {
		return instant
	}
	// The jump lies within a day; the minutes before it exist.
	if t >= 1440 {
		d, t = d.Next(1), t-1440
	}
	for shift := LocalTime(1); shift <= 24*60; shift++ {
		day, at := d, t-shift
		if at < 0 {
			day, at = d.Next(-1), at+1440
		}
		if instant, ok := day.At(at, zone); ok {
			return instant.Add(time.Minute)
		}
	}
	return time.Date(d.Year, d.Month, d.Day, 0, int(t), 0, 0, zone).UTC()
}

// Interval is a half-open span of time, in UTC.
type Interval struct{ Start, End time.Time }

// Overlaps says whether two intervals share an instant.
func (i Interval) Overlaps(o Interval) bool { return i.Start.Before(o.End) && o.Start.Before(i.End) }

// Holds says whether o lies within i.
func (i Interval) Holds(o Interval) bool { return !o.Start.Before(i.Start) && !o.End.After(i.End) }

// Rule is one weekly rule of availability in local time.
type Rule struct {
	Days []time.Weekday
	// Start and End are wall-clock times; an End at or before Start is on the next day.
	Start, End LocalTime
	// Service limits the rule to one service ("HealthcareService/x" or a code); "" is any.
	Service string
	// From and To bound the days, both inclusive; zero for no bound.
	From, To Date
}

// Calendar is when somebody or something is available: rules in a zone, less what is excepted.
type Calendar struct {
	Zone  *time.Location
	Rules []Rule
	// Away are leave, holidays and other times in which the rules do not hold.
	Away []Interval
}

// Open yields when the calendar is open for a service on the days from first to last, both inclusive, in order of their
// beginning; overlapping rules are joined.
func (c Calendar) Open(service string, first, last Date) []Interval {
	var open []Interval
	// A rule over midnight that begins the day before reaches into the first.
	for day := first.Next(-1); !last.Before(day); day = day.Next(1) {
		for _, r := range c.Rules {
			if !r.holds(day, service) {
				continue
			}
			end := r.End
			if end <= r.Start {
				end += 1440
			}
			i := Interval{day.reach(r.Start, c.Zone), day.reach(end, c.Zone)}
			if i.Start.Before(i.End) {
				open = append(open, i)
			}
		}
	}
	window := Interval{first.reach(0, c.Zone), last.reach(1440, c.Zone)}
	// What begins before midnight belongs to the day it begins on and is not cut at the end of the window.
	return Subtract(clipStart(Join(open), window), c.Away)
}

func clipStart(list []Interval, window Interval) []Interval {
	var kept []Interval
	for _, i := range list {
		if i.Start.Before(window.Start) {
			i.Start = window.Start
		}
		if i.Start.Before(i.End) && i.Start.Before(window.End) {
			kept = append(kept, i)
		}
	}
	return kept
}

func (r Rule) holds(day Date, service string) bool {
	if r.Service != "" && service != "" && r.Service != service {
		return false
	}
	if r.From != (Date{}) && day.Before(r.From) || r.To != (Date{}) && r.To.Before(day) {
		return false
	}
	return slices.Contains(r.Days, day.Weekday())
}

// Starts yields the starting times of visits of a length within the open intervals, on a grid that begins at each local
// midnight. Clocks of the zone show a time of the grid at each of them, and each wall time is taken once.
func (c Calendar) Starts(open []Interval, length, alignment time.Duration) []time.Time {
	if alignment < time.Minute || length <= 0 {
		return nil
	}
	var starts []time.Time
	step := LocalTime(alignment / time.Minute)
	for _, i := range open {
		for day, last := DateOf(i.Start, c.Zone), DateOf(i.End, c.Zone); !last.Before(day); day = day.Next(1) {
			for t := LocalTime(0); t < 1440; t += step {
				at, ok := day.At(t, c.Zone)
				if ok && i.Holds(Interval{at, at.Add(length)}) {
					starts = append(starts, at)
				}
			}
		}
	}
	slices.SortFunc(starts, time.Time.Compare)
	return slices.CompactFunc(starts, time.Time.Equal)
}

// Aligned says whether an instant is on the grid of a zone.
func Aligned(t time.Time, alignment time.Duration, zone *time.Location) bool {
	if alignment < time.Minute {
		return true
	}
	local := t.In(zone)
	if local.Second() != 0 || local.Nanosecond() != 0 || (local.Hour()*60+local.Minute())%int(alignment/time.Minute) != 0 {
		return false
	}
	first, ok := DateOf(t, zone).At(LocalTime(local.Hour()*60+local.Minute()), zone)
	return ok && first.Equal(t)
}

// Join merges intervals that overlap or touch; the answer is in order.
func Join(list []Interval) []Interval {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Interval) int { return a.Start.Compare(b.Start) })
	var out []Interval
	for _, i := range list {
		if n := len(out); n > 0 && !i.Start.After(out[n-1].End) {
			if i.End.After(out[n-1].End) {
				out[n-1].End = i.End
			}
			continue
		}
		out = append(out, i)
	}
	return out
}

// Subtract is what remains of a list without another; both may be unordered.
func Subtract(list, without []Interval) []Interval {
	without = Join(without)
	var out []Interval
	for _, i := range list {
		for _, w := range without {
			if !w.Start.Before(i.End) {
				break
			}
			if !w.End.After(i.Start) {
				continue
			}
			if i.Start.Before(w.Start) {
				out = append(out, Interval{i.Start, w.Start})
			}
			i.Start = w.End
			if !i.Start.Before(i.End) {
				break
			}
		}
		if i.Start.Before(i.End) {
			out = append(out, i)
		}
	}
	return out
}

// Intersect is the time that two ordered, joined lists share.
func Intersect(a, b []Interval) []Interval {
	var out []Interval
	for i, j := 0, 0; i < len(a) && j < len(b); {
		start, end := a[i].Start, a[i].End
		if b[j].Start.After(start) {
			start = b[j].Start
		}
		if b[j].End.Before(end) {
			end = b[j].End
		}
		if start.Before(end) {
			out = append(out, Interval{start, end})
		}
		if a[i].End.Before(b[j].End) {
			i++
		} else {
			j++
		}
	}
	return out
}
