package message

import (
	"fmt"
	"strings"
	"time"
)

// Quiet are the hours of a day in which nobody is disturbed, from and until a time since midnight. The zero value is none.
type Quiet struct{ From, Until time.Duration }

// urgent is how long before a visit there must be between the end of the quiet hours and the visit: else a message
// would come too late, and is sent at once.
const urgent = 2 * time.Hour

// ParseQuiet reads hours such as 21:00-07:00; "" or off are none.
func ParseQuiet(text string) (q Quiet, err error) {
	if text == "" || text == "off" {
		return q, nil
	}
	from, until, ok := strings.Cut(text, "-")
	for field, part := range map[*time.Duration]string{&q.From: from, &q.Until: until} {
		t, parseErr := time.Parse("15:04", strings.TrimSpace(part))
		if parseErr != nil || !ok {
			return Quiet{}, fmt.Errorf("%q are no hours such as 21:00-07:00", text)
		}
		*field = time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	}
	return q, nil
}

// Wait says until when a message about a visit is held back at a moment: zero where it can go. A visit that begins
// before, or soon after the quiet hours end, is not waited for.
func (q Quiet) Wait(now time.Time, zone *time.Location, visit time.Time) time.Time {
	if q.From == q.Until {
		return time.Time{}
	}
	t := now.In(zone)
	clock := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	quiet := clock >= q.From && clock < q.Until
	if q.From > q.Until {
		quiet = clock >= q.From || clock < q.Until
	}
	if !quiet {
		return time.Time{}
	}
	day := 0
	if clock >= q.Until {
		day = 1
	}
	end := time.Date(t.Year(), t.Month(), t.Day()+day, int(q.Until/time.Hour), int(q.Until%time.Hour/time.Minute), 0, 0, zone)
	if !visit.IsZero() && visit.After(now) && end.Add(urgent).After(visit) {
		return time.Time{}
	}
	return end
}
