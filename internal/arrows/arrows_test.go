package arrows

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-deps", "-json=ImportPath,Standard,Imports", "./...")
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImports(t *testing.T) {
	t.Parallel()
	all := packages(t)
	standard := map[string]bool{}
	for _, p := range all {
		standard[p.ImportPath] = p.Standard
	}
	ours := 0
	for _, p := range all {
		path, ok := strings.CutPrefix(p.ImportPath, module)
		if !ok {
			continue
		}
		ours++
		r := ruleFor(path)
		if r == nil {
			t.Errorf("%s has no rule: add it to the table in arrows.go", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			if why := r.forbids(path, imported, standard[imported]); why != "" {
				t.Errorf("%s may not import %s: %s", p.ImportPath, imported, why)
			}
		}
	}
	if ours < 5 {
		t.Errorf("only %d packages seen", ours)
	}
}

func TestForbids(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path, imported string
		standard, ok   bool
	}{
		{"fhir", "strings", true, true},
		{"fhir", "kiln/fhir/path", false, true},
		{"fhir/path", "kiln/fhir", false, true},
		{"fhir", "kiln/conformance", false, false},
		{"fhir", "github.com/google/uuid", false, false},
		{"conformance", "kiln/fhir/search", false, true},
		{"conformance", "kiln/storage", false, false},
		{"migrations", "kiln/fhir", false, false},
		{"migrations", "github.com/pressly/goose/v3", false, true},
		{"storage", "kiln/auth", false, false},
		{"storage", "github.com/jackc/pgx/v5/pgxpool", false, true},
		{"storage", "net/http", true, false},
		{"auth", "kiln/storage", false, false},
		{"auth", "kiln/auth/oauth", false, false},
		{"auth/oauth", "kiln/storage", false, true},
		{"resources", "kiln/server", false, false},
		{"resources", "kiln/auth/oauth", false, false},
		{"resources", "net/http", true, false},
		{"resources", "database/sql", true, false},
		{"server", "github.com/jackc/pgx/v5", false, false},
		{"server", "kiln/auth/oauth", false, true},
		{"server", "kiln/migrations", false, false},
		{"server", "kiln/internal/config", false, false},
		{"cmd/kiln", "kiln/internal/config", false, true},
		{"internal/kilntest", "kiln/internal/embedpg", false, true},
		{"internal/kilntest", "kiln/cmd/kiln", false, false},
	} {
		why := ruleFor(c.path).forbids(c.path, c.imported, c.standard)
		if (why == "") != c.ok {
			t.Errorf("%s imports %s: %q, want allowed %v", c.path, c.imported, why, c.ok)
		}
	}
}

// ruleFor returns the rule with the longest path that fits, or nil.
func ruleFor(path string) *rule {
	var found *rule
	for i := range rules {
		if r := &rules[i]; below(path, r.path) && (found == nil || len(r.path) > len(found.path)) {
			found = r
		}
	}
	return found
}

// forbids says why the package at path may not import another, "" if it may.
func (r *rule) forbids(path, imported string, standard bool) string {
	if target, ok := strings.CutPrefix(imported, module); ok {
		if below(target, r.path) && ruleFor(target) == r {
			return ""
		}
		for _, allowed := range r.ours {
			if !below(target, allowed) {
				continue
			}
			if below(target, "auth/oauth") && !r.http {
				break // endpoints are for those who know HTTP
			}
			return ""
		}
		return "the arrow points the other way"
	}
	if !r.sql && anyBelow(imported, sqlPackages) {
		return "SQL belongs in storage and migrations"
	}
	if !r.http && anyBelow(imported, httpPackages) {
		return "HTTP belongs in server"
	}
	if !standard && r.outside != nil && !anyBelow(imported, r.outside) {
		return "not one of the modules it may use"
	}
	return ""
}

func anyBelow(path string, roots []string) bool {
	for _, root := range roots {
		if below(path, root) {
			return true
		}
	}
	return false
}

// below says whether path is root or under it.
func below(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }
