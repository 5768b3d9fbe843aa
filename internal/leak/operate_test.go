package leak

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/conformance"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/resources"
	"kiln/storage"
)

// operating fills a database, breaks a rule of it by sql, and gives one of the callers, to run operations there that are rolled
// back.
func operating(t *testing.T, sql, who string) *writer {
	t.Helper()
	now := clock(time.Now().UTC().Truncate(time.Second))
	url := kilntest.DB(t)
	s, store := open(t, url, now.read, true, "")
	(&story{t: t, s: s, r: rand.New(rand.NewPCG(*seed, 2)), now: now.read()}).write()
	world := sample(t, s, store)
	store.Close()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	rehearsing, err := storage.Open(t.Context(), storage.Options{URL: url, Base: base, Registry: registry, PoolSize: 2, Rehearse: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rehearsing.Close)
	rehearsal, err := resources.New(resources.Options{Store: rehearsing, Registry: registry, Base: base})
	if err != nil {
		t.Fatal(err)
	}
	all := callers()
	c := all[slices.IndexFunc(all, func(c named) bool { return c.name == who })]
	w := &writer{session: &session{service: rehearsal, world: world.World, who: Caller{c.name, c.Principal}, report: &Report{}, reads: map[string]bool{}}, r: rand.New(rand.NewPCG(*seed, 3))}
	if err := w.may(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// runs runs operations until one is a leak.
func (w *writer) runs(t *testing.T, times int) (tried map[string]int, found *Finding) {
	t.Helper()
	tried = map[string]int{}
	for turn := range times {
		a, err := w.operated(t.Context(), turn)
		if err != nil {
			t.Fatal(err)
		}
		if a == nil {
			continue
		}
		tried[a.kind]++
		if found, err = w.found(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if found != nil {
			break
		}
	}
	return tried, found
}

// Operations are run on what is hidden and on what is not; where the rule holds they tell nothing.
func TestOperations(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"patient", "doctor", "admin"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			tried, found := operating(t, "SELECT 1", who).runs(t, 120)
			if found != nil {
				t.Errorf("%s: %s", found.Ask, found.Problem)
			}
			hidden, visible := 0, 0
			for kind := range tried {
				if strings.HasSuffix(kind, " of what is visible") {
					visible++
				} else {
					hidden++
				}
			}
			if hidden < 3 || visible < 5 {
				t.Errorf("it tried too little: %v", tried)
			}
		})
	}
}

// Where operations reach what they must not, they find it.
func TestOperations_find(t *testing.T) {
	t.Parallel()
	w := operating(t, `CREATE OR REPLACE VIEW visible.treated AS SELECT r.rk AS patient FROM public.resource r WHERE r.type = 'Patient'`, "doctor")
	if tried, found := w.runs(t, 1000); found == nil {
		t.Errorf("nothing found: %v", tried)
	}
}

// What an answer tells of somebody hidden is found, wherever it stands.
func TestOperations_tell(t *testing.T) {
	t.Parallel()
	w := operating(t, "SELECT 1", "patient") // who is p0
	a := &attempt{kind: "test", ask: operate("Patient", "", "match", `{"name":"of","valueString":"Observation/sent"}`), visible: true}
	hidden := `{"resourceType":"Patient","id":"p1"}`
	content := fhir.Obj(fhir.Str("Parameters").As("resourceType"), fhir.Arr(fhir.Obj(fhir.Str("x").As("name"), fhir.Obj(fhir.Str("Patient").As("resourceType"), fhir.Str("p1").As("id")).As("resource"))).As("parameter"))
	version := &storage.Version{Type: "Patient", ID: "p1", Content: []byte(hidden)}
	own := &storage.Version{Type: "Patient", ID: "p0", Content: []byte(`{"resourceType":"Patient","id":"p0"}`)}
	message := func(text string) error { return fhir.NewError(fhir.Conflict, fhir.CodeConflict, text) }
	for name, c := range map[string]struct {
		resp *resources.Response
		err  error
		is   bool
	}{
		"version":           {&resources.Response{Version: version}, nil, true},
		"entry":             {&resources.Response{Bundle: &resources.Bundle{Entries: []resources.Entry{{Version: own}, {Version: version}}}}, nil, true},
		"entry_of_a_batch":  {&resources.Response{Bundle: &resources.Bundle{Entries: []resources.Entry{{Response: &resources.Response{Version: version}}}}}, nil, true},
		"parameter":         {&resources.Response{Resource: &content}, nil, true},
		"message":           {nil, message("It is that of Patient/p1."), true},
		"own":               {&resources.Response{Version: own}, message("It is that of Patient/p0."), false},
		"what_is_new":       {&resources.Response{Version: &storage.Version{Type: "Patient", ID: "made", Content: []byte(`{}`)}}, nil, false},
		"what_was_sent":     {nil, message("There is no Observation/sent."), false},
		"nothing_of_anyone": {nil, message("No."), false},
	} {
		problem, err := w.tells(t.Context(), a, c.resp, c.err)
		if err != nil || (problem != "") != c.is {
			t.Errorf("%s: %q, %v", name, problem, err)
		}
	}
}

// What a message names is no leak where a read of what was asked about shows it already; it is one where no read does, also where a longer
// name begins with it.
func TestOperations_tell_what_a_read_shows(t *testing.T) {
	t.Parallel()
	w := operating(t, "SELECT 1", "doctor")
	readable := func(key string) bool {
		ok, err := w.readable(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	problem := func(about, body, told string) string {
		typ, id, _ := strings.Cut(about, "/")
		a := &attempt{kind: "test", ask: operate(typ, id, "cancel", body), visible: true}
		text, err := w.tells(t.Context(), a, nil, fhir.NewError(fhir.Conflict, fhir.CodeConflict, "That time is of "+told+"."))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	const other = "Practitioner/d0" // whom every caller reads, and who names nobody
	tried := 0
	for _, n := range w.world.nodes {
		about := keyOf(n)
		if !readable(about) {
			continue
		}
		for hidden := range keysIn(string(n.JSON())) {
			if typ, _, _ := strings.Cut(hidden, "/"); w.world.byKey[hidden] == nil || !w.granted(t.Context(), typ) || readable(hidden) {
				continue
			}
			tried++
			if text := problem(about, "", hidden); text != "" {
				t.Errorf("about %s, which names %s: %s", about, hidden, text)
			}
			for _, sent := range []string{"", `{"name":"x","valueString":"` + hidden + `0"}`} {
				if problem(other, sent, hidden) == "" {
					t.Errorf("about %s, with %s: that %s is named was not found", other, sent, hidden)
				}
			}
			if text := problem(other, `{"name":"x","valueString":"`+hidden+`"}`, hidden); text != "" {
				t.Errorf("%s was sent: %s", hidden, text)
			}
		}
	}
	if tried == 0 {
		t.Error("nothing that the caller reads names what it does not: nothing was tried")
	}
}
