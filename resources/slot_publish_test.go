package resources

import (
	"slices"
	"strings"
	"testing"
	"time"

	"kiln/internal/kilntest"
	"kiln/storage"
)

// TestPublication_shows_free_time_and_nobody: what is published is what is free and to come, without comments,
// extensions and what is labelled.
func TestPublication_shows_free_time_and_nobody(t *testing.T) {
	t.Parallel()
	clock := kilntest.NewClock()
	s := newService(t, func(o *Options, so *storage.Options) { o.Now, so.Now = clock.Now, clock.Now })
	for _, body := range []string{
		`{"resourceType":"Practitioner","id":"dr","name":[{"family":"House"}]}`,
		`{"resourceType":"Patient","id":"ada","name":[{"family":"Secretname"}]}`,
		`{"resourceType":"Location","id":"l","status":"active","name":"Harbour","description":"Behind the Secretname wing"}`,
		`{"resourceType":"Schedule","id":"s","active":true,"comment":"Secretname on Mondays","actor":[{"reference":"Practitioner/dr"}]}`,
		`{"resourceType":"Slot","id":"past","schedule":{"reference":"Schedule/s"},"status":"free","start":"2026-01-14T10:00:00Z","end":"2026-01-14T10:30:00Z"}`,
		`{"resourceType":"Slot","id":"free","schedule":{"reference":"Schedule/s"},"status":"free","start":"2026-01-16T10:00:00Z","end":"2026-01-16T10:30:00Z","comment":"kept for Secretname"}`,
		`{"resourceType":"Slot","id":"taken","schedule":{"reference":"Schedule/s"},"status":"free","start":"2026-01-16T11:00:00Z","end":"2026-01-16T11:30:00Z"}`,
		`{"resourceType":"Slot","id":"labelled","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]},"schedule":{"reference":"Schedule/s"},"status":"free","start":"2026-01-16T12:00:00Z","end":"2026-01-16T12:30:00Z"}`,
		`{"resourceType":"Slot","id":"far","schedule":{"reference":"Schedule/s"},"status":"free","start":"2026-06-16T10:00:00Z","end":"2026-06-16T10:30:00Z"}`,
		`{"resourceType":"Appointment","id":"a","status":"booked","slot":[{"reference":"Slot/taken"}],"start":"2026-01-16T11:00:00Z","end":"2026-01-16T11:30:00Z","participant":[{"actor":{"reference":"Patient/ada"},"status":"accepted"},{"actor":{"reference":"Practitioner/dr"},"status":"accepted"}]}`,
	} {
		put(t, s, body)
	}
	publisher := NewPublisher(s)
	p, err := publisher.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all string
	for _, f := range p.Files {
		all += string(f.Content)
	}
	want := `{"resourceType":"Location","id":"l","status":"active","name":"Harbour"}
{"resourceType":"Schedule","id":"s","active":true,"actor":[{"reference":"Practitioner/dr"}]}
{"resourceType":"Slot","id":"free","schedule":{"reference":"Schedule/s"},"status":"free","start":"2026-01-16T10:00:00Z","end":"2026-01-16T10:30:00Z"}
`
	if sorted(all) != sorted(want) {
		t.Errorf("got\n%swant\n%s", all, want)
	}
	put(t, s, `{"resourceType":"Location","id":"l2","status":"active","name":"Hill"}`)
	if again, _ := publisher.Current(t.Context()); again != p {
		t.Error("made anew within a minute")
	}
	clock.Advance(time.Minute)
	if again, _ := publisher.Current(t.Context()); again == p || again.Tag == p.Tag {
		t.Error("not made anew after a minute")
	}
}

// sorted has the members of objects in one order: jsonb keeps none.
func sorted(s string) string {
	b := []byte(strings.NewReplacer("{", "", "}", "", "\n", ",").Replace(s))
	list := strings.Split(string(b), ",")
	slices.Sort(list)
	return strings.Join(list, ",")
}
