package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestREADME_books_an_appointment runs the commands of the README that send requests, as they stand there and one after
// the other, but for the port.
func TestREADME_books_an_appointment(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	script := ""
	for _, block := range shellBlock.FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(block[1], "curl") {
			script += block[1] + "\n"
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "bin", "kiln")); err != nil {
		t.Fatal(err)
	}
	url := startedDB(t)
	origin, stop := serve(t, "--auth=smart", "--data-dir="+dir, "--database-url="+url, "--seed")
	defer stop()
	cmd := exec.Command("sh", "-euc", strings.ReplaceAll(script, "http://localhost:8080", origin))
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "KILN_DATABASE_URL="+url)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{`"given":["Ada"]`, `"family": "Okafor"`, `"status": "booked"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in %s", want, out)
		}
	}
}
