package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestServer_with_the_client_of_HAPI_FHIR has HAPI FHIR's client, in Java, go through the REST API in JSON and in XML, and
// its validator look at what Kiln makes by itself. .ci/run fetches its libraries; testdata/hapi/pom.xml lists them.
func TestServer_with_the_client_of_HAPI_FHIR(t *testing.T) {
	t.Parallel()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("needs a folder for caches, where .ci/run keeps the libraries: %v", err)
	}
	libraries, err := os.ReadFile(filepath.Join(cache, "kiln-ci-hapi", "classpath"))
	if err != nil {
		t.Skipf("needs the libraries that .ci/run fetches: %v", err)
	}
	origin, stop := serve(t, "--database-url="+startedDB(t), "--auth=off", "--data-dir="+t.TempDir(), "--seed")
	defer stop()
	cmd := exec.CommandContext(t.Context(), "java", "-cp", strings.TrimSpace(string(libraries)), "testdata/hapi/Client.java", origin+"/fhir")
	cmd.WaitDelay = time.Minute
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "\nok ") < 100 {
		t.Errorf("%v:\n%s", err, out)
	}
}
