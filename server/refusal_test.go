package server_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"kiln/resources"
	"kiln/server"
)

// listen serves as kiln serve does, on a connection that the test writes to byte by byte.
func listen(t *testing.T, change ...func(*server.Options)) (dial func() net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := server.Options{Service: &fake{}, ResourceTypes: []string{"Patient"}, BaseURL: "http://kiln.example"}
	for _, c := range change {
		c(&o)
	}
	srv := server.Listener(server.New(o), nil)
	go srv.Serve(server.Refusing(listener))
	t.Cleanup(func() { srv.Close() })
	return func() net.Conn {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
		return conn
	}
}

func answerTo(t *testing.T, conn net.Conn, sent string) (*http.Response, string) {
	t.Helper()
	go io.WriteString(conn, sent) // the server may hang up before it has read all of it
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%.40q: %v", sent, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%.40q: %v", sent, err)
	}
	return resp, string(body)
}

func TestRefusals_of_net_http_are_outcomes(t *testing.T) {
	t.Parallel()
	dial := listen(t)
	const host = "Host: x\r\n"
	for sent, want := range map[string]int{
		"GET /fhir/Patient/%zz HTTP/1.1\r\n" + host + "\r\n":                                        400,
		"GET /fhir/Patient/\x00 HTTP/1.1\r\n" + host + "\r\n":                                       400,
		"GET /fhir/Patient/a b HTTP/1.1\r\n" + host + "\r\n":                                        400,
		"GET /fhir/Patient HTTP/1.1\r\n\r\n":                                                        400,
		"GET /fhir/Patient HTTP/1.1\r\n" + host + "Bad Header: x\r\n\r\n":                           400,
		"POST /fhir/Patient HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n":                     400,
		"POST /fhir/Patient HTTP/1.1\r\n" + host + "Transfer-Encoding: foo\r\n\r\n":                 400,
		"GET / HTTP/3.0\r\n" + host + "\r\n":                                                        400,
		"\x16\x03\x01\x02\x00\x01\r\n\r\n":                                                          400,
		"GET /fhir/Patient HTTP/1.1\r\n" + host + "Expect: wonders\r\n\r\n":                         417,
		"GET /fhir/Patient HTTP/1.1\r\n" + host + "X: " + strings.Repeat("x", 300_000) + "\r\n\r\n": 431,
		"GET /fhir/Patient/" + strings.Repeat("x", 100_000) + " HTTP/1.1\r\n" + host + "\r\n":       400, // by the rules of ids
	} {
		resp, body := answerTo(t, dial(), sent)
		if resp.StatusCode != want || !strings.Contains(body, `"resourceType":"OperationOutcome"`) || resp.Header.Get("X-Request-Id") == "" ||
			resp.Header.Get("Content-Type") != "application/fhir+json; charset=utf-8" {
			t.Errorf("%.60q: %s %v %s", sent, resp.Status, resp.Header, body)
		}
	}
}

// A body that nobody wants must not keep the connection for as long as the client likes.
func TestBody_of_a_refused_request_need_not_come(t *testing.T) {
	t.Parallel()
	dial := listen(t, func(o *server.Options) { o.Limits.BodyGrace = time.Second })
	for path, want := range map[string]int{"Nonsense": 404, "Patient/a_b": 400, "Patient?x=1": 400} {
		conn := dial()
		resp, _ := answerTo(t, conn, "POST /fhir/"+path+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{")
		if path == "Patient/a_b" {
			want = 405
		}
		if resp.StatusCode != want {
			t.Errorf("%s: %s", path, resp.Status)
		}
		if n, err := io.Copy(io.Discard, conn); n > 0 || err != nil {
			t.Errorf("%s: the connection stays open: %v", path, err)
		}
	}
}

func TestRequestID_reaches_the_service(t *testing.T) {
	t.Parallel()
	var got string
	h := start(t)
	h.fake.give = func(ctx context.Context, _ resources.Request) (*resources.Response, error) {
		got = resources.RequestID(ctx)
		return &resources.Response{Version: patient(3)}, nil
	}
	h.send(t, "GET", "/fhir/Patient/p1", "", "X-Request-Id: mine").wantStatus(t, 200)
	if got != "mine" {
		t.Errorf("%q", got)
	}
}

// The limit on bodies is not one on the work that follows.
func TestBody_deadline_ends_with_the_body(t *testing.T) {
	t.Parallel()
	service := &fake{give: func(ctx context.Context, _ resources.Request) (*resources.Response, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(3200 * time.Millisecond):
			return &resources.Response{Version: patient(3)}, nil
		}
	}}
	// The grace is what a body that is there already may take to be read on a busy machine.
	dial := listen(t, func(o *server.Options) { o.Limits.BodyGrace, o.Service = 3*time.Second, service })
	body := `{"resourceType":"Patient"}`
	resp, text := answerTo(t, dial(), fmt.Sprintf("POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	if resp.StatusCode != 200 {
		t.Errorf("%s %s", resp.Status, text)
	}
}
