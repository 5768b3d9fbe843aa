package resources

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"kiln/fhir"
	"kiln/resources/scheduling"
	"kiln/storage"
)

// maxSeries is how many visits one series has; docs/limits.md publishes it.
const maxSeries = 52

// seriesSystem is the identifier that the visits of one series share.
const seriesSystem = fhir.CanonicalBase + "sid/appointment-series"

// series books a visit again and again at the same local time: all or none of them, or as many as can be had. The answer
// tells of each, in order.
func (s *Service) series(ctx context.Context, c *call, o *order, timing *fhir.Node) (*Response, error) {
	mode := c.text("mode")
	if mode != "" && mode != "all-or-nothing" && mode != "best-effort" {
		return nil, fhir.NewError(fhir.Invalid, fhir.CodeCodeInvalid, "mode is all-or-nothing or best-effort").At("Parameters")
	}
	start, end := instant(o.node.Get("start")), instant(o.node.Get("end"))
	if start.IsZero() || !start.Before(end) {
		return nil, fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "The first visit of a series has a start and an end").Coded("time-required").At("Appointment.start")
	}
	zone := time.UTC
	err := s.store.Write(everything(ctx), func(tx *storage.Tx) error {
		v, err := s.readVisit(ctx, tx, o.node)
		if err == nil && v.zone != nil {
			zone = v.zone
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	starts, err := occurrences(timing, start, zone)
	if err != nil {
		return nil, err
	}
	fingerprint := s.operationFingerprint(ctx, c)
	shared := fhir.Obj(fhir.Str(seriesSystem).As("system"), fhir.Str(s.options.NewID()).As("value"))
	visit := func(at time.Time) fhir.Node {
		n := o.node.Clone()
		n.Set("start", fhir.Str(fhir.FormatInstant(at)))
		n.Set("end", fhir.Str(fhir.FormatInstant(at.Add(end.Sub(start)))))
		n.Remove("slot")
		ids := fhir.Arr()
		if has := n.Get("identifier"); has != nil {
			ids = has.Clone()
		}
		ids.Kids = append(ids.Kids, shared)
		n.Set("identifier", ids)
		return n
	}
	answer := &Bundle{Type: "searchset"}
	add := func(v *storage.Version) { answer.Entries = append(answer.Entries, Entry{Version: v, Mode: "match"}) }
	if mode != "best-effort" {
		for i := range starts {
			at := starts[i]
			if at.Before(s.now()) {
				return nil, fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, "A visit of the series has passed").Coded("in-the-past")
			}
		}
		resp, err := s.write(ctx, &o.request, fingerprint, func(tx *storage.Tx) (*Response, error) {
			bundle := &Bundle{Type: "transaction-response"}
			for i, at := range starts {
				resp, err := s.takeNew(ctx, tx, c, o, visit(at))
				if err != nil {
					return nil, occurrence(err, i, at)
				}
				bundle.Entries = append(bundle.Entries, Entry{Interaction: Create, Response: resp})
			}
			return &Response{Bundle: bundle}, nil
		})
		if err != nil {
			return nil, err
		}
		if resp.Bundle == nil {
			return nil, fhir.NewError(fhir.Conflict, fhir.CodeDuplicate, "This series has been booked; search for its appointments").Coded("already-booked")
		}
		for _, e := range resp.Bundle.Entries {
			add(e.Response.Version)
		}
	} else {
		for i, at := range starts {
			r := o.request
			if r.IdempotencyKey != "" {
				r.IdempotencyKey += " " + strconv.Itoa(i)
			}
			resp, err := s.write(ctx, &r, fingerprint, func(tx *storage.Tx) (*Response, error) {
				return s.takeNew(ctx, tx, c, o, visit(at))
			})
			var e *fhir.Error
			switch {
			case err == nil:
				add(resp.Version)
			case errors.As(err, &e) && (e.Kind == fhir.Conflict || e.Kind == fhir.BusinessRule):
				outcome := fhir.OperationOutcome(e.Issues...)
				outcome.SetFirst("id", fhir.Str(fmt.Sprintf("visit-%d", i+1)))
				answer.Entries = append(answer.Entries, Entry{Mode: "outcome", Version: &storage.Version{Type: "OperationOutcome", Content: outcome.JSON()}})
			default:
				return nil, err
			}
		}
	}
	total := int64(0)
	for _, e := range answer.Entries {
		if e.Mode == "match" {
			total++
		}
	}
	answer.Total = &total
	return &Response{Bundle: answer}, nil
}

// occurrence says of which visit of a series an error speaks.
func occurrence(err error, i int, at time.Time) error {
	var e *fhir.Error
	if !errors.As(err, &e) || len(e.Issues) == 0 {
		return err
	}
	e.Issues[0].Text = fmt.Sprintf("Visit %d of the series, %s: %s", i+1, fhir.FormatInstant(at), e.Issues[0].Text)
	return err
}

// occurrences are the starts of a series: the first, and those at the same local time after each period.
func occurrences(timing *fhir.Node, first time.Time, zone *time.Location) ([]time.Time, error) {
	bad := func(text string) error {
		return fhir.NewError(fhir.BusinessRule, fhir.CodeBusinessRule, text).Coded("bad-timing").At("Timing.repeat")
	}
	repeat := timing.Get("repeat")
	number := func(name string, fallback int) int {
		n := repeat.Get(name)
		if n == nil {
			return fallback
		}
		v, err := strconv.Atoi(n.Text)
		if err != nil {
			return -1
		}
		return v
	}
	period, count := number("period", 0), number("count", 0)
	until := time.Time{}
	if d, ok := fhir.ParseDateTime(repeat.At("boundsPeriod").GetText("end"), zone); ok {
		until = d.End()
	}
	switch {
	case number("frequency", 1) != 1:
		return nil, bad("A series has one visit in each period")
	case period < 1 || period > 366:
		return nil, bad("period is a whole number of days, weeks or months, one at least")
	case count < 0 || count == 0 && until.IsZero():
		return nil, bad("A series ends: give count or boundsPeriod.end")
	case count > maxSeries:
		return nil, bad(fmt.Sprintf("A series has %d visits at most", maxSeries))
	}
	local := first.In(zone)
	day := scheduling.DateOf(first, zone)
	clock := scheduling.LocalTime(local.Hour()*60 + local.Minute())
	var starts []time.Time
	for i := 0; count == 0 || i < count; i++ {
		var at scheduling.Date
		switch repeat.GetText("periodUnit") {
		case "d":
			at = day.Next(i * period)
		case "wk":
			at = day.Next(7 * i * period)
		case "mo":
			month := time.Date(day.Year, day.Month+time.Month(i*period), 1, 12, 0, 0, 0, time.UTC)
			at = scheduling.Date{Year: month.Year(), Month: month.Month(), Day: day.Day}
			if check := at.Next(0); check != at {
				continue // there is no 31st in this month
			}
		default:
			return nil, bad("periodUnit is d, wk or mo")
		}
		start, ok := at.At(clock, zone)
		if !until.IsZero() && start.After(until) {
			break
		}
		if ok {
			starts = append(starts, start)
		}
		if len(starts) > maxSeries || i > 10*maxSeries {
			return nil, bad(fmt.Sprintf("A series has %d visits at most", maxSeries))
		}
	}
	return starts, nil
}
