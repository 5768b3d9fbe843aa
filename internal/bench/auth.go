package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
)

// authAim is how much more processor time, of Kiln and PostgreSQL together, a request may cost for being asked for an access
// token.
const authAim = 0.15

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
	token, err := accessToken(ctx, d.url)
	if err != nil {
		return err
	}
	list := []scenario{{name: "read", kiln: func(random *rand.Rand) request {
		id := pick(random, d.sample.observations).id
		return get("/fhir/Observation/"+id, has(id))
	}}}
	for _, sc := range d.sample.searches() {
		if sc.selective && sc.setup == nil && len(list) < 4 {
			list = append(list, sc)
		}
	}
	for _, sc := range list {
		with := func(random *rand.Rand) request {
			q := sc.kiln(random)
			q.token = token
			return q
		}
		for _, workers := range r.options.Workers {
			t := r.options.measure(ctx, []contender{{open, d, sc.kiln}, {asking, d, with}}, workers)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.authed(sc.name, workers, t)
		}
	}
	return nil
}

// accessToken has this program make a token, as an operator would.
func accessToken(ctx context.Context, databaseURL string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, self, "token", "--scope=system/*.rs", "--ttl=24h", "--log-level=error")
	cmd.Env = append(os.Environ(), "KILN_DATABASE_URL="+databaseURL)
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("make an access token: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
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
