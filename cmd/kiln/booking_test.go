package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// bookingRace is many clients who want the same times in every way there is.
type bookingRace struct {
	origin string
	start  time.Time
	mu     sync.Mutex
	// won are the ids of appointments that a client was told it has, by round.
	won   map[int][]string
	tries atomic.Int64
	// odd are answers that are neither a booking nor a clean refusal.
	odd []string
}

const raceClients = 64

func (r *bookingRace) time(round int) (start, end string) {
	at := r.start.Add(time.Duration(round) * 30 * time.Minute)
	return at.Format(time.RFC3339), at.Add(30 * time.Minute).Format(time.RFC3339)
}

func (r *bookingRace) appointment(round, client int, status, id string) string {
	start, end := r.time(round)
	if id != "" {
		id = fmt.Sprintf(`"id":%q,`, id)
	}
	return fmt.Sprintf(`{"resourceType":"Appointment",%s"status":%q,"start":%q,"end":%q,"participant":[{"actor":{"reference":"Practitioner/racer"},"status":"accepted"},{"actor":{"reference":"Location/racer"},"status":"accepted"},{"actor":{"reference":"Patient/racer-%d"},"status":"accepted"}]}`,
		id, status, start, end, client)
}

// try wants the time of a round for a client, in one of six ways.
func (r *bookingRace) try(ctx context.Context, round, client int) {
	r.tries.Add(1)
	base := r.origin + "/fhir"
	id := fmt.Sprintf("race-%d-%d", round, client)
	var a answer
	switch (client + round) % 6 {
	case 0:
		a = send(ctx, "POST", base+"/Appointment", r.appointment(round, client, "booked", ""))
		if a.status < 300 {
			id = a.id()
		}
	case 1:
		a = send(ctx, "PUT", base+"/Appointment/"+id, r.appointment(round, client, "booked", id))
	case 2:
		a = send(ctx, "PUT", base+"/Appointment/"+id, r.appointment(round, client, "proposed", id))
		if a.err == nil && a.status < 300 {
			a = send(ctx, "PATCH", base+"/Appointment/"+id, `[{"op":"replace","path":"/status","value":"booked"}]`, "Content-Type: application/json-patch+json")
		}
	case 3: // together with something that must not stay when the time is gone
		a = send(ctx, "POST", base, `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"PUT","url":"Appointment/`+id+`"},"resource":`+r.appointment(round, client, "booked", id)+`},
			{"request":{"method":"PUT","url":"Basic/`+id+`"},"resource":{"resourceType":"Basic","id":"`+id+`","code":{"text":"race"}}}]}`)
	case 4:
		a = send(ctx, "POST", base+"/Appointment/$book", `{"resourceType":"Parameters","parameter":[{"name":"appointment-resource","resource":`+r.appointment(round, client, "booked", "")+`}]}`)
		if entries, _ := a.body["entry"].([]any); a.status < 300 && len(entries) > 0 {
			resource, _ := entries[0].(map[string]any)["resource"].(map[string]any)
			id, _ = resource["id"].(string)
		}
	case 5:
		a = send(ctx, "POST", base, `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"PUT","url":"Appointment/`+id+`"},"resource":`+r.appointment(round, client, "booked", id)+`}]}`)
		if entries, _ := a.body["entry"].([]any); a.err == nil && len(entries) > 0 {
			response, _ := entries[0].(map[string]any)["response"].(map[string]any)
			line, _ := response["status"].(string)
			fmt.Sscan(line, &a.status)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case a.err != nil || a.status == 503: // killed, or too many at once
	case a.status < 300:
		r.won[round] = append(r.won[round], id)
	case a.status != 409:
		r.odd = append(r.odd, fmt.Sprint(a.status, a.body))
	}
}

// TestRacing_bookings has 64 clients want the same times by POST, PUT, PATCH, transaction, batch, $book and import, and
// kills the server in the middle. Each time has at most one owner, whoever was told so has it, and nothing is half done.
func TestRacing_bookings(t *testing.T) {
	t.Parallel()
	const rounds = 24
	data := startedFolder(t)
	r := &bookingRace{start: time.Now().UTC().Truncate(24 * time.Hour).Add(72 * time.Hour), won: map[int][]string{}}
	p := launchServe(t, []string{"--data-dir=" + data})
	r.origin = p.origin
	for _, body := range []string{`{"resourceType":"Practitioner","id":"racer"}`, `{"resourceType":"Location","id":"racer"}`,
		`{"resourceType":"Schedule","id":"racer","actor":[{"reference":"Practitioner/racer"}]}`, `{"resourceType":"Schedule","id":"racer-room","actor":[{"reference":"Location/racer"}]}`} {
		typ := strings.Split(body, `"`)[3]
		id := strings.Split(body, `"`)[7]
		if a := send(t.Context(), "PUT", r.origin+"/fhir/"+typ+"/"+id, body); a.status != 201 {
			t.Fatalf("%+v", a)
		}
	}
	for round := range rounds {
		for _, schedule := range []string{"racer", "racer-room"} {
			start, end := r.time(round)
			if a := send(t.Context(), "POST", r.origin+"/fhir/Slot", fmt.Sprintf(`{"resourceType":"Slot","schedule":{"reference":"Schedule/%s"},"status":"free","start":%q,"end":%q}`, schedule, start, end)); a.status != 201 {
				t.Fatalf("%+v", a)
			}
		}
	}
	begin := time.Now()
	for round := range rounds {
		if round == rounds/2 {
			go func() { time.Sleep(60 * time.Millisecond); _ = p.cmd.Process.Kill() }()
		}
		together(raceClients, func(client int) { r.try(context.Background(), round, client) })
		if round == rounds/2 {
			<-p.exited
			p = launchServe(t, []string{"--data-dir=" + data})
			r.origin = p.origin
		}
	}
	took := time.Since(begin)
	t.Logf("%d tries in %s, %.0f a second", r.tries.Load(), took.Round(time.Millisecond), float64(r.tries.Load())/took.Seconds())
	for _, odd := range r.odd[:min(3, len(r.odd))] {
		t.Error(odd)
	}
	for round := range rounds {
		start, _ := r.time(round)
		a := send(t.Context(), "GET", r.origin+"/fhir/Appointment?status=booked&date="+strings.Replace(start, "Z", "", 1)+"Z", "")
		total, _ := a.body["total"].(float64)
		if total > 1 || total == 0 && round != rounds/2 {
			t.Errorf("round %d: %v appointments", round, total)
		}
		if len(r.won[round]) > 1 {
			t.Errorf("round %d: %d clients were told they have it", round, len(r.won[round]))
		}
		for _, id := range r.won[round] {
			if got := send(t.Context(), "GET", r.origin+"/fhir/Appointment/"+id, ""); got.body["status"] != "booked" {
				t.Errorf("round %d: Appointment/%s was acknowledged and is %v", round, id, got.body["status"])
			}
		}
		for client := range raceClients { // of a transaction that lost, nothing is left
			id := fmt.Sprintf("race-%d-%d", round, client)
			if (client+round)%6 != 3 {
				continue
			}
			one, other := send(t.Context(), "GET", r.origin+"/fhir/Appointment/"+id, ""), send(t.Context(), "GET", r.origin+"/fhir/Basic/"+id, "")
			if (one.status == 200) != (other.status == 200) {
				t.Errorf("%s is half there: %d and %d", id, one.status, other.status)
			}
		}
	}
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	// An import that wants a time that is gone gets none.
	file := filepath.Join(t.TempDir(), "late.ndjson")
	if err := os.WriteFile(file, []byte(r.appointment(1, 1, "booked", "late")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := command(t, "import", "--data-dir="+data, file); code == 0 {
		t.Errorf("an import took what is taken: %s %s", out, errs)
	}
	if code, out, errs := command(t, "verify-schedule", "--data-dir="+data); code != 0 {
		t.Errorf("verify-schedule: %s %s", out, errs)
	}
}
