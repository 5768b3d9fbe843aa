package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"kiln/auth/oauth"
	"kiln/storage/identity"
)

// authAim is how much more processor time, of Kiln and PostgreSQL together, a request may cost for being asked for an access
// token.
const authAim = 0.15

// caller is somebody with a token, and what to ask in that name. All of it is there for the caller.
type caller struct {
	name, token string
	scenarios   []scenario
}

// measureAuth compares reads and searches with an access token, and so through the views of what a caller may see, with
// the same asked of a server that asks nobody for anything: two processes on one database, in turns.
func (r *report) measureAuth(ctx context.Context, d *database) error {
	open, err := start(ctx, d.url, "/readyz", r.options.Progress, "serve", "--auth=off")
	if err != nil {
		return err
	}
	defer open.stop()
	asking, err := start(ctx, d.url, "/readyz", r.options.Progress, "serve", "--auth=smart")
	if err != nil {
		return err
	}
	defer asking.stop()
	callers, err := d.callers(ctx)
	if err != nil {
		return err
	}
	for _, who := range callers {
		for _, sc := range who.scenarios {
			if !strings.Contains(who.name+": "+sc.name, r.options.Match) {
				continue
			}
			with := func(random *rand.Rand) request {
				q := sc.kiln(random)
				q.token = who.token
				return q
			}
			for _, workers := range r.options.Workers {
				t := r.options.measure(ctx, []contender{{open, d, sc.kiln}, {asking, d, with}}, workers)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				r.authed(who.name+": "+sc.name, workers, t)
			}
		}
	}
	return nil
}

// sqlTreats is the practitioner who treats most patients now, and who they are.
const sqlTreats = `
SELECT a.type || '/' || a.id, array_agg(p.id) FROM treatment t JOIN resource a ON a.rk = t.actor JOIN resource p ON p.rk = t.patient
WHERE t.confirmed AND t.low <= now() AND t.high > now() AND a.type = 'Practitioner' GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1`

// callers are a backend system, a patient and a practitioner, each with the questions that the data answers them.
func (d *database) callers(ctx context.Context) ([]caller, error) {
	var practitioner string
	var treated []string
	if err := d.pool.QueryRow(ctx, sqlTreats).Scan(&practitioner, &treated); err != nil {
		return nil, fmt.Errorf("find a practitioner: %w", err)
	}
	of := map[string][]observation{}
	most := d.sample.observations[0].patient
	for _, o := range d.sample.observations {
		if of[o.patient] = append(of[o.patient], o); len(of[o.patient]) > len(of[most]) {
			most = o.patient
		}
	}
	own := &sample{observations: of[most], patients: d.sample.patients}
	known := &sample{patients: d.sample.patients}
	for _, id := range treated {
		known.observations = append(known.observations, of[id]...)
	}
	if len(known.observations) == 0 {
		return nil, errors.New("nobody whom the practitioner treats has a record; take a larger --scale")
	}
	identities := d.store.Identity()
	asks := []string{"patient + code, by date", "patient + category", "_include"}
	var callers []caller
	for _, who := range []struct {
		role, self, patient, scope string
		sample                     *sample
		asks                       []string
	}{
		{"system", "", "", "system/*.rs", d.sample, append([]string{"identifier"}, asks...)},
		{"patient", "Patient/" + most, most, "patient/*.rs", own, asks},
		{"practitioner", practitioner, "", "user/*.rs", known, asks},
	} {
		var token string
		var err error
		if who.self == "" {
			token, _, err = oauth.IssueToken(ctx, identities, who.scope, 24*time.Hour, time.Now())
		} else {
			a := &identity.Account{Username: "bench-" + who.role, Roles: []string{who.role}, FHIRUser: []string{who.self}}
			if err = identities.AddAccount(ctx, a); err == nil {
				token, _, err = oauth.IssueUserToken(ctx, identities, a, who.patient, who.scope, 24*time.Hour, time.Now())
			}
		}
		if err != nil {
			return nil, fmt.Errorf("make an access token: %w", err)
		}
		list := []scenario{{name: "read", kiln: func(random *rand.Rand) request {
			id := pick(random, who.sample.observations).id
			return get("/fhir/Observation/"+id, has(id))
		}}}
		for _, sc := range who.sample.searches() {
			if slices.Contains(who.asks, sc.name) {
				list = append(list, sc)
			}
		}
		callers = append(callers, caller{who.role, token, list})
	}
	return callers, nil
}

// authed adds the line of a scenario: without a token, and with one.
func (r *report) authed(name string, workers int, t []tally) {
	if !r.check(name, t...) {
		r.auth = append(r.auth, []string{name, fmt.Sprint(workers), "WRONG ANSWER"})
		return
	}
	used := func(t *tally) float64 { return t.each(t.cpu + t.work).Seconds() }
	median := t[1].percentile(0.5).Seconds()/max(t[0].percentile(0.5).Seconds(), 1e-9) - 1
	all := used(&t[1])/max(used(&t[0]), 1e-9) - 1
	row := append(append([]string{name, fmt.Sprint(workers)}, speed(&t[0])...), speed(&t[1])...)
	row = append(row, fmt.Sprintf("%+.0f %%", 100*median), fmt.Sprintf("%+.0f %%", 100*all), verdict(all > authAim, "cost"))
	r.auth = append(r.auth, row)
	fmt.Fprintln(r.options.Progress, strings.Join(row, " | "))
}

// authHeader is what stands above these lines.
func authHeader() []string {
	head := []string{"what", "clients"}
	for _, how := range []string{"", " with a token"} {
		for _, h := range speedHeader {
			head = append(head, h+how)
		}
	}
	return append(head, "p50 more", "all CPU more", fmt.Sprintf("aim: %.0f %% of CPU", 100*authAim))
}
