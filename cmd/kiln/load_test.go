package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln/internal/kilntest"
)

func TestImport_seed_and_export(t *testing.T) {
	t.Parallel()
	url := "--database-url=" + startedDB(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "p.ndjson")
	if err := os.WriteFile(path, []byte(`{"resourceType":"Patient","id":"p"}`+"\n"+`{"resourceType":"Patient","gender":7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := command(t, "import", url, path); code != 1 || !strings.Contains(out, path+": line 2 ") || !strings.Contains(errs, "1 of 1 files failed") {
		t.Errorf("import: %d %s %s", code, out, errs)
	}
	if code, _, errs := command(t, "seed", url, "--patients=0"); code != 0 {
		t.Errorf("seed: %d %s", code, errs)
	}
	if code, out, errs := command(t, "export", url, "--type=Patient,Slot", "--out=-"); code != 0 || strings.Count(out, "\n") != 4+18 {
		t.Errorf("export: %d %s %s", code, out, errs)
	}
	if code, out, _ := command(t, "export", url, "--out="+filepath.Join(dir, "out")); code != 0 || !strings.Contains(out, "4 Patient") {
		t.Errorf("export: %d %s", code, out)
	}
	origin, stop := serve(t, url, "--seed")
	if status, _ := get(t, origin+"/fhir/Patient/demo-tom"); status != 200 {
		t.Errorf("read: %d", status)
	}
	stop()
}

// checkSynthea compares what is in a database with what must be there after a set of Synthea's was imported.
func checkSynthea(t *testing.T, url, set string) {
	t.Helper()
	text, err := os.ReadFile(kilntest.SharedData(t, "synthea", "expected-counts.json"))
	if err != nil {
		t.Fatal(err)
	}
	var expected struct {
		Sets map[string]map[string]int `json:"resourcesAfterLoadingEachFileOnceIntoAnEmptyServer"`
	}
	if err := json.Unmarshal(text, &expected); err != nil {
		t.Fatal(err)
	}
	code, out, errs := command(t, "export", "--database-url="+url, "--log-level=error", "--out="+filepath.Join(t.TempDir(), "out"))
	if code != 0 {
		t.Fatalf("export: %d %s", code, errs)
	}
	counts := map[string]int{}
	for line := range strings.Lines(out) {
		var n int
		var typ string
		if _, err := fmt.Sscan(line, &n, &typ); err == nil {
			counts[typ] = n
		}
	}
	if !maps.Equal(counts, expected.Sets[set]) {
		t.Errorf("%v, want %v", counts, expected.Sets[set])
	}
}
