package load_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"kiln/auth"
	"kiln/conformance"
	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/internal/load"
	"kiln/resources"
	"kiln/resources/scheduling"
	"kiln/storage"
)

const base = "http://localhost:8080/fhir"

// open makes a store and a service on a database of its own.
func open(t *testing.T, validated bool) (*storage.Store, *resources.Service) {
	t.Helper()
	return openAt(t, validated, nil)
}

// openAt is open by a clock; nil is time.Now.
func openAt(t *testing.T, validated bool, now func() time.Time) (*storage.Store, *resources.Service) {
	t.Helper()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	store, err := storage.Open(t.Context(), storage.Options{URL: kilntest.DB(t), Base: base, Registry: registry, Unrestricted: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	o := resources.Options{Store: store, Registry: registry, Base: base, Anonymous: auth.Operator("test"), Now: now}
	if validated {
		v, err := validate.New(registry, validate.Options{Invariants: true}) // as the command does
		if err != nil {
			t.Fatal(err)
		}
		o.Validate = v.Resource
	}
	service, err := resources.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return store, service
}

// stored counts the current resources by type.
func stored(t *testing.T, store *storage.Store) map[string]int {
	t.Helper()
	counts, err := load.ExportTo(t.Context(), store, nil, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

func run(t *testing.T, im *load.Importer, paths ...string) *load.Summary {
	t.Helper()
	summary, err := im.Run(t.Context(), paths...)
	if err != nil {
		t.Fatal(err)
	}
	return summary
}

func mustPass(t *testing.T, s *load.Summary) {
	t.Helper()
	if s.Failed() > 0 {
		var out strings.Builder
		s.Print(&out)
		t.Fatal(out.String())
	}
}

func synthea(t *testing.T, sets ...string) (dir string, want map[string]int) {
	t.Helper()
	dir = kilntest.SharedData(t, "synthea")
	data, err := os.ReadFile(filepath.Join(dir, "expected-counts.json"))
	if err != nil {
		t.Fatal(err)
	}
	var expected struct {
		Sets map[string]map[string]int `json:"resourcesAfterLoadingEachFileOnceIntoAnEmptyServer"`
	}
	if err := json.Unmarshal(data, &expected); err != nil {
		t.Fatal(err)
	}
	want = map[string]int{}
	for _, set := range sets {
		for typ, n := range expected.Sets[set] {
			want[typ] += n
		}
	}
	return dir, want
}

func TestImport_synthea_gives_the_expected_counts_however_often(t *testing.T) {
	t.Parallel()
	dir, want := synthea(t, "v2.7", "v2019")
	store, service := open(t, true)
	im := &load.Importer{Store: store, Service: service, Workers: 2}
	for range 2 {
		mustPass(t, run(t, im, dir))
		if diff := cmp.Diff(want, stored(t, store)); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestImport_interrupted_goes_on(t *testing.T) {
	t.Parallel()
	dir, want := synthea(t, "v2.7")
	store, service := open(t, false)
	im := &load.Importer{Store: store, Service: service, Workers: 2}
	for i := 0; ; i++ { // each time twice as long
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond<<i)
		summary, err := im.Run(ctx, filepath.Join(dir, "v2.7"))
		cancel()
		if err == nil && summary.Failed() == 0 {
			if i == 0 {
				t.Error("it was not interrupted")
			}
			break
		}
		if i > 10 {
			t.Fatalf("%v %+v", err, summary)
		}
	}
	if diff := cmp.Diff(want, stored(t, store)); diff != "" {
		t.Error(diff)
	}
}

func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestImport_tells_what_failed_and_imports_the_rest(t *testing.T) {
	t.Parallel()
	store, service := open(t, true)
	dir := t.TempDir()
	write(t, dir, "a.ndjson", `{"resourceType":"Patient","id":"one"}
{"resourceType":"Patient","id":"two","gender":"purple"}
nonsense
{"resourceType":"Patient","name":[{"family":"No Id"}]}
{"resourceType":"Patient","id":"one","active":true}
`)
	write(t, dir, "b.json", `{"resourceType":"Bundle","type":"batch","entry":[
{"resource":{"resourceType":"Basic","code":{"text":"x"}},"request":{"method":"POST","url":"Basic"}},
{"resource":{"resourceType":"Basic"},"request":{"method":"POST","url":"Basic"}}]}`)
	write(t, dir, "c.json", `{"resourceType":"Bundle","type":"transaction","entry":[
{"resource":{"resourceType":"Basic","code":{"text":"x"},"subject":{"reference":"Patient?identifier=http://x.y|none"}},"request":{"method":"POST","url":"Basic"}}]}`)
	write(t, dir, "d.json", `{"resourceType":"Bundle","type":"collection","entry":[
{"fullUrl":"urn:uuid:0c5e8a2e-0c5e-4a2e-8a2e-0c5e8a2e0c5e","resource":{"resourceType":"Group","type":"person","actual":true}},
{"resource":{"resourceType":"List","status":"current","mode":"working","subject":{"reference":"urn:uuid:0c5e8a2e-0c5e-4a2e-8a2e-0c5e8a2e0c5e"}}}]}`)
	write(t, dir, "notes.json", `{"a":1}`)
	im := &load.Importer{Store: store, Service: service}
	want := map[string]int{"Patient": 2, "Basic": 1, "Group": 1, "List": 1}
	for try := range 2 {
		summary := run(t, im, dir)
		var got []string
		for _, f := range summary.Files {
			for _, failure := range f.Failures {
				got = append(got, fmt.Sprintf("%s %s %s", filepath.Base(f.Path), failure.Place, failure.Expression))
			}
			if f.Err != nil {
				t.Error(f.Err)
			}
		}
		if diff := cmp.Diff([]string{
			"a.ndjson line 3 ", "a.ndjson line 2 resource.gender", "b.json entry 2 resource", "c.json entry 1 resource.subject.reference",
		}, got); diff != "" {
			t.Errorf("try %d: %s", try, diff)
		}
		if diff := cmp.Diff(want, stored(t, store)); diff != "" {
			t.Errorf("try %d: %s", try, diff)
		}
	}
	if v, err := store.Read(t.Context(), "Patient", "one"); err != nil || !strings.Contains(string(v.Content), `"active": true`) && !strings.Contains(string(v.Content), `"active":true`) {
		t.Errorf("%v %s", err, v.Content)
	}
}

func TestImport_says_what_cannot_be_read(t *testing.T) {
	t.Parallel()
	store, service := open(t, false)
	im := &load.Importer{Store: store, Service: service}
	if _, err := im.Run(t.Context(), "no/such/file"); err == nil {
		t.Error("no error")
	}
	dir := t.TempDir()
	for name, content := range map[string]string{
		"broken.json.gz": "\x1f\x8bnothing", "empty.json": "", "cut.json": `{"resourceType":"Patient"`,
		"history.json": `{"resourceType":"Bundle","type":"history","entry":[{}]}`,
	} {
		if s := run(t, im, write(t, dir, name, content)); s.Failed() != 1 {
			t.Errorf("%s: %+v", name, s.Files[0])
		}
	}
}

// Where many texts came, the import is not done before they are in order; where they are, it says nothing of it.
func TestImport_puts_texts_in_order(t *testing.T) {
	t.Parallel()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	url := kilntest.DB(t)
	store, err := storage.Open(t.Context(), storage.Options{URL: url, Base: base, Registry: registry, Unrestricted: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	service, err := resources.New(resources.Options{Store: store, Registry: registry, Base: base, Anonymous: auth.Operator("test")})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range []string{"INSERT INTO search_string_value SELECT 1, 'name' || (n * 7919) % 40000 FROM generate_series(1, 40000) n", "ANALYZE search_string_value"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []int{1, 0} {
		var progress bytes.Buffer
		im := &load.Importer{Store: store, Service: service, Progress: &progress}
		mustPass(t, run(t, im, write(t, t.TempDir(), "x.ndjson", fmt.Sprintf(`{"resourceType":"Patient","id":"p%d","name":[{"family":"One"}]}`, i))))
		if got := strings.Count(progress.String(), "texts of the index in order"); got != want {
			t.Errorf("import %d says %q", i, progress.String())
		}
	}
	var texts int
	if err := conn.QueryRow(t.Context(), "SELECT texts FROM search_string_order WHERE param IS NULL").Scan(&texts); err != nil || texts < 40000 {
		t.Errorf("%d texts are in order, %v", texts, err)
	}
}

func TestExport_imported_again_is_the_same(t *testing.T) {
	t.Parallel()
	first, service := open(t, false)
	if _, err := load.Seed(t.Context(), service, time.Now()); err != nil {
		t.Fatal(err)
	}
	exact := `{"resourceType":"Observation","id":"exact","status":"final","code":{"text":"a  b\u2028"},"_status":{"id":"s"},"valueQuantity":{"value":1.10e2},"extension":[{"url":"http://x.y","valueDecimal":0.500}]}`
	mustPass(t, run(t, &load.Importer{Store: first, Service: service}, write(t, t.TempDir(), "x.ndjson", exact)))
	dir := t.TempDir()
	counts, err := load.Export(t.Context(), first, nil, dir)
	if err != nil {
		t.Fatal(err)
	}
	second, service := open(t, false)
	mustPass(t, run(t, &load.Importer{Store: second, Service: service}, dir))
	if diff := cmp.Diff(counts, stored(t, second)); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff(contents(t, first), contents(t, second)); diff != "" {
		t.Error(diff)
	}
	if _, err := load.Export(t.Context(), first, []string{"Patients"}, dir); err == nil {
		t.Error("an unknown type is no error")
	}
	if got := contents(t, second)["Observation/exact"]; !strings.Contains(got, "1.10e2") || !strings.Contains(got, "0.500") {
		t.Error(got)
	}
}

// contents are the resources without what the server stamps.
func contents(t *testing.T, store *storage.Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := store.Each(t.Context(), store.Registry().Schema().Resources, func(v *storage.Version) error {
		node, err := fhir.ParseJSON(v.Content)
		if err == nil {
			node.Remove("meta")
			all[v.Type+"/"+v.ID] = canonical(node)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// canonical is JSON without a say about the order of members.
func canonical(n *fhir.Node) string {
	var decoded any
	d := json.NewDecoder(bytes.NewReader(n.JSON()))
	d.UseNumber()
	if err := d.Decode(&decoded); err != nil {
		return err.Error()
	}
	out, _ := json.Marshal(decoded)
	return string(out)
}

func TestSeed_is_valid_and_can_be_repeated(t *testing.T) {
	t.Parallel()
	store, service := open(t, true)
	now := time.Now()
	for try := range 3 {
		result, err := load.Seed(t.Context(), service, now)
		if err != nil {
			t.Fatal(err)
		}
		_, all := (&load.Summary{Files: []*load.Result{result}}).Total()
		if made := all.Created > 0; made != (try == 0) || all.Updated > 0 {
			t.Errorf("try %d: %+v", try, all)
		}
	}
	if again, err := load.SeedOnce(t.Context(), service, now.AddDate(0, 0, 5)); again != nil || err != nil {
		t.Errorf("%+v %v", again, err)
	}
	if got := stored(t, store); got["Patient"] != 3 || got["Slot"] != 18 || got["Appointment"] != 2 {
		t.Error(got)
	}
	// What it refers to is there.
	all := contents(t, store)
	for key, text := range all {
		for _, part := range strings.Split(text, `"reference":"`)[1:] {
			target, _, _ := strings.Cut(part, `"`)
			if _, ok := all[target]; !ok {
				t.Errorf("%s refers to %s", key, target)
			}
		}
	}
}

func TestCopy_stores_what_a_transaction_stores(t *testing.T) {
	t.Parallel()
	now := time.Now() // of one day, also where another begins meanwhile
	list, err := load.DemoData(now)
	if err != nil {
		t.Fatal(err)
	}
	one, service := open(t, false)
	if _, err := load.Seed(t.Context(), service, now); err != nil {
		t.Fatal(err)
	}
	two, _ := open(t, false)
	var prepared []*storage.Prepared
	for _, node := range list {
		p, err := two.Prepare(node)
		if err != nil {
			t.Fatal(err)
		}
		prepared = append(prepared, p)
	}
	if err := two.Copy(t.Context(), prepared); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(contents(t, one), contents(t, two)); diff != "" {
		t.Error(diff)
	}
	if err := two.Copy(t.Context(), prepared); err == nil {
		t.Error("a second copy of the same resources is no error")
	}
}

func TestClinic_is_lively_and_agrees(t *testing.T) {
	t.Parallel()
	// A clock of its own: how many visits a day has room for is another number each day.
	began, noon := time.Now(), time.Date(2026, 12, 2, 11, 50, 0, 0, time.UTC)
	store, service := openAt(t, true, func() time.Time { return noon.Add(time.Since(began)) })
	o := load.ClinicOptions{Patients: 40, Seed: 7, Now: noon}
	if _, err := load.Clinic(t.Context(), service, o); err != nil {
		t.Fatal(err)
	}
	if again, err := load.Clinic(t.Context(), service, o); err != nil || again != nil {
		t.Errorf("a second time: %v %v", again, err)
	}
	got := stored(t, store)
	if got["Patient"] != 40 || got["Slot"] < 3000 || got["Appointment"] < 240 || got["Coverage"] != 40 || got["CoverageEligibilityResponse"] < 20 || got["Task"] == 0 {
		t.Errorf("%v", got)
	}
	for _, state := range append(scheduling.States(), scheduling.Proposed) {
		resp, err := service.Do(t.Context(), resources.Request{Interaction: resources.SearchType, Type: "Appointment", Query: "_summary=count&status=" + state.Status()})
		if err != nil || *resp.Bundle.Total == 0 {
			t.Errorf("no appointment is %s: %v", state, err)
		}
	}
	resp, err := service.Do(t.Context(), resources.Request{Interaction: resources.SearchType, Type: "Appointment", Query: "status=pending&_count=200"})
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for _, e := range resp.Bundle.Entries {
		held += strings.Count(string(e.Version.Content), "held-until")
	}
	if held == 0 || held == len(resp.Bundle.Entries) {
		t.Errorf("of %d that are pending %d are held", len(resp.Bundle.Entries), held)
	}
	if list, err := store.VerifySchedule(t.Context(), 10); err != nil || len(list) > 0 {
		t.Errorf("%v %v", list, err)
	}
}
