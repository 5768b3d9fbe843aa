package path

import "time"

// calendarUnits maps the calendar words to their singular.
var calendarUnits = map[string]string{
	"year": "year", "years": "year", "month": "month", "months": "month", "week": "week", "weeks": "week",
	"day": "day", "days": "day", "hour": "hour", "hours": "hour", "minute": "minute", "minutes": "minute",
	"second": "second", "seconds": "second", "millisecond": "millisecond", "milliseconds": "millisecond",
}

// ucumDurations are the UCUM codes that mean a calendar unit exactly; 'a' and 'mo' do not.
var ucumDurations = map[string]string{
	"wk": "week", "d": "day", "h": "hour", "min": "minute", "s": "second", "ms": "millisecond",
}

// add moves m by n units; the fraction of n is gone already. A unit finer than the precision counts as whole coarser
// ones (FHIRPath, date arithmetic).
func (m Moment) add(kind SystemKind, n int64, unit string) (Moment, bool) {
	const limit = 1 << 40
	if n > limit || n < -limit {
		return m, false
	}
	if kind == Time {
		return m.addClock(n, unit)
	}
	step := map[string]precision{"year": byYear, "month": byMonth, "week": byDay, "day": byDay, "hour": byHour,
		"minute": byMinute, "second": bySecond, "millisecond": byFraction}[unit]
	if unit == "week" {
		n, unit = n*7, "day"
	}
	for step > m.prec && !(step == byFraction && m.prec == bySecond) {
		switch step {
		case byFraction:
			n /= 1000
		case bySecond, byMinute:
			n /= 60
		case byHour:
			n /= 24
		case byDay:
			if m.prec == byYear {
				n, step = n/365, byMonth
			} else {
				n /= 30
			}
		case byMonth:
			n /= 12
		}
		step--
	}
	switch step {
	case byYear:
		return m.addMonths(n * 12)
	case byMonth:
		return m.addMonths(n)
	case byDay:
		if n > 4_000_000 || n < -4_000_000 {
			return m, false
		}
		m.set(time.Date(m.year, time.Month(m.month), m.day+int(n), m.hour, m.minute, m.second, m.nanos, time.UTC))
	default:
		d := map[precision]int64{byHour: 3600e3, byMinute: 60e3, bySecond: 1e3, byFraction: 1}[step] // milliseconds
		if n > (1<<47)/d || n < -(1<<47)/d {
			return m, false
		}
		t := time.Date(m.year, time.Month(m.month), m.day, m.hour, m.minute, m.second, m.nanos, time.UTC)
		n *= d
		t = t.AddDate(0, 0, int(n/86_400_000)).Add(time.Duration(n%86_400_000) * time.Millisecond)
		m.set(t)
	}
	return m, m.year >= 1 && m.year <= 9999
}

// addMonths keeps the day, or takes the month's last.
func (m Moment) addMonths(n int64) (Moment, bool) {
	if n > 12*20000 || n < -12*20000 {
		return m, false
	}
	months := m.year*12 + m.month - 1 + int(n)
	m.year, m.month = months/12, months%12+1
	if months < 12 || m.year > 9999 {
		return m, false
	}
	m.day = min(m.day, daysIn(m.year, m.month))
	return m, true
}

// addClock moves a Time, round the clock.
func (m Moment) addClock(n int64, unit string) (Moment, bool) {
	ms := map[string]int64{"hour": 3600e3, "minute": 60e3, "second": 1e3, "millisecond": 1}[unit]
	if ms == 0 {
		return m, false
	}
	n = n % (86_400_000 / ms) * ms
	t := time.Date(2000, 1, 1, m.hour, m.minute, m.second, m.nanos, time.UTC).Add(time.Duration(n) * time.Millisecond)
	m.hour, m.minute, m.second, m.nanos = t.Hour(), t.Minute(), t.Second(), t.Nanosecond()
	return m, true
}

func fnNow(c *ctx, _ *call, mark int) error {
	return c.result(mark, Value(System{Kind: DateTime, Moment: momentOf(c.time())}))
}

func fnToday(c *ctx, _ *call, mark int) error {
	t := c.time()
	m := Moment{year: t.Year(), month: int(t.Month()), day: t.Day(), prec: byDay}
	return c.result(mark, Value(System{Kind: Date, Moment: m}))
}

func fnTimeOfDay(c *ctx, _ *call, mark int) error {
	m := momentOf(c.time())
	m.year, m.month, m.day, m.zoned, m.offset = 0, 1, 1, false, 0
	return c.result(mark, Value(System{Kind: Time, Moment: m}))
}
