package storage_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage"
)

// TestProvenances finds what is said of the resources of a record, for who sees everything and through the views.
func TestProvenances(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t)
	attest := func(id string, targets ...string) {
		t.Helper()
		list := ""
		for _, target := range targets {
			list += `,{"reference":"` + target + `"}`
		}
		n, err := fhir.ParseJSON([]byte(`{"resourceType":"Provenance","id":"` + id + `","target":[` + list[1:] + `],"recorded":"2024-01-02T00:00:00Z","agent":[{"who":{"reference":"Observation/p2"}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Prepare(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Write(ctx, func(tx *storage.Tx) error {
			if err := tx.Inherit(ctx, p); err != nil {
				return err
			}
			tx.Insert(p, storage.MethodCreate)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	observe := func(id, patient string) *storage.Version {
		t.Helper()
		return put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":"%s","status":"preliminary","code":{"text":"x"},"subject":{"reference":"Patient/%s"}}`, id, patient))
	}
	page := map[string]*storage.Version{}
	for _, patient := range []string{"p", "q"} {
		page[patient] = put(t, s, `{"resourceType":"Patient","id":"`+patient+`"}`)
		for i := range 4 {
			id := fmt.Sprint(patient, i)
			page[id] = observe(id, patient)
		}
	}
	page["both"] = put(t, s, `{"resourceType":"Appointment","id":"both","status":"proposed","participant":[{"actor":{"reference":"Patient/p"},"status":"needs-action"},{"actor":{"reference":"Patient/q"},"status":"needs-action"}]}`)
	page["g"] = put(t, s, `{"resourceType":"Group","id":"g","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/p"}}]}`)
	page["d"] = put(t, s, `{"resourceType":"Device","id":"d"}`)
	attest("of-one", "Observation/p0")
	attest("of-a-version", "Observation/p0/_history/1")
	attest("by-url", "http://localhost/fhir/Observation/p1")
	attest("elsewhere", "http://example.org/fhir/Observation/p1")
	attest("of-two-patients", "Observation/p0", "Observation/q0")
	attest("of-the-visit", "Appointment/both")
	attest("of-the-group", "Group/g")
	attest("of-a-device", "Device/d")
	attest("named", "Patient/p", "Observation/p1", "Observation/p3")
	attest("named-of-another", "Patient/q", "Observation/p1")
	attest("moves", "Observation/p3")
	page["p3"] = observe("p3", "q")

	everybody, err := s.Access(&search.Restriction{Caller: "c", Roles: []string{"admin"}, Consent: true, Rules: []search.Rule{{Types: s.Registry().Schema().Resources, Reach: search.ReachAny}}})
	if err != nil {
		t.Fatal(err)
	}
	p := &storage.Key{Type: "Patient", ID: "p"}
	for _, c := range []struct {
		page    string
		without *storage.Key
		want    string
	}{
		{"p0", nil, "of-a-version of-one of-two-patients"},
		{"p0 p1", nil, "by-url named of-a-version of-one of-two-patients"},
		{"p0 p1", p, "by-url of-a-version of-one of-two-patients"},
		{"p p1", p, "by-url"},
		{"q0", p, "of-two-patients"},
		{"p2 q1", nil, ""},
		{"p3 q0", nil, "moves of-two-patients"}, // named is still the other patient's
		{"both g d", nil, "of-a-device of-the-group of-the-visit"},
		{"q q1", nil, "named-of-another"},
	} {
		var versions []*storage.Version
		for id := range strings.FieldsSeq(c.page) {
			versions = append(versions, page[id])
		}
		for who, ctx := range map[string]context.Context{"everything": ctx, "through the views": storage.WithAccess(ctx, everybody)} {
			got := []string{}
			list, cut, err := s.Provenances(ctx, versions, c.without, 100)
			for _, v := range list {
				got = append(got, v.ID)
			}
			if slices.Sort(got); err != nil || cut || strings.Join(got, " ") != c.want {
				t.Errorf("%s, %s: %s, want %s (%v, %v)", c.page, who, got, c.want, cut, err)
			}
			if n := len(got); n > 1 {
				if some, cut, err := s.Provenances(ctx, versions, c.without, n-1); err != nil || !cut || len(some) != n-1 {
					t.Errorf("%s, %s: %d of %d, %v, %v", c.page, who, len(some), n, cut, err)
				}
			}
		}
	}
	page["named"], err = s.Read(ctx, "Provenance", "named")
	if err != nil {
		t.Fatal(err)
	}
	if list, _, err := s.Provenances(ctx, []*storage.Version{page["p1"], page["named"]}, nil, 100); err != nil || len(list) != 1 || list[0].ID != "by-url" {
		t.Errorf("beside one that is on the page: %d, %v", len(list), err)
	}
	plan, err := s.ExplainProvenances(ctx)
	if err != nil || !strings.Contains(plan, "Bitmap Index Scan on search_index_provenance") {
		t.Errorf("%v\n%s", err, plan)
	}
}

