package server_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"kiln/resources"
	"kiln/server"
)

// discard is a ResponseWriter that costs nothing, so that the figures are ours alone.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkRead is the way of a read through this package, access log and metrics included, net/http's own left out.
func BenchmarkRead(b *testing.B) {
	version := patient(3)
	version.Content = []byte(`{"resourceType":"Patient","id":"p1","text":"` + strings.Repeat("x", 3000) + `"}`)
	handler := server.New(server.Options{
		Service: &counting{resp: &resources.Response{Version: version}}, ResourceTypes: types, BaseURL: "http://localhost:8080",
		Logger: slog.New(slog.NewJSONHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	req := httptest.NewRequest("GET", "/fhir/Patient/p1", nil)
	req.Header.Set("Accept", "application/fhir+json")
	b.ReportAllocs()
	for b.Loop() {
		handler.ServeHTTP(&discard{header: make(http.Header, 8)}, req)
	}
}

// BenchmarkSearchset writes a page of 50 resources of 3 KB.
func BenchmarkSearchset(b *testing.B) {
	version := patient(3)
	version.Content = []byte(`{"resourceType":"Patient","id":"p1","text":"` + strings.Repeat("x", 3000) + `"}`)
	page := &resources.Bundle{Type: "searchset", Links: []resources.Link{{Relation: "self", URL: "Patient"}}}
	for range 50 {
		page.Entries = append(page.Entries, resources.Entry{Version: version, Mode: "match"})
	}
	handler := server.New(server.Options{
		Service: &counting{resp: &resources.Response{Bundle: page}}, ResourceTypes: types, BaseURL: "http://localhost:8080",
	})
	req := httptest.NewRequest("GET", "/fhir/Patient?name=x", nil)
	b.ReportAllocs()
	for b.Loop() {
		handler.ServeHTTP(&discard{header: make(http.Header, 8)}, req)
	}
}

type counting struct{ resp *resources.Response }

func (c *counting) Do(context.Context, resources.Request) (*resources.Response, error) {
	return c.resp, nil
}
