package fhirpackage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/conformance"
	"kiln/conformance/validate"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/resources"
	"kiln/storage"
)

// packed makes a package of names and contents.
func packed(t testing.TB, files ...string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, files[i+1])
	}
	w.Close()
	z.Close()
	return &b
}

// bomb makes a package of one file of MaxBytes zeros. It packs a few of them and has the rest follow as many times again:
// gzip unpacks parts one after the other as one.
func bomb(t testing.TB) io.Reader {
	t.Helper()
	pack := func(data []byte) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(data)
		z.Close()
		return b.Bytes()
	}
	var header bytes.Buffer
	if err := tar.NewWriter(&header).WriteHeader(&tar.Header{Name: "package/zeros", Size: MaxBytes, Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	const part = 1 << 20
	return bytes.NewReader(append(pack(header.Bytes()), bytes.Repeat(pack(make([]byte, part)), MaxBytes/part)...))
}

const manifest = `{"name":"example.test","version":"1.0.0","fhirVersions":["4.0.1"]}`

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	many := []string{"package/package.json", manifest}
	for range MaxFiles + 1 {
		many = append(many, "package/x", "")
	}
	const set = `{"resourceType":"ValueSet","id":"a","url":"http://example.org/a","status":"active"}`
	for _, c := range []struct {
		name string
		r    io.Reader
		want string
	}{
		{"no_gzip", strings.NewReader("hello"), "no gzip"},
		{"no_tar", func() io.Reader {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			io.WriteString(z, strings.Repeat("x", 2000))
			z.Close()
			return &b
		}(), "unpacked"},
		{"no_manifest", packed(t, "package/ValueSet-a.json", set), "package.json"},
		{"another_release", packed(t, "package/package.json", `{"name":"a","version":"1","fhirVersions":["5.0.0"]}`), "R4"},
		{"no_json", packed(t, "package/package.json", manifest, "package/ValueSet-a.json", "{"), "ValueSet-a.json"},
		{"twice", packed(t, "package/package.json", manifest, "package/a.json", set, "package/b.json", set), "same resource"},
		{"too_many_files", packed(t, many...), "files"},
		{"too_large_a_resource", packed(t, "package/package.json", manifest, "package/a.json", strings.Repeat(" ", MaxResource+1)), "larger"},
		{"bomb", bomb(t), "more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Read(c.r); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestReadLooksAtThePackageFolderOnly(t *testing.T) {
	t.Parallel()
	const bad = "{"
	p, err := Read(packed(t, "package/package.json", manifest, "../package/a.json", bad, "/package/a.json", bad, "package/../a.json", bad,
		"package/example/a.json", bad, "other/a.json", bad, "package/.index.json", bad,
		"package/b.json", `{"resourceType":"SearchParameter","url":"http://example.org/b"}`,
		"package/a.json", `{"resourceType":"ValueSet","id":"a","url":"http://example.org/a","status":"active"}`))
	if err != nil || len(p.Resources) != 1 || len(p.SearchParameters) != 1 || p.SearchParameters[0].Name != "b.json" || len(p.Skipped) != 0 {
		t.Fatalf("%v %+v", err, p)
	}
}

func TestUSCoreInstalls(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(kilntest.SharedData(t, "us-core-reference"), "packages")
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	const base = "http://localhost:8080/fhir"
	options := storage.Options{URL: kilntest.TerminologyDB(t), Base: base, Registry: registry, Unrestricted: true}
	open := func(lenient bool) (*storage.Store, *resources.Service) {
		store, err := storage.Open(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		v, err := validate.New(registry, validate.Options{Invariants: true})
		if err != nil {
			t.Fatal(err)
		}
		service, err := resources.New(resources.Options{Store: store, Registry: registry, Base: base, Validate: v.Resource, Lenient: lenient,
			Anonymous: auth.Operator("test")})
		if err != nil {
			t.Fatal(err)
		}
		return store, service
	}
	store, service := open(true)
	running, server := open(true)
	install := func(name string) Result {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		p, err := Read(f)
		if err != nil {
			t.Fatal(err)
		}
		result, err := Install(t.Context(), service, store, p)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d stored, %d unchanged, %d built in, refused %v, reindexed %v, not installed %v", name, result.Stored, result.Unchanged, result.BuiltIn, result.Refused, result.Reindexed, p.Skipped)
		return result
	}
	names := []string{"hl7.fhir.us.core-3.1.1.tgz", "hl7.fhir.us.core-6.1.0.tgz"}
	for i, want := range []Result{
		{BuiltIn: 72, Reindexed: []string{"Patient"}},
		{BuiltIn: 99, Unchanged: 2, Reindexed: []string{"CareTeam", "Condition", "Encounter", "Goal", "Patient"}}, // race and ethnicity are those of 3.1.1
	} {
		r := install(names[i])
		stored := r.Stored
		if r.Stored = 0; stored == 0 || !reflect.DeepEqual(r, want) {
			t.Errorf("%s: %d stored, %+v, want %+v", names[i], stored, r, want)
		}
	}
	for _, name := range names {
		if r := install(name); r.Stored != 0 || r.Unchanged == 0 {
			t.Errorf("%s again: %+v", name, r)
		}
	}
	if list, err := store.Packages(t.Context()); err != nil || len(list) != 2 || list[0].Resources == 0 {
		t.Errorf("%v %v", err, list)
	}

	// The other server checks by them, each version by its name.
	if err := running.RefreshParameters(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"", "|3.1.1", "|6.1.0"} {
		n, err := fhir.ParseJSON([]byte(`{"resourceType":"Patient","meta":{"profile":["http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient` + version + `"]},
			"name":[{"family":"Okafor"}],"gender":"female"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Do(t.Context(), resources.Request{Interaction: resources.Create, Type: "Patient", Body: n})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(resp.Issues); !strings.Contains(got, "identifier is required") {
			t.Errorf("version %q: %s", version, got)
		}
	}

	// And the patients of the reference server, who claim these profiles, go in where nothing invalid does.
	_, strict := open(false)
	for file, want := range map[string]string{
		"uscore_bundle_patient_85.json.gz":    "",
		"carin_bundle_patient_888.json.gz":    "",
		"dtr_bundle_patient_pat015.json.gz":   "",
		"pdex_bundle_patient_999.json.gz":     "",
		"cached_bulk_data_export.json.gz":     "",
		"uscore_bundle_patient_355.json.gz":   "[Bundle.entry[266].resource.effective.stop]",   // there is no such element
		"uscore_bundle_asserted-date.json.gz": "[Bundle.entry[1].resource.extension[0].value]", // a work group that R4 does not know
	} {
		_, err := strict.Do(t.Context(), resources.Request{Interaction: resources.Transaction, Body: unpacked(t, filepath.Join(filepath.Dir(dir), file))})
		got := ""
		if refusal := (*fhir.Error)(nil); errors.As(err, &refusal) {
			for _, i := range refusal.Issues {
				if i.Severity == fhir.SeverityError {
					got += fmt.Sprint(i.Expression)
				}
			}
		}
		if got != want || (err == nil) != (want == "") {
			t.Errorf("%s: faults %q, want %q (%v)", file, got, want, err)
		}
	}
}

// unpacked reads a JSON file packed by gzip.
func unpacked(t *testing.T, file string) *fhir.Node {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	n, err := fhir.ParseJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
