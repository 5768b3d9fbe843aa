package message

import (
	"strings"
	"testing"
	"time"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestWrite_every_event_in_every_language(t *testing.T) {
	t.Parallel()
	texts, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	f := Facts{Start: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC), Other: time.Date(2026, 3, 3, 9, 0, 0, 0, time.UTC),
		Until: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), Portal: "https://portal.example"}
	bodies := map[string]bool{}
	for _, language := range Languages() {
		for _, e := range Events() {
			got, err := texts.Write(e, language, f)
			if err != nil {
				t.Fatal(err)
			}
			if e != Result && !strings.Contains(got.Body, "09:00") || got.Subject == "" || strings.ContainsAny(got.Subject, "\r\n") ||
				strings.Contains(got.Body, "<no value>") || !strings.Contains(got.Body, f.Portal) {
				t.Errorf("%s %s: %+v", language, e, got)
			}
			bodies[got.Body] = true
		}
	}
	if len(bodies) != len(Languages())*len(Events()) {
		t.Errorf("%d different texts", len(bodies))
	}
}

func TestDate_says_the_zone_where_it_may_not_be_the_recipients(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	oslo, berlin, santiago := zone(t, "Europe/Oslo"), zone(t, "Europe/Berlin"), zone(t, "America/Santiago")
	for _, c := range []struct {
		language   string
		zone, home *time.Location
		want       string
	}{
		{"en", oslo, oslo, "Monday, 2 March 2026, 10:00"},
		{"en", oslo, berlin, "Monday, 2 March 2026, 10:00"},
		{"en", oslo, nil, "Monday, 2 March 2026, 10:00 (time in Europe/Oslo)"},
		{"de", oslo, santiago, "Montag, 2. März 2026, 10:00 Uhr (Zeit in Europe/Oslo)"},
		{"es", santiago, santiago, "lunes, 2 de marzo de 2026, 06:00"},
		{"fr", nil, nil, "lundi 2 mars 2026, 09:00 (fuseau horaire : UTC)"},
	} {
		if got := date(c.language, at, c.zone, c.home); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	if got := date("fr", at.AddDate(0, 0, -1), nil, time.UTC); got != "dimanche 1er mars 2026, 09:00" {
		t.Error(got)
	}
}

func TestLanguage_of_the_patient(t *testing.T) {
	t.Parallel()
	for want, preferred := range map[string][]string{"de": {"de-AT"}, "es": {"nl", "es_MX"}, "en": {"nl"}, "fr": {"FR"}} {
		if got := Language(preferred...); got != want {
			t.Errorf("%v: %s", preferred, got)
		}
	}
	if got := Language(); got != "en" {
		t.Error(got)
	}
}

func TestQuiet_hours(t *testing.T) {
	t.Parallel()
	oslo := zone(t, "Europe/Oslo")
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 3, day, hour, minute, 0, 0, oslo) }
	night, err := ParseQuiet("21:00-07:00")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		q               Quiet
		now, visit, end time.Time
	}{
		"by_day":                                   {night, at(2, 12, 0), at(5, 9, 0), time.Time{}},
		"in_the_evening_until_the_morning":         {night, at(2, 22, 0), at(5, 9, 0), at(3, 7, 0)},
		"after_midnight_until_the_same_morning":    {night, at(3, 2, 0), at(5, 9, 0), at(3, 7, 0)},
		"from_its_first_minute":                    {night, at(2, 21, 0), at(5, 9, 0), at(3, 7, 0)},
		"not_at_its_last":                          {night, at(3, 7, 0), at(5, 9, 0), time.Time{}},
		"not_where_the_visit_begins_soon_after":    {night, at(3, 6, 0), at(3, 8, 0), time.Time{}},
		"over_the_change_of_clocks":                {night, at(28, 23, 0), at(30, 9, 0), at(29, 7, 0)},
		"without_a_visit":                          {night, at(2, 22, 0), time.Time{}, at(3, 7, 0)},
		"at_noon":                                  {Quiet{12 * time.Hour, 13 * time.Hour}, at(2, 12, 30), at(5, 9, 0), at(2, 13, 0)},
		"none":                                     {Quiet{}, at(2, 22, 0), at(5, 9, 0), time.Time{}},
		"about_a_visit_that_is_over_waits_as_well": {night, at(2, 22, 0), at(1, 9, 0), at(3, 7, 0)},
	} {
		if got := c.q.Wait(c.now, oslo, c.visit); !got.Equal(c.end) {
			t.Errorf("%s: until %v, want %v", name, got, c.end)
		}
	}
	for _, bad := range []string{"21", "21:00", "25:00-07:00", "21:00-07:00-08:00", "x-y"} {
		if _, err := ParseQuiet(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if q, err := ParseQuiet("off"); err != nil || q != (Quiet{}) {
		t.Error(q, err)
	}
}
