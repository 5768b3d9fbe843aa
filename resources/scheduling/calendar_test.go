package scheduling_test

import (
	"slices"
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"

	"kiln/resources/scheduling"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func everyDay() []time.Weekday { return []time.Weekday{0, 1, 2, 3, 4, 5, 6} }

func TestDate_At(t *testing.T) {
	for _, c := range []struct {
		rule, zone string
		day        scheduling.Date
		at         scheduling.LocalTime
		want       string // "" for never
	}{
		{"spring_gap_has_no_half_past_two", "Europe/Vienna", scheduling.Date{2026, 3, 29}, 150, ""},
		{"spring_gap_ends_at_three", "Europe/Vienna", scheduling.Date{2026, 3, 29}, 180, "2026-03-29T01:00:00Z"},
		{"autumn_overlap_takes_the_first", "Europe/Vienna", scheduling.Date{2026, 10, 25}, 150, "2026-10-25T00:30:00Z"},
		{"autumn_after_the_overlap", "Europe/Vienna", scheduling.Date{2026, 10, 25}, 180, "2026-10-25T02:00:00Z"},
		{"new_york_overlap_takes_the_first", "America/New_York", scheduling.Date{2026, 11, 1}, 90, "2026-11-01T05:30:00Z"},
		{"santiago_has_no_midnight", "America/Santiago", scheduling.Date{2026, 9, 6}, 0, ""},
		{"santiago_begins_at_one", "America/Santiago", scheduling.Date{2026, 9, 6}, 60, "2026-09-06T04:00:00Z"},
		{"half_hour_offset", "Asia/Kolkata", scheduling.Date{2026, 5, 4}, 540, "2026-05-04T03:30:00Z"},
		{"lord_howe_sets_back_by_half_an_hour", "Australia/Lord_Howe", scheduling.Date{2026, 4, 5}, 105, "2026-04-04T14:45:00Z"},
		{"midnight_that_ends_a_day", "Europe/Vienna", scheduling.Date{2026, 3, 28}, 1440, "2026-03-28T23:00:00Z"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			got, ok := c.day.At(c.at, zone(t, c.zone))
			if c.want == "" {
				if ok {
					t.Fatalf("clocks never show it, but got %s", got)
				}
				return
			}
			if !ok || got.Format(time.RFC3339) != c.want {
				t.Fatalf("got %s, %t; want %s", got.Format(time.RFC3339), ok, c.want)
			}
		})
	}
}

func TestCalendar_days_of_23_and_25_hours(t *testing.T) {
	for _, c := range []struct {
		zone  string
		day   scheduling.Date
		hours float64
		// starts is how many visits of half an hour the day has on a grid of half an hour: wall times, each once.
		starts int
	}{
		{"Europe/Vienna", scheduling.Date{2026, 3, 29}, 23, 46},
		{"Europe/Vienna", scheduling.Date{2026, 10, 25}, 25, 48},
		{"Europe/Vienna", scheduling.Date{2026, 5, 1}, 24, 48},
		{"America/Santiago", scheduling.Date{2026, 9, 6}, 23, 46},
		{"Australia/Lord_Howe", scheduling.Date{2026, 10, 4}, 23.5, 47},
		{"Australia/Lord_Howe", scheduling.Date{2026, 4, 5}, 24.5, 48},
	} {
		t.Run(c.zone+"_"+c.day.String(), func(t *testing.T) {
			cal := scheduling.Calendar{Zone: zone(t, c.zone), Rules: []scheduling.Rule{{Days: everyDay(), Start: 0, End: 0}}}
			// "0 to 0" is the whole day: an end at or before the start is on the next.
			open := cal.Open("", c.day, c.day)
			if len(open) != 1 {
				t.Fatalf("open %v", open)
			}
			// Without a cut at the window's end, the joined rule of the last day reaches to its midnight.
			if got := open[0].End.Sub(open[0].Start).Hours(); got != c.hours {
				t.Errorf("open for %v hours, want %v", got, c.hours)
			}
			if got := len(cal.Starts(open, 30*time.Minute, 30*time.Minute)); got != c.starts {
				t.Errorf("%d starts, want %d", got, c.starts)
			}
		})
	}
}

