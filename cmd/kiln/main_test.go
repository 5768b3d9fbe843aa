package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"kiln/internal/kilntest"
)

// command runs one command line to its end.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

var readyLine = regexp.MustCompile(`^Kiln \S+ serves FHIR R4 at (https?://\S+)/fhir \(ready in \d+\.\d\d s\)\n$`)

// serve runs kiln serve on a free port until stop is called, which returns the exit code. It asks for no access tokens
// unless args say so (--auth=smart): what most tests are about is not who asks.
func serve(t *testing.T, args ...string) (origin string, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	reader, writer := io.Pipe()
	exited := make(chan int, 1)
	var stderr strings.Builder
	go func() {
		exited <- run(ctx, append([]string{"serve", "--addr=127.0.0.1:0", "--log-level=error", "--auth=off"}, args...), writer, &stderr)
		writer.Close()
	}()
	t.Cleanup(cancel)
	line, err := bufio.NewReader(reader).ReadString('\n')
	match := readyLine.FindStringSubmatch(line)
	if match == nil {
		t.Fatalf("serve said %q, %v, %s", line, err, stderr.String())
	}
	go io.Copy(io.Discard, reader)
	return match[1], func() int {
		cancel()
		return <-exited
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServe_on_a_given_database(t *testing.T) {
	t.Parallel()
	url := kilntest.EmptyDB(t)
	if code, out, errs := command(t, "migrate", "status", "--database-url="+url); code != 0 || !strings.Contains(out, "pending") {
		t.Errorf("status before: %d %s %s", code, out, errs)
	}
	origin, stop := serve(t, "--database-url="+url)
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if status, body := get(t, origin+path); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if code, out, errs := command(t, "migrate", "status", "--database-url="+url); code != 0 || strings.Contains(out, "pending") {
		t.Errorf("status after: %d %s %s", code, out, errs)
	}
	if code, out, _ := command(t, "migrate", "up", "--database-url="+url); code != 0 || out != "nothing to apply\n" {
		t.Errorf("up: %d %s", code, out)
	}
}

func TestServe_on_its_own_database(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	for range 2 { // a first start and a warm one
		origin, stop := serve(t, "--data-dir="+data)
		if status, body := get(t, origin+"/readyz"); status != http.StatusOK {
			t.Errorf("readyz: %d %s", status, body)
		}
		code, _, errs := command(t, "serve", "--addr=127.0.0.1:0", "--data-dir="+data)
		if want := fmt.Sprintf("in use by another Kiln (process %d)", os.Getpid()); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("second serve: %d %s", code, errs)
		}
		if code, out, errs := command(t, "migrate", "status", "--data-dir="+data, "--log-level=error"); code != 0 || !strings.Contains(out, "applied") {
			t.Errorf("status beside serve: %d %s %s", code, out, errs)
		}
		if code := stop(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
}

func TestServe_says_why_it_cannot(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"serve --addr=" + taken.Addr().String(), 1, "KILN_ADDR: listen tcp"},
		{"serve --auth=off --addr=0.0.0.0:8080", 80, "KILN_AUTH=off is refused"},
		{"serve --auth=none", 80, "smart and off"},
		{"serve --addr=127.0.0.1:0 --database-url=postgres://u:hunter2@127.0.0.1:1/x?sslmode=bad", 1, "KILN_DATABASE_URL"},
		{"serve --database-url=mysql://u:hunter2@db/x", 80, "KILN_DATABASE_URL"},
		{"serve --color=blue", 80, "unknown flag --color"},
		{"dance", 80, "unexpected argument dance"},
	} {
		code, _, errs := command(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(errs, c.want) || strings.Contains(errs, "hunter2") {
			t.Errorf("kiln %s: %d %s", c.args, code, errs)
		}
	}
}

func TestVersion_and_help(t *testing.T) {
	t.Parallel()
	if code, out, _ := command(t, "version"); code != 0 || !strings.Contains(out, "FHIR 4.0.1") {
		t.Errorf("version: %d %s", code, out)
	}
	if code, out, _ := command(t, "serve", "--help"); code != 0 || !strings.Contains(out, "$KILN_ADDR") {
		t.Errorf("help: %d %s", code, out)
	}
}

func TestDrain_lets_requests_in_flight_finish(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		limit time.Duration
		cut   bool
	}{{"in_time", time.Minute, false}, {"past_the_limit", 10 * time.Millisecond, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			arrived, proceed := make(chan struct{}), make(chan struct{})
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(arrived)
				select {
				case <-proceed:
				case <-r.Context().Done():
				}
				io.WriteString(w, "whole")
			})}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go srv.Serve(listener)
			answer := make(chan string, 1)
			go func() {
				resp, err := http.Get("http://" + listener.Addr().String())
				if err != nil {
					answer <- "cut"
					return
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				answer <- string(body)
			}()
			<-arrived
			drained := make(chan error, 1)
			go func() { drained <- drain(srv, c.limit, slog.New(slog.DiscardHandler)) }()
			if c.cut {
				if err := <-drained; err == nil || <-answer != "cut" {
					t.Errorf("drain: %v", err)
				}
				return
			}
			for { // until nothing new is accepted
				conn, err := net.Dial("tcp", listener.Addr().String())
				if err != nil {
					break
				}
				conn.Close()
			}
			close(proceed)
			if err := <-drained; err != nil {
				t.Errorf("drain: %v", err)
			}
			if got := <-answer; got != "whole" {
				t.Errorf("the request in flight was %s", got)
			}
		})
	}
}
