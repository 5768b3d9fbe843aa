package fhir

import (
	"strconv"
	"time"
)

// Precision is how much of a date-time was given.
type Precision uint8

// The precisions, from coarse to fine.
const (
	PrecisionYear Precision = iota + 1
	PrecisionMonth
	PrecisionDay
	PrecisionMinute
	PrecisionSecond
	PrecisionFraction
)

// DateTime is a FHIR date, dateTime or instant with the precision that it was written in.
type DateTime struct {
	// Time is the first instant of it. Where no zone was given, it is read in the zone passed to ParseDateTime.
	Time      time.Time
	Precision Precision
	// Zoned says whether the text held an offset.
	Zoned bool
	// Digits is the number of fractional digits of the second.
	Digits int
}

// ParseDateTime reads YYYY, YYYY-MM, YYYY-MM-DD and YYYY-MM-DDThh:mm[:ss[.fff]][Z|±hh:mm], with the day checked
// against the calendar. Minutes without seconds and times without an offset are accepted: search values have them,
// and the validator is stricter. A leap second (60) counts as the second before it. zone is for texts without an
// offset; nil is UTC.
func ParseDateTime(s string, zone *time.Location) (DateTime, bool) {
	if zone == nil {
		zone = time.UTC
	}
	var d DateTime
	year, rest, ok := digits(s, 4)
	if !ok || year == 0 {
		return d, false
	}
	month, day := 1, 1
	d.Precision = PrecisionYear
	if rest != "" {
		if month, rest, ok = field(rest, '-', 1, 12); !ok {
			return d, false
		}
		d.Precision = PrecisionMonth
	}
	if rest != "" {
		if day, rest, ok = field(rest, '-', 1, daysIn(year, month)); !ok {
			return d, false
		}
		d.Precision = PrecisionDay
	}
	if rest == "" {
		d.Time = time.Date(year, time.Month(month), day, 0, 0, 0, 0, zone)
		return d, true
	}
	hour, rest, ok := field(rest, 'T', 0, 23)
	if !ok || d.Precision != PrecisionDay {
		return d, false
	}
	minute, rest, ok := field(rest, ':', 0, 59)
	if !ok {
		return d, false
	}
	d.Precision = PrecisionMinute
	second, nanos := 0, 0
	if rest != "" && rest[0] == ':' {
		if second, rest, ok = field(rest, ':', 0, 60); !ok {
			return d, false
		}
		second = min(second, 59)
		d.Precision = PrecisionSecond
		if rest != "" && rest[0] == '.' {
			n := 1
			for scale := 100_000_000; n < len(rest) && rest[n] >= '0' && rest[n] <= '9'; n++ {
				nanos += int(rest[n]-'0') * scale
				scale /= 10
			}
			if n == 1 {
				return d, false
			}
			d.Digits, rest = n-1, rest[n:]
			d.Precision = PrecisionFraction
		}
	}
	switch {
	case rest == "":
	case rest == "Z":
		zone, d.Zoned = time.UTC, true
	default:
		sign := rest[0]
		if sign != '+' && sign != '-' {
			return d, false
		}
		oh, more, ok := field(rest, sign, 0, 14)
		if !ok {
			return d, false
		}
		om, more, ok := field(more, ':', 0, 59)
		if !ok || more != "" || oh == 14 && om != 0 {
			return d, false
		}
		offset := (oh*60 + om) * 60
		if sign == '-' {
			offset = -offset
		}
		zone, d.Zoned = time.FixedZone("", offset), true
	}
	d.Time = time.Date(year, time.Month(month), day, hour, minute, second, nanos, zone)
	return d, true
}

// End returns the first instant after the whole of d: for 2020-02 it is 2020-03-01T00:00.
func (d DateTime) End() time.Time {
	t := d.Time
	switch d.Precision {
	case PrecisionYear:
		return time.Date(t.Year()+1, 1, 1, 0, 0, 0, 0, t.Location())
	case PrecisionMonth:
		return time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, t.Location())
	case PrecisionDay:
		return time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, t.Location())
	case PrecisionMinute:
		return t.Add(time.Minute)
	case PrecisionSecond:
		return t.Add(time.Second)
	}
	step := time.Second
	for i := 0; i < d.Digits && step > 1; i++ {
		step /= 10
	}
	return t.Add(step)
}

// FormatInstant writes a time the way meta.lastUpdated has it: UTC, milliseconds, Z.
func FormatInstant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func digits(s string, n int) (int, string, bool) {
	if len(s) < n {
		return 0, s, false
	}
	for i := range n {
		if s[i] < '0' || s[i] > '9' {
			return 0, s, false
		}
	}
	v, err := strconv.Atoi(s[:n])
	return v, s[n:], err == nil
}

// field reads the separator and two digits within [low, high].
func field(s string, separator byte, low, high int) (int, string, bool) {
	if s == "" || s[0] != separator {
		return 0, s, false
	}
	v, rest, ok := digits(s[1:], 2)
	return v, rest, ok && v >= low && v <= high
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}