// TestCalendar_Open_agrees_with_a_walk_by_minute compares with the obvious way: ask each minute what the clocks show.
func TestCalendar_Open_agrees_with_a_walk_by_minute(t *testing.T) {
	zones := []string{"Europe/Vienna", "America/New_York", "America/Santiago", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"}
	// Days around the changes of the clocks, and ordinary ones.
	days := []scheduling.Date{{2026, 3, 8}, {2026, 3, 29}, {2026, 4, 5}, {2026, 9, 6}, {2026, 10, 4}, {2026, 10, 25}, {2026, 11, 1}, {2026, 6, 1}}
	rapid.Check(t, func(t *rapid.T) {
		z, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		first := rapid.SampledFrom(days).Draw(t, "day").Next(rapid.IntRange(-1, 1).Draw(t, "shift"))
		var rules []scheduling.Rule
		for range rapid.IntRange(1, 3).Draw(t, "rules") {
			rules = append(rules, scheduling.Rule{
				Days:  rapid.SliceOfNDistinct(rapid.SampledFrom(everyDay()), 1, 7, rapid.ID[time.Weekday]).Draw(t, "days"),
				Start: scheduling.LocalTime(rapid.IntRange(0, 95).Draw(t, "start") * 15),
				End:   scheduling.LocalTime(rapid.IntRange(0, 96).Draw(t, "end") * 15),
			})
		}
		cal := scheduling.Calendar{Zone: z, Rules: rules}
		var away []scheduling.Interval
		if rapid.Bool().Draw(t, "leave") {
			from := first.Next(0)
			at, ok := from.At(scheduling.LocalTime(rapid.IntRange(6, 20).Draw(t, "from")*60), z)
			if ok {
				away = append(away, scheduling.Interval{Start: at, End: at.Add(time.Duration(rapid.IntRange(1, 12).Draw(t, "long")) * time.Hour)})
			}
		}
		cal.Away = away
		open := cal.Open("", first, first)
		for i := 1; i < len(open); i++ {
			if !open[i-1].End.Before(open[i].Start) {
				t.Fatalf("not in order or not joined: %v", open)
			}
		}
		begin := time.Date(first.Year, first.Month, first.Day, 0, 0, 0, 0, time.UTC).Add(-15 * time.Hour)
		for m := begin; m.Before(begin.Add(54 * time.Hour)); m = m.Add(15 * time.Minute) {
			if scheduling.DateOf(m, z) != first {
				continue
			}
			// A second showing of a wall time belongs to whatever the first did: rules go by what clocks show.
			want := false
			local := m.In(z)
			now := scheduling.LocalTime(local.Hour()*60 + local.Minute())
			for _, r := range rules {
				today, yesterday := slices.Contains(r.Days, first.Weekday()), slices.Contains(r.Days, first.Next(-1).Weekday())
				switch {
				case r.End > r.Start:
					want = want || today && now >= r.Start && now < r.End
				default:
					want = want || today && now >= r.Start || yesterday && now < r.End
				}
			}
			for _, a := range away {
				if !m.Before(a.Start) && m.Before(a.End) {
					want = false
				}
			}
			got := slices.ContainsFunc(open, func(i scheduling.Interval) bool { return !m.Before(i.Start) && m.Before(i.End) })
			if got != want && !overlapping(m, z) {
				t.Fatalf("%s (%s): open %t, want %t; %v", m, local, got, want, open)
			}
		}
	})
}

// overlapping says whether clocks show the wall time of m twice, where "first occurrence only" cuts a rule's edge.
func overlapping(m time.Time, z *time.Location) bool {
	local := m.In(z)
	for _, d := range []time.Duration{-time.Hour, time.Hour, -30 * time.Minute, 30 * time.Minute} {
		o := m.Add(d).In(z)
		if o.Hour() == local.Hour() && o.Minute() == local.Minute() {
			return true
		}
	}
	return false
}

func TestAligned(t *testing.T) {
	vienna := zone(t, "Europe/Vienna")
	first := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC)
	for _, c := range []struct {
		rule string
		at   time.Time
		want bool
	}{
		{"on_the_grid", time.Date(2026, 5, 4, 7, 0, 0, 0, time.UTC), true},
		{"off_the_grid", time.Date(2026, 5, 4, 7, 10, 0, 0, time.UTC), false},
		{"seconds", time.Date(2026, 5, 4, 7, 0, 1, 0, time.UTC), false},
		{"first_of_two", first, true},
		{"second_of_two", first.Add(time.Hour), false},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if got := scheduling.Aligned(c.at, 15*time.Minute, vienna); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}
