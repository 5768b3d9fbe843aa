package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"kiln/internal/kilntest"
)

// TestREADME_books_an_appointment runs the commands of the README as they stand there, but for the port.
func TestREADME_books_an_appointment(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "## A first appointment")
	_, rest, found2 := strings.Cut(rest, "```sh\n")
	script, _, found3 := strings.Cut(rest, "```")
	if !found || !found2 || !found3 {
		t.Fatal("the README has no commands for a first appointment")
	}
	origin, stop := serve(t, "--database-url="+kilntest.EmptyDB(t), "--seed")
	defer stop()
	run := func() string {
		out, err := exec.Command("sh", "-c", strings.ReplaceAll(script, "http://localhost:8080", origin)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if out := run(); !strings.Contains(out, `"status": "booked"`) {
		t.Fatal(out)
	}
}
