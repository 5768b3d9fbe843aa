package resources

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/auth"
	"kiln/storage"
)

// listed are the resources that a history shows, or a search, as Type/id; the total agrees.
func (w *ward) listed(p auth.Principal, r Request) (keys []string) {
	w.t.Helper()
	r.Principal = p
	r.Query = strings.TrimPrefix(r.Query+"&_count=1000", "&")
	b := do(w.t, w.Service, r).Bundle
	for _, e := range b.Entries {
		keys = append(keys, e.Version.Type+"/"+e.Version.ID)
	}
	if b.Total == nil || int(*b.Total) != len(keys) {
		w.t.Errorf("%s %s: total %v of %v", r.Interaction, r.Type, b.Total, keys)
	}
	return keys
}

// shows checks that a resource is there by every path, or by none.
func (w *ward) shows(who auth.Principal, want bool, keys ...string) {
	w.t.Helper()
	for _, key := range keys {
		typ, id, _ := strings.Cut(key, "/")
		for path, got := range map[string]bool{
			"read":                  w.status(who, Request{Interaction: Read, Type: typ, ID: id}) == ok,
			"vread":                 w.status(who, Request{Interaction: VRead, Type: typ, ID: id, Version: "1"}) == ok,
			"its history":           w.status(who, Request{Interaction: HistoryInstance, Type: typ, ID: id}) == ok,
			"history of its type":   slices.Contains(w.listed(who, Request{Interaction: HistoryType, Type: typ}), key),
			"history of the system": slices.Contains(w.listed(who, Request{Interaction: HistorySystem}), key),
			"search":                slices.Contains(w.listed(who, Request{Interaction: SearchType, Type: typ, Query: "_id=" + id}), key),
		} {
			if got != want {
				w.t.Errorf("%s sees %s by %s: %v, want %v", who.FHIRUser, key, path, got, want)
			}
		}
	}
}

// What belongs to whom its target belongs follows when the target changes, by every path and at once: its labels, its patient.
func TestLending_follows_the_target(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	treats, anna, ben := doctor("treats", "user/*.rs"), patientApp("anna", "patient/*.rs"), patientApp("ben", "patient/*.rs")
	device := func(patient, label string) string {
		return `{"resourceType":"Device","id":"d","meta":{"security":[` + label + `]},"patient":{"reference":"Patient/` + patient + `"}}`
	}
	const restricted = `{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"V"}`
	provenance := func(id, target string) string {
		return `{"resourceType":"Provenance","id":"` + id + `","recorded":"2024-01-01T00:00:00Z","target":[{"reference":"` + target + `"}],"agent":[{"who":{"display":"x"}}]}`
	}
	w.put(device("anna", ""))
	w.put(`{"resourceType":"Binary","id":"file","contentType":"text/plain","securityContext":{"reference":"Device/d"},"data":"eA=="}`)
	w.put(provenance("pd", "Device/d/_history/1"))
	w.put(provenance("pf", "Binary/file"))
	all := []string{"Binary/file", "Provenance/pd", "Provenance/pf"}
	w.shows(treats, true, all...)
	w.shows(anna, true, all...)
	w.shows(ben, false, all...)

	w.put(device("anna", restricted))
	w.shows(treats, false, append(all, "Device/d")...)
	w.shows(anna, true, all...)
	w.put(device("anna", ""))
	w.shows(treats, true, all...)

	w.put(device("ben", ""))
	w.shows(treats, false, all...)
	w.shows(anna, false, all...)
	w.shows(ben, true, all...)

	// So does one of the patient and of something in the record, but for whose it is.
	w.put(device("anna", ""))
	w.put(`{"resourceType":"Provenance","id":"both","recorded":"2024-01-01T00:00:00Z","target":[{"reference":"Patient/anna"},{"reference":"Device/d"}],"agent":[{"who":{"display":"x"}}]}`)
	w.shows(treats, true, "Provenance/both")
	w.put(device("anna", restricted))
	w.shows(treats, false, "Provenance/both")
	w.shows(anna, true, "Provenance/both")
	w.put(device("ben", ""))
	w.shows(treats, true, "Provenance/both")
	w.shows(ben, false, "Provenance/both")

	// A result that becomes final is shown with what tells of it.
	w.put(provenance("p2", "Observation/b2"))
	w.shows(ben, false, "Provenance/p2")
	w.put(observation("b2", "ben", "vital-signs", "final"))
	w.shows(ben, true, "Provenance/p2")
}

// What comes before its target, as an import brings it, is the target's patient's by every path once the worker has looked.
func TestLending_awaits_the_target(t *testing.T) {
	t.Parallel()
	var url string
	w := newWard(t, func(_ *Options, so *storage.Options) { url = so.URL })
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	anna, ben := patientApp("anna", "patient/*.rs"), patientApp("ben", "patient/*.rs")
	w.put(`{"resourceType":"Provenance","id":"early","recorded":"2024-01-01T00:00:00Z","target":[{"reference":"Procedure/late"},{"reference":"Procedure/never"}],"agent":[{"who":{"display":"x"}}]}`)
	w.put(`{"resourceType":"Binary","id":"early","contentType":"text/plain","securityContext":{"reference":"Procedure/late"},"data":"eA=="}`)
	all := []string{"Provenance/early", "Binary/early"}
	due := func(sql string) (n int) {
		if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	const ready, waiting = `SELECT count(*) FROM lending_due WHERE ready`, `SELECT count(*) FROM lending_due WHERE NOT ready`
	eventually := func(sql string) {
		t.Helper()
		for range 1200 {
			if due(sql) == 0 {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatalf("the worker does not end: %s", sql)
	}
	working, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.store.Work(working, func(err error) { t.Error(err) }) }()
	defer func() { stop(); <-done }()
	eventually(ready)
	if n := due(waiting); n != 3 {
		t.Errorf("%d targets are awaited, want 3", n)
	}
	w.shows(anna, false, all...)
	w.put(`{"resourceType":"Procedure","id":"late","status":"completed","subject":{"reference":"Patient/anna"}}`)
	eventually(ready)
	if n := due(waiting); n != 1 {
		t.Errorf("%d targets are awaited, want 1", n)
	}
	w.shows(anna, true, all...)
	w.shows(ben, false, all...)

	// An older version has left rows as they were written first; a reindex finds whose they are.
	for _, table := range []string{"resource", "search_index", "resource_change"} {
		if _, err := conn.Exec(t.Context(), `UPDATE `+table+` SET compartments = '{}' WHERE rk IN (SELECT rk FROM resource WHERE id = 'early')`); err != nil {
			t.Fatal(err)
		}
	}
	w.shows(anna, false, all...)
	if _, err := w.store.StartReindex(t.Context(), []string{"Provenance", "Binary"}, true); err != nil {
		t.Fatal(err)
	}
	eventually(`SELECT count(*) FROM reindex_job WHERE status <> 'completed'`)
	w.shows(anna, true, all...)
}
