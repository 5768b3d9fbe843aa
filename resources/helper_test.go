package resources

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"kiln/auth"
	"kiln/conformance"
	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/storage"
)

const testBase = "http://localhost:8080/fhir"

// newService makes a Service on a database of its own. Each change adjusts the options before.
func newService(t testing.TB, change ...func(*Options, *storage.Options)) *Service {
	t.Helper()
	registry, err := conformance.R4()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Registry: registry, Base: testBase, Anonymous: auth.Operator("test"), ForeignAudit: true}
	so := storage.Options{URL: kilntest.DB(t), Base: testBase, Registry: registry, Unrestricted: true}
	for _, c := range change {
		c(&o, &so)
	}
	if o.Store, err = storage.Open(t.Context(), so); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Store.Close)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parse(t testing.TB, text string) *fhir.Node {
	t.Helper()
	n, err := fhir.ParseJSON([]byte(text))
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return n
}

// do performs a request that must succeed.
func do(t testing.TB, s *Service, r Request) *Response {
	t.Helper()
	resp, err := s.Do(t.Context(), r)
	if err != nil {
		t.Fatalf("%s %s/%s?%s: %s", r.Interaction, r.Type, r.ID, r.Query, describe(err))
	}
	return resp
}

// refused performs a request that must fail with a kind, and returns the error.
func refused(t testing.TB, s *Service, kind fhir.Kind, r Request) *fhir.Error {
	t.Helper()
	_, err := s.Do(t.Context(), r)
	var e *fhir.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Fatalf("%s %s/%s?%s: got %s, want kind %d", r.Interaction, r.Type, r.ID, r.Query, describe(err), kind)
	}
	return e
}

func describe(err error) string {
	var e *fhir.Error
	if err == nil {
		return "no error"
	}
	if !errors.As(err, &e) {
		return err.Error()
	}
	text := fmt.Sprintf("kind %d", e.Kind)
	for _, i := range e.Issues {
		text += fmt.Sprintf("; %s %v %s", i.Code, i.Expression, i.Text)
	}
	if cause := e.Unwrap(); cause != nil {
		text += " (" + cause.Error() + ")"
	}
	return text
}

func put(t testing.TB, s *Service, body string) *storage.Version {
	t.Helper()
	n := parse(t, body)
	return do(t, s, Request{Interaction: Update, Type: n.ResourceType(), ID: n.ID(), Body: n}).Version
}

func post(t testing.TB, s *Service, bundle string) []Entry {
	t.Helper()
	return do(t, s, Request{Interaction: Transaction, Body: parse(t, bundle)}).Bundle.Entries
}

func read(t testing.TB, s *Service, typ, id string) *fhir.Node {
	t.Helper()
	return parse(t, string(do(t, s, Request{Interaction: Read, Type: typ, ID: id}).Version.Content))
}

// count is how many live resources of a type there are.
func count(t testing.TB, s *Service, typ string) int64 {
	t.Helper()
	return *do(t, s, Request{Interaction: SearchType, Type: typ, Query: "_summary=count"}).Bundle.Total
}

// versions are the version numbers of a resource, newest first.
func versions(t testing.TB, s *Service, typ, id string) []int {
	t.Helper()
	resp := do(t, s, Request{Interaction: HistoryInstance, Type: typ, ID: id, Query: "_count=1000"})
	var list []int
	for _, e := range resp.Bundle.Entries {
		list = append(list, e.Version.Number)
	}
	return list
}

// entryOf is a Bundle entry in short.
func entryOf(fullURL, method, url, resource string, more ...string) string {
	request := `"method":"` + method + `","url":"` + url + `"`
	for _, m := range more {
		request += "," + m
	}
	e := `{"request":{` + request + `}`
	if fullURL != "" {
		e += `,"fullUrl":"` + fullURL + `"`
	}
	if resource != "" {
		e += `,"resource":` + resource
	}
	return e + "}"
}

func transactionOf(entries ...string) string {
	return `{"resourceType":"Bundle","type":"transaction","entry":[` + strings.Join(entries, ",") + `]}`
}

func identified(value, more string) string {
	if more != "" {
		more = "," + more
	}
	return `{"resourceType":"Patient","identifier":[{"system":"urn:x","value":"` + value + `"}]` + more + `}`
}

// race starts n goroutines at one moment and waits for all.
func race(n int, work func(i int)) {
	start, done := make(chan struct{}), make(chan struct{})
	for i := range n {
		go func() {
			<-start
			work(i)
			done <- struct{}{}
		}()
	}
	close(start)
	for range n {
		<-done
	}
}

var background = context.Background()
