package server_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/resources"
	"kiln/server"
	"kiln/storage"
)

func TestBundles(t *testing.T) {
	t.Parallel()
	total := int64(7)
	deleted := &storage.Version{Type: "Patient", ID: "p1", Number: 4, LastUpdated: updated, Method: storage.MethodDelete, Deleted: true}
	first := patient(1)
	first.Method = storage.MethodCreate
	observation := &storage.Version{Type: "Observation", ID: "o1", Number: 1, LastUpdated: updated,
		Content: []byte(`{"resourceType":"Observation","id":"o1","valueQuantity":{"value":1.10}}`)}
	note := []fhir.Issue{{Severity: "warning", Code: "not-supported", Text: "The parameter \"x\" was ignored"}}
	missing := fhir.NewError(fhir.NotFound, fhir.CodeNotFound, "Patient/p9 is not known").At("Bundle.entry[4]")
	responses := func(kind string) *resources.Bundle {
		return &resources.Bundle{Type: kind, Entries: []resources.Entry{
			{Interaction: resources.Create, Response: &resources.Response{Created: true, Version: first}},
			{Interaction: resources.Update, Response: &resources.Response{Version: patient(2), Issues: note}},
			{Interaction: resources.Delete, Response: &resources.Response{Deleted: 1, Version: deleted}},
			{Interaction: resources.Read, Response: &resources.Response{Version: patient(3)}},
			{Interaction: resources.Read, Err: missing},
			{Interaction: resources.Read, Response: &resources.Response{NotModified: true, Version: patient(3)}},
			{Interaction: resources.SearchType, Response: &resources.Response{Bundle: &resources.Bundle{
				Type: "searchset", Total: new(int64), Links: []resources.Link{{Relation: "self", URL: "Patient?name=x"}}}}},
		}}
	}
	for _, c := range []struct {
		name, prefer string
		give         *resources.Bundle
	}{
		{"searchset", "", &resources.Bundle{Type: "searchset", Total: &total,
			Links: []resources.Link{{Relation: "self", URL: `Patient?name="x"`}, {Relation: "next", URL: "?page=abc"}},
			Entries: []resources.Entry{
				{Version: patient(3), Mode: "match", Score: 0.75}, {Version: observation, Mode: "include"},
			}, Issues: note}},
		{"searchset_contained", "", &resources.Bundle{Type: "searchset", Entries: []resources.Entry{
			{Version: &storage.Version{Type: "Medication", ID: "m1", Container: "MedicationRequest/23", Content: []byte(`{"resourceType":"Medication","id":"m1"}`)}, Mode: "match"},
		}}},
		{"searchset_empty", "", &resources.Bundle{Type: "searchset"}},
		{"searchset_only_issues", "", &resources.Bundle{Type: "searchset", Issues: note}},
		{"history", "", &resources.Bundle{Type: "history", Total: &total, Entries: []resources.Entry{
			{Version: deleted}, {Version: patient(3)}, {Version: first},
		}}},
		{"batch_response", "", responses("batch-response")},
		{"transaction_response_representation", "return=representation", responses("transaction-response")},
		{"batch_response_outcome", "return=OperationOutcome", responses("batch-response")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := start(t)
			h.fake.give = func(context.Context, resources.Request) (*resources.Response, error) {
				return &resources.Response{Bundle: c.give}, nil
			}
			golden(t, c.name, h.send(t, "GET", "/fhir/Patient?x", "", "Prefer: "+c.prefer).wantStatus(t, 200).body)
		})
	}
}

func TestBatch_entry_with_a_fault_of_ours_is_logged(t *testing.T) {
	t.Parallel()
	h := start(t)
	h.fake.give = func(context.Context, resources.Request) (*resources.Response, error) {
		return &resources.Response{Bundle: &resources.Bundle{Type: "batch-response", Entries: []resources.Entry{
			{Interaction: resources.Create, Err: errors.New("secret")},
		}}}, nil
	}
	a := h.send(t, "POST", "/fhir", `{"resourceType":"Bundle","type":"batch"}`, fhirJSON).wantStatus(t, 200)
	if strings.Contains(a.body, "secret") || !strings.Contains(a.body, "500 Internal Server Error") {
		t.Error(a.body)
	}
	if !strings.Contains(h.log.String(), "secret") {
		t.Error("the cause is not in the log")
	}
}

// Waiting bundles must not be worked on before their turn, and each that ends, however it does, must let another in.
func TestBundles_take_turns(t *testing.T) {
	t.Parallel()
	h := start(t, func(o *server.Options) { o.Limits.BundlesAtOnce = 2 })
	var now, most atomic.Int32
	h.fake.give = func(context.Context, resources.Request) (*resources.Response, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for before := most.Load(); n > before && !most.CompareAndSwap(before, n); before = most.Load() {
		}
		time.Sleep(time.Millisecond)
		if n == 1 {
			panic("a fault")
		}
		return &resources.Response{Bundle: &resources.Bundle{Type: "batch-response"}}, nil
	}
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			h.send(t, "POST", "/fhir", `{"resourceType":"Bundle","type":"batch"}`, fhirJSON)
			h.send(t, "POST", "/fhir", `{"resourceType":"Patient"}`, fhirJSON)
		})
	}
	wait.Wait()
	if most.Load() > 2 {
		t.Errorf("%d bundles at once", most.Load())
	}
}
