package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"kiln/internal/kilntest"
)

// Where nothing is yet, a Kiln loads the codes and the definitions of FHIR, which takes long with the race detector. What
// most tests are about is not that: they get a database, or a data folder, on which a Kiln has been started before. It
// was one without the race detector; the Kiln of the test itself has it.

// scratch is the folder of what the tests of this package share. TestMain removes it.
var scratch = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kiln-cmd-test-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755) // the account of the database must get to its folder
})

// plainKiln is the path of a kiln without the race detector.
var plainKiln = sync.OnceValues(func() (string, error) {
	dir, err := scratch()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "kiln")
	if out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
})

// startFlags are of the Kiln that is started before; nobody finds traces of it in the audit log.
const startFlags = "--addr=127.0.0.1:0 --log-level=error --auth=off --audit=off"

// startOnce runs a Kiln until it has loaded what it loads where nothing is yet.
func startOnce(ctx context.Context, where string) error {
	kiln, err := plainKiln()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, kiln, append([]string{"serve", where}, strings.Fields(startFlags)...)...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if match := readyLine.FindStringSubmatch(line); match != nil {
		err = untilDefined(ctx, match[1])
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if ended := cmd.Wait(); err == nil {
		err = ended
	}
	return err
}

// untilDefined returns when a server has all the definitions: it lets who reads one wait for them.
func untilDefined(ctx context.Context, origin string) error {
	for {
		req, err := http.NewRequestWithContext(ctx, "GET", origin+"/fhir/StructureDefinition/Patient", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK:
			return nil
		case http.StatusServiceUnavailable: // as long as a request may take was not enough
		default:
			return fmt.Errorf("a definition cannot be read: %s", resp.Status)
		}
	}
}

// startedDB returns the URL of a new database on which a Kiln has been started before.
var startedDB = kilntest.Filled(func() (string, error) {
	path, err := plainKiln()
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	return "started by kiln " + startFlags + " " + hex.EncodeToString(sum.Sum(nil)), err
}, func(ctx context.Context, url string) error { return startOnce(ctx, "--database-url="+url) })

var startedOnce = sync.OnceValues(func() (string, error) {
	dir, err := scratch()
	if err != nil {
		return "", err
	}
	data := filepath.Join(dir, "data")
	return data, startOnce(context.Background(), "--data-dir="+data)
})

// startedFolder makes a data folder on which a Kiln has been started before.
func startedFolder(t *testing.T) string {
	t.Helper()
	whole, err := startedOnce()
	if err != nil {
		t.Fatal(err)
	}
	data := reachable(t)
	if out, err := exec.Command("cp", "-a", whole, data).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	return data
}