// TestProvenances_of_many_records writes what is said of thousands of patients, and finds what is said of resources of more records than have terms
// of their own each.
func TestProvenances_of_many_records(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t)
	attest := func(id string, targets []string) {
		t.Helper()
		n, err := fhir.ParseJSON([]byte(`{"resourceType":"Provenance","id":"` + id + `","target":[{"reference":"` + strings.Join(targets, `"},{"reference":"`) +
			`"}],"recorded":"2024-01-02T00:00:00Z","agent":[{"who":{"reference":"Device/d"}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.Prepare(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Write(ctx, func(tx *storage.Tx) error {
			if err := tx.Inherit(ctx, p); err != nil {
				return err
			}
			tx.Insert(p, storage.MethodCreate)
			return nil
		}); err != nil {
			t.Fatalf("%s of %d: %v", id, len(targets), err)
		}
	}
	var observations []*storage.Version
	var targets, patients []string
	for i := range 12 {
		observations = append(observations, put(t, s, fmt.Sprintf(`{"resourceType":"Observation","id":"o%d","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p%d"}}`, i, i)))
		targets = append(targets, fmt.Sprint("Observation/o", i))
	}
	for i := range 3000 {
		patients = append(patients, fmt.Sprint("Patient/p", i))
	}
	beside := put(t, s, `{"resourceType":"Observation","id":"beside","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p3"}}`)
	attest("of-10", targets[:10])
	attest("of-11", targets[:11])
	attest("of-12", targets)
	attest("imported", append(patients, targets...))
	everybody, err := s.Access(&search.Restriction{Caller: "c", Roles: []string{"admin"}, Consent: true, Rules: []search.Rule{{Types: s.Registry().Schema().Resources, Reach: search.ReachAny}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		page    []*storage.Version
		without *storage.Key
		want    string
	}{
		{observations[:1], nil, "imported of-10 of-11 of-12"},
		{observations[:1], &storage.Key{Type: "Patient", ID: "p0"}, "of-10 of-11 of-12"},
		{observations[9:10], &storage.Key{Type: "Patient", ID: "p9"}, "of-10 of-11 of-12"},
		{observations[10:], nil, "imported of-11 of-12"},
		{observations[11:], nil, "imported of-12"},
		{[]*storage.Version{beside}, nil, ""},
		{append(observations[11:], beside), nil, "imported of-12"},
	} {
		for who, ctx := range map[string]context.Context{"everything": ctx, "through the views": storage.WithAccess(ctx, everybody)} {
			list, cut, err := s.Provenances(ctx, c.page, c.without, 100)
			got := []string{}
			for _, v := range list {
				got = append(got, v.ID)
			}
			if slices.Sort(got); err != nil || cut || strings.Join(got, " ") != c.want {
				t.Errorf("%s, %s: %v, want %s (%v, %v)", c.page[0].ID, who, got, c.want, cut, err)
			}
		}
	}
}
