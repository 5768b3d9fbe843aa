package leak

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/auth"
	"kiln/conformance"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/resources"
	"kiln/storage"
	"kiln/storage/identity"
)

var (
	seed     = flag.Uint64("leak.seed", 1, "what data and requests are made from")
	requests = flag.Int("leak.requests", 60, "how many requests each caller makes")
)

const base = "http://localhost:8080/fhir"

// proofHash is that of an access token.
var proofHash = make([]byte, 32)

// prove keeps the token of proofHash.
func prove(t testing.TB, store *storage.Store) {
	t.Helper()
	if err := store.Identity().EnsureGrant(t.Context(), &identity.Grant{ID: "g", Context: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if err := store.Identity().AddToken(t.Context(), &identity.Token{Hash: proofHash, Kind: identity.Access, Grant: "g", Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
}

// open opens a database. ids begin the ids of new resources: those of earlier callers must not be met again.
func open(t testing.TB, url string, clock func() time.Time, operator bool, ids string) (*resources.Service, *storage.Store) {
	t.Helper()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	store, err := storage.Open(t.Context(), storage.Options{URL: url, Base: base, Registry: registry, PoolSize: 2, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	o := resources.Options{Store: store, Registry: registry, Base: base, Now: clock, Limits: resources.Limits{MaxIncluded: 8}, MultipleDelete: true,
		NewID: func() string { n++; return fmt.Sprintf("new-%s%d-", ids, n) }}
	if operator {
		o.Anonymous, o.ForeignAudit = auth.Operator("test"), true
	}
	s, err := resources.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, store
}

// Every answer is the one that a server would give that holds nothing but what the caller may read: each request is made
// of two databases, one with everything, and one from which all else has been taken out.
func TestNonInterference(t *testing.T) {
	t.Parallel()
	now := clock(time.Now().UTC().Truncate(time.Second))
	whole := kilntest.DB(t)
	s, store := open(t, whole, now.read, true, "")
	(&story{t: t, s: s, r: rand.New(rand.NewPCG(*seed, 0)), now: now.read()}).write()
	prove(t, store)
	store.Close()
	for i, who := range callers() {
		ids := fmt.Sprintf("%d-", i)
		// What earlier callers have changed is part of the data of the next.
		t.Run(strings.ReplaceAll(who.name, " ", "_"), func(t *testing.T) {
			part := kilntest.Copy(t, whole)
			a, storeA := open(t, whole, now.read, false, ids)
			defer storeA.Close()
			world := sample(t, a, storeA)
			hidden, out := prune(t, a, world, who.Principal, part)
			b, storeB := open(t, part, now.read, false, ids)
			defer storeB.Close()
			c := &comparison{t: t, a: a, b: b, stores: []*storage.Store{storeA, storeB}, who: who.Principal, time: &now, hidden: out}
			h := fnv.New64()
			h.Write([]byte(who.name))
			r := rand.New(rand.NewPCG(*seed, h.Sum64()))
			c.r = r
			for i := 0; i < *requests && c.leaks < 3 && !c.over; i++ {
				ask := world.Read(r)
				if i%4 == 3 {
					ask = world.write(r)
				}
				c.compare(ask)
			}
			t.Logf("%d of %d versions hidden; %d answers compared, %d of them with content", hidden, len(world.versions), c.compared, c.full)
		})
	}
}

// clock stands until it is set.
type clock time.Time

func (c *clock) read() time.Time { return time.Time(*c) }

// comparison asks the same of both.
type comparison struct {
	t              *testing.T
	a, b           *resources.Service
	stores         []*storage.Store
	who            auth.Principal
	time           *clock
	hidden         []string // resources that b does not have
	noise          int
	r              *rand.Rand
	compared, full int
	leaks          int
	over           bool
	cursor, next   string // of b: the page asked for, and the one after it
}

// gained says whether the caller has written something, such as a CareTeam, by which plain reads show more than they did:
// then the two databases are no longer what they were, and nothing more can be compared.
func (c *comparison) gained() bool {
	for _, key := range c.hidden {
		typ, id, _ := strings.Cut(key, "/")
		if _, err := c.a.Do(c.t.Context(), resources.Request{Principal: c.who, Interaction: resources.Read, Type: typ, ID: id}); err == nil {
			c.t.Logf("the caller has given itself the right to read %s", key)
			c.over = true
			return true
		}
	}
	return false
}

// others change something that the caller does not see.
func (c *comparison) others() {
	for range 3 {
		typ, id, _ := strings.Cut(pick(c.r, c.hidden), "/")
		switch typ {
		case "Observation", "Condition", "Communication", "DocumentReference", "Coverage", "Task", "List", "Device", "Patient", "Person":
			c.noise++
			if c.noise%2 == 0 {
				*c.time = clock(time.Time(*c.time).Add(time.Second))
			}
			c.a.Do(c.t.Context(), resources.Request{Principal: auth.Operator("test"), Interaction: resources.Patch, Type: typ, ID: id,
				JSONPatch: fmt.Appendf(nil, `[{"op":"add","path":"/meta/tag","value":[{"system":"urn:noise","code":"n%d"}]}]`, c.noise)})
		}
	}
}

// asks is what one of the two requests is made in: by turns one of them has to prove its token, and so is answered without the views where it
// can be (storage/surely.go, storage/weighed.go). What that leaves out, or shows beside, the other does not.
func (c *comparison) asks(which int) context.Context {
	if c.compared%2 != which {
		return c.t.Context()
	}
	return storage.WithProof(c.t.Context(), storage.NewProof(proofHash, time.Now()))
}

func (c *comparison) answers(ask Ask) (string, string, *resources.Response) {
	ask.Principal = c.who
	// Later than all that is written, so that no transaction has to be tried again under other ids.
	*c.time = clock(time.Time(*c.time).Add(time.Second))
	respA, errA := c.a.Do(c.asks(0), ask.request())
	own := ask
	if c.cursor != "" { // a paging link belongs to the database that it comes from
		own.Query = c.cursor
	}
	respB, errB := c.b.Do(c.asks(1), own.request())
	c.next = nextPage(respB)
	if changes(ask) { // what servers otherwise hear of within two seconds: that two Patients were merged
		for _, s := range c.stores {
			if err := s.RefreshParameters(c.t.Context()); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	for _, err := range []error{errA, errB} {
		if k := fhir.KindOf(err); err != nil && (k == fhir.Internal || k == fhir.Transient) {
			c.t.Errorf("%s: %v", ask, err)
		}
	}
	// That something is withheld, those who treat the patient are told on purpose, and the same whatever they ask.
	for _, resp := range []*resources.Response{respA, respB} {
		quiet(resp)
	}
	return made.ReplaceAllString(Answer(respA, errA), "new"), made.ReplaceAllString(Answer(respB, errB), "new"), respA
}

// quiet takes out of an answer that something is withheld.
func quiet(resp *resources.Response) {
	if resp == nil {
		return
	}
	if resp.Resource != nil { // GraphQL tells it beside the data
		if outcome := resp.Resource.At("extensions", "resource"); outcome != nil {
			var kept []fhir.Node
			for i := range outcome.Get("issue").Items() {
				if i.GetText("code") != fhir.CodeSuppressed {
					kept = append(kept, *i)
				}
			}
			if resp.Resource.Remove("extensions"); len(kept) > 0 {
				resp.Resource.Set("extensions", fhir.Arr(kept...))
			}
		}
	}
	if resp.Bundle == nil {
		return
	}
	resp.Bundle.Issues = slices.DeleteFunc(resp.Bundle.Issues, func(i fhir.Issue) bool { return i.Code == fhir.CodeSuppressed })
	for _, e := range resp.Bundle.Entries {
		quiet(e.Response)
	}
}

// made are the ids of new resources: a transaction that is tried again takes others.
var made = regexp.MustCompile(`new-([0-9]+-)+`)

func (c *comparison) compare(ask Ask) {
	c.t.Helper()
	defer func() { c.cursor = "" }()
	for page := 0; page < 3; page++ {
		x, y, resp := c.answers(ask)
		c.compared++
		if resp != nil && (resp.Version != nil || resp.Bundle != nil && len(resp.Bundle.Entries) > 0) {
			c.full++
		}
		if x != y {
			if c.gained() {
				return
			}
			c.leaks++
			if !changes(ask) {
				ask = Shrink(ask, func(a Ask) bool { x, y, _ := c.answers(a); return x != y })
				x, y, _ = c.answers(ask)
			}
			x, y = apart(x, y)
			c.t.Errorf("%s\n%s\nwith everything:\n%s\nwith what is visible:\n%s", ask, ask.Body, x, y)
			return
		}
		if ask.Params, ask.Query = nil, nextPage(resp); ask.Query == "" {
			return
		}
		c.cursor = c.next
		if len(c.hidden) > 0 {
			c.others()
		}
	}
}

// apart are two texts from the first line on in which they differ.
func apart(x, y string) (string, string) {
	a, b := strings.Split(x, "\n"), strings.Split(y, "\n")
	for len(a) > 1 && len(b) > 1 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	return fmt.Sprintf("%.3000s", strings.Join(a[:min(3, len(a))], "\n")), fmt.Sprintf("%.3000s", strings.Join(b[:min(3, len(b))], "\n"))
}

func changes(a Ask) bool {
	switch a.Interaction {
	case resources.Create, resources.Update, resources.Patch, resources.Delete, resources.Transaction:
		return true
	case resources.Operate:
		return !a.Safe
	}
	return false
}

// known is a world with all its versions.
type known struct {
	*World
	versions []versionKey
}

type versionKey struct {
	typ, id string
	number  int
	current bool
}

// sample reads everything.
func sample(t testing.TB, s *resources.Service, store *storage.Store) *known {
	t.Helper()
	w := &known{}
	var nodes []*fhir.Node
	seen := map[string]bool{}
	list := resources.Request{Principal: auth.Operator("test"), Interaction: resources.HistorySystem, Query: "_count=1000"}
	for more := true; more; {
		resp, err := s.Do(t.Context(), list)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range resp.Bundle.Entries {
			v := e.Version
			key := v.Type + "/" + v.ID
			current := !seen[key]
			w.versions = append(w.versions, versionKey{v.Type, v.ID, v.Number, current})
			if seen[key] = true; v.Deleted || !current {
				continue
			}
			n, err := fhir.ParseJSON(v.Content)
			if err != nil {
				t.Fatal(err)
			}
			nodes = append(nodes, n)
		}
		switch list.Query = nextPage(resp); {
		case list.Query != "":
		case list.Type == "": // AuditEvents are in no history
			list.Interaction, list.Type, list.Query = resources.SearchType, "AuditEvent", "_count=1000"
		default:
			more = false
		}
	}
	w.World = NewWorld(store.Registry(), base, nodes)
	return w
}

// prune takes everything out of a database that a caller of s cannot see by reading or finding it by its id, and says
// how many versions that is, and which resources.
func prune(t testing.TB, s *resources.Service, w *known, who auth.Principal, url string) (hidden int, keys []string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec("SET session_replication_role = replica") // the history is append-only
	rows, err := conn.Query(t.Context(), `SELECT table_name FROM information_schema.columns c JOIN information_schema.tables USING (table_schema, table_name)
WHERE table_schema = 'public' AND column_name = 'rk' AND table_type = 'BASE TABLE'`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	shows := func(r resources.Request) bool {
		r.Principal = who
		resp, err := s.Do(t.Context(), r)
		if _, proven := s.Do(storage.WithProof(t.Context(), storage.NewProof(proofHash, time.Now())), r); fhir.KindOf(proven) != fhir.KindOf(err) {
			t.Errorf("%s %s/%s with a token: %v; without: %v", r.Interaction, r.Type, r.ID, proven, err)
		}
		return err == nil && (r.Interaction != resources.SearchType || len(resp.Bundle.Entries) > 0) || fhir.KindOf(err) == fhir.Gone
	}
	// Whether a visit is covered the server finds out for whoever books it, as it knows whose time is taken; and who may ask
	// for appointments is offered the free time of calendars without a scope to read those.
	covers := func(typ string) bool {
		_, err := s.Do(t.Context(), resources.Request{Interaction: resources.Read, Type: typ, ID: "x", Principal: who})
		calendar := typ == "Schedule" || typ == "Slot" || typ == "HealthcareService" || typ == "PractitionerRole" || typ == "Location" || typ == "Practitioner"
		return (calendar || strings.HasPrefix(typ, "Coverage")) && fhir.KindOf(err) == fhir.Forbidden
	}
	gone := map[string]bool{}
	for _, v := range w.versions {
		if v.current && !covers(v.typ) && !shows(resources.Request{Interaction: resources.Read, Type: v.typ, ID: v.id}) &&
			!shows(resources.Request{Interaction: resources.SearchType, Type: v.typ, Query: "_id=" + v.id}) {
			gone[v.typ+"/"+v.id] = true
			keys = append(keys, v.typ+"/"+v.id)
			for _, table := range tables {
				if table != "resource" {
					exec("DELETE FROM "+table+" WHERE rk = (SELECT rk FROM resource WHERE type = $1 AND id = $2)", v.typ, v.id)
				}
			}
			exec("DELETE FROM resource WHERE type = $1 AND id = $2", v.typ, v.id)
			hidden++
		}
	}
	for _, v := range w.versions {
		if !v.current && !gone[v.typ+"/"+v.id] && !shows(resources.Request{Interaction: resources.VRead, Type: v.typ, ID: v.id, Version: fmt.Sprint(v.number)}) {
			for _, table := range []string{"resource_history", "resource_change"} {
				exec("DELETE FROM "+table+" WHERE rk = (SELECT rk FROM resource WHERE type = $1 AND id = $2) AND version = $3", v.typ, v.id, v.number)
			}
			hidden++
		}
	}
	return hidden, keys
}
