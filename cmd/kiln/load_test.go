package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln/internal/kilntest"
)

func TestImport_seed_and_export(t *testing.T) {
	t.Parallel()
	url := "--database-url=" + kilntest.EmptyDB(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "p.ndjson")
	if err := os.WriteFile(path, []byte(`{"resourceType":"Patient","id":"p"}`+"\n"+`{"resourceType":"Patient","gender":7}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := command(t, "import", url, path); code != 1 || !strings.Contains(out, path+": line 2 ") || !strings.Contains(errs, "1 of 1 files failed") {
		t.Errorf("import: %d %s %s", code, out, errs)
	}
	if code, _, errs := command(t, "seed", url); code != 0 {
		t.Errorf("seed: %d %s", code, errs)
	}
	if code, out, errs := command(t, "export", url, "--type=Patient,Slot", "--out=-"); code != 0 || strings.Count(out, "\n") != 4+18 {
		t.Errorf("export: %d %s %s", code, out, errs)
	}
	if code, out, _ := command(t, "export", url, "--out="+filepath.Join(dir, "out")); code != 0 || !strings.Contains(out, "4 Patient") {
		t.Errorf("export: %d %s", code, out)
	}
	if code, _, errs := command(t, "bench", url); code != 1 || !strings.Contains(errs, "use an empty one") {
		t.Errorf("bench on a database in use: %d %s", code, errs)
	}
	origin, stop := serve(t, url, "--seed")
	if status, _ := get(t, origin+"/fhir/Patient/demo-tom"); status != 200 {
		t.Errorf("read: %d", status)
	}
	stop()
}
