package path

import (
	"fmt"
	"strings"
	"time"
)

// Moment is a Date, DateTime or Time with the precision that it was given in. FHIRPath compares such values field by
// field, so it is not a time.Time.
type Moment struct {
	year, month, day, hour, minute, second, nanos int
	prec                                          precision
	digits                                        int // of the fraction of the second
	zoned                                         bool
	offset                                        int // minutes east of UTC
}

type precision uint8

const (
	byYear precision = iota + 1
	byMonth
	byDay
	byHour
	byMinute
	bySecond
	byFraction
)

// parseMoment reads the text of a Date (2015-02), a DateTime (2015-02-04T14:34:28.123+10:00, also coarser, perhaps with
// a closing T) or a Time (14:34).
func parseMoment(s string, kind SystemKind) (Moment, bool) {
	var m Moment
	p := fields{s: s, ok: true}
	if kind == Time {
		m.month, m.day = 1, 1
		m.clock(&p)
		return m, p.ok && p.s == ""
	}
	m.month, m.day = 1, 1
	m.year, m.prec = p.number(4, 1, 9999), byYear
	if p.take('-') {
		m.month, m.prec = p.number(2, 1, 12), byMonth
		if p.take('-') {
			m.day, m.prec = p.number(2, 1, 31), byDay
			if p.ok && m.day > daysIn(m.year, m.month) {
				return m, false
			}
		}
	}
	if kind == DateTime && p.take('T') && p.s != "" {
		if m.prec != byDay {
			return m, false
		}
		m.clock(&p)
		m.zone(&p)
	}
	return m, p.ok && p.s == ""
}

// clock reads hh[:mm[:ss[.fff]]].
func (m *Moment) clock(p *fields) {
	m.hour, m.prec = p.number(2, 0, 23), byHour
	if !p.take(':') {
		return
	}
	m.minute, m.prec = p.number(2, 0, 59), byMinute
	if !p.take(':') {
		return
	}
	m.second, m.prec = min(p.number(2, 0, 60), 59), bySecond
	if !p.take('.') {
		return
	}
	m.prec = byFraction
	scale := 100_000_000
	for p.s != "" && p.s[0] >= '0' && p.s[0] <= '9' {
		m.nanos += int(p.s[0]-'0') * scale
		scale /= 10
		m.digits++
		p.s = p.s[1:]
	}
	m.digits = min(m.digits, 9)
	p.ok = p.ok && m.digits > 0
}

// zone reads Z or ±hh:mm.
func (m *Moment) zone(p *fields) {
	switch {
	case p.take('Z'):
		m.zoned = true
	case p.s != "" && (p.s[0] == '+' || p.s[0] == '-'):
		sign := 1
		if p.s[0] == '-' {
			sign = -1
		}
		p.s = p.s[1:]
		h := p.number(2, 0, 14)
		p.ok = p.take(':') && p.ok
		m.zoned, m.offset = true, sign*(h*60+p.number(2, 0, 59))
	}
}

// fields cuts numbers off a text; ok stays false once something did not fit.
type fields struct {
	s  string
	ok bool
}

func (p *fields) take(c byte) bool {
	if p.ok && p.s != "" && p.s[0] == c {
		p.s = p.s[1:]
		return true
	}
	return false
}

func (p *fields) number(width, low, high int) int {
	if !p.ok || len(p.s) < width {
		p.ok = false
		return low
	}
	n := 0
	for i := range width {
		if p.s[i] < '0' || p.s[i] > '9' {
			p.ok = false
			return low
		}
		n = n*10 + int(p.s[i]-'0')
	}
	p.s = p.s[width:]
	if n < low || n > high {
		p.ok = false
		return low
	}
	return n
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

func (m Moment) text(kind SystemKind) string {
	var b strings.Builder
	if kind != Time {
		fmt.Fprintf(&b, "%04d", m.year)
		if m.prec >= byMonth {
			fmt.Fprintf(&b, "-%02d", m.month)
		}
		if m.prec >= byDay {
			fmt.Fprintf(&b, "-%02d", m.day)
		}
		if m.prec >= byHour {
			b.WriteByte('T')
		}
	}
	if m.prec >= byHour {
		fmt.Fprintf(&b, "%02d", m.hour)
	}
	if m.prec >= byMinute {
		fmt.Fprintf(&b, ":%02d", m.minute)
	}
	if m.prec >= bySecond {
		fmt.Fprintf(&b, ":%02d", m.second)
	}
	if m.prec >= byFraction {
		b.WriteString(("." + fmt.Sprintf("%09d", m.nanos))[:m.digits+1])
	}
	if m.zoned {
		switch sign := "+"; {
		case m.offset == 0:
			b.WriteByte('Z')
		default:
			o := m.offset
			if o < 0 {
				sign, o = "-", -o
			}
			fmt.Fprintf(&b, "%s%02d:%02d", sign, o/60, o%60)
		}
	}
	return b.String()
}

// momentOf turns an instant into a DateTime of milliseconds.
func momentOf(t time.Time) Moment {
	_, offset := t.Zone()
	return Moment{year: t.Year(), month: int(t.Month()), day: t.Day(), hour: t.Hour(), minute: t.Minute(),
		second: t.Second(), nanos: t.Nanosecond() / 1e6 * 1e6, prec: byFraction, digits: 3, zoned: true,
		offset: offset / 60}
}

// utc returns the first instant of m, read as UTC where it has no offset.
func (m Moment) utc() time.Time {
	return time.Date(m.year, time.Month(m.month), m.day, m.hour, m.minute-m.offset, m.second, m.nanos, time.UTC)
}

// set takes the fields from t, a wall-clock time.
func (m *Moment) set(t time.Time) {
	m.year, m.month, m.day = t.Year(), int(t.Month()), t.Day()
	m.hour, m.minute, m.second, m.nanos = t.Hour(), t.Minute(), t.Second(), t.Nanosecond()
}

// compare compares field by field; known is false where the answer lies beyond one value's precision, or in the
// offset that one of them lacks.
func (m Moment) compare(o Moment) (order int, known bool) {
	if m.prec >= byHour && o.prec >= byHour && (m.zoned || o.zoned) {
		if m.zoned != o.zoned {
			return m.compareOffsets(o)
		}
		if m.offset != o.offset {
			m.set(m.utc())
			o.set(o.utc())
		}
	}
	for i, f := range [...][2]int{{m.year, o.year}, {m.month, o.month}, {m.day, o.day}, {m.hour, o.hour},
		{m.minute, o.minute}} {
		p := precision(i + 1)
		if m.prec < p || o.prec < p {
			return 0, m.prec == o.prec
		}
		if f[0] != f[1] {
			return sign(f[0] - f[1]), true
		}
	}
	if m.prec < bySecond || o.prec < bySecond {
		return 0, m.prec == o.prec
	}
	// Seconds and their fraction are one field (FHIRPath, comparison).
	return sign((m.second-o.second)*1_000_000_000 + m.nanos - o.nanos), true
}

// compareOffsets compares where only one side has an offset: known only when no offset could change the answer.
func (m Moment) compareOffsets(o Moment) (int, bool) {
	diff := m.utc().Sub(o.utc())
	if diff > 26*time.Hour {
		return 1, true
	}
	if diff < -26*time.Hour {
		return -1, true
	}
	return 0, false
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}
