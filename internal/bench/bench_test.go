package bench

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/storage"
)

func store(t *testing.T) (*storage.Store, string) {
	t.Helper()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	url := kilntest.DB(t)
	s, err := storage.Open(t.Context(), storage.Options{URL: url, Registry: registry, Unrestricted: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, url
}

func demo(t *testing.T) *population {
	t.Helper()
	p, err := readPopulation("")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGenerate_makes_variations_that_hang_together(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"", kilntest.SharedData(t, "synthea")} {
		p, err := readPopulation(dir)
		if err != nil {
			t.Fatal(err)
		}
		s, _ := store(t)
		if err := generate(t.Context(), s, p, 3000, io.Discard); err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		n := 0
		err = s.Each(t.Context(), s.Registry().Schema().Resources, func(v *storage.Version) error {
			n++
			count[v.Type]++
			node, err := fhir.ParseJSON(v.Content)
			if err == nil && strings.Contains(string(node.JSON()), `"reference":"urn:uuid`) {
				t.Errorf("%s/%s has a reference to nothing", v.Type, v.ID)
			}
			return err
		})
		if err != nil || n != 3000 || count["Patient"] < 200 || count["Appointment"] < 200 {
			t.Errorf("%d resources, %v, %v", n, count, err)
		}
	}
}

// The ceiling must do the row work it says, or the ratios are worth nothing.
func TestCeiling_reads_and_writes(t *testing.T) {
	t.Parallel()
	s, url := store(t)
	if err := generate(t.Context(), s, demo(t), 100, io.Discard); err != nil {
		t.Fatal(err)
	}
	c := &ceiling{}
	if err := c.open(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	defer c.pool.Close()
	smp, err := readSample(t.Context(), c.pool, 100)
	if err != nil {
		t.Fatal(err)
	}
	handlers := c.handlers()
	ask := func(r request) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), r.method, "http://x"+r.path, strings.NewReader(string(r.body)))
		if err != nil {
			t.Fatal(err)
		}
		path, _, _ := strings.Cut(r.path, "?")
		w := &recorder{}
		if err := handlers[r.method+" "+path](w, req); err != nil {
			t.Fatalf("%s: %v", r.path, err)
		}
		if err := r.check(w.body); err != nil {
			t.Error(err)
		}
	}
	for _, sc := range append(smp.writes(), smp.searches()...) {
		if sc.ceiling != nil {
			ask(sc.ceiling(random(1)))
		}
		if sc.bare != nil {
			ask(sc.bare(random(1)))
		}
	}
	like := c.hash.Resource("Observation", smp.observations[0].id)
	for _, table := range append(append([]string{}, rowTables...), indexTables...) {
		var each, made int
		err := c.pool.QueryRow(t.Context(), "SELECT count(*) FILTER (WHERE x.rk = $1), count(*) FILTER (WHERE r.id LIKE 'c%') FROM "+table+
			" x JOIN resource r USING (rk)", like).Scan(&each, &made)
		if err != nil {
			t.Fatal(err)
		}
		n := 351 // one, 50 and 300
		if table == "resource" || table == "resource_change" {
			n = 702 // and without their index
		}
		if want := n * each; table != "resource_change" && made != want {
			t.Errorf("%s: %d rows made, not %d", table, made, want)
		}
	}
}

type recorder struct {
	header http.Header
	body   []byte
}

func (r *recorder) Header() http.Header {
	if r.header == nil {
		r.header = http.Header{}
	}
	return r.header
}
func (r *recorder) Write(p []byte) (int, error) { r.body = append(r.body, p...); return len(p), nil }
func (r *recorder) WriteHeader(int)             {}

func TestFound_tells_a_wrong_answer(t *testing.T) {
	t.Parallel()
	good, _ := json.Marshal(map[string]any{"resourceType": "Bundle", "type": "searchset",
		"entry": []any{map[string]any{"search": map[string]any{"mode": "match"}, "resource": map[string]any{"id": "a"}}}})
	isA := func(s *searchset, i int) bool { return s.Entry[i].Resource.ID == "a" }
	if err := found(1, isA)(good); err != nil {
		t.Error(err)
	}
	for _, check := range []func([]byte) error{found(2, isA), found(1, func(*searchset, int) bool { return false })} {
		if check(good) == nil {
			t.Error("a wrong answer passes")
		}
	}
	if found(0, nil)([]byte(`{"resourceType":"OperationOutcome"}`)) == nil {
		t.Error("an outcome passes for a searchset")
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	all := tally{took: time.Second}
	for i := range 100 {
		all.times = append(all.times, time.Duration(100-i)*time.Millisecond)
	}
	if p50, p99 := all.percentile(0.5), all.percentile(0.99); p50 != 51*time.Millisecond || p99 != 100*time.Millisecond || all.rate() != 100 {
		t.Error(p50, p99, all.rate())
	}
}

func TestPopulation_records_of_a_turn(t *testing.T) {
	t.Parallel()
	p := demo(t)
	seen := map[string]bool{}
	for turn := range 2 {
		for _, node := range p.recordsFrom(1000*turn, 300) {
			seen[node.ResourceType()+"/"+node.ID()] = true
			if node.ResourceType() == "Appointment" {
				t.Error("an appointment of several variations")
			}
		}
	}
	if len(seen) != 600 {
		t.Errorf("%d different resources in two turns of 300", len(seen))
	}
}
