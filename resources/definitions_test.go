package resources

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/auth"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/storage"
)

// The definitions that the server has built in are for everybody who may read resources of their type, and for nobody to
// change.
func TestDefinitions_for_callers(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.store.StartTerminology(t.Context(), func(bool, error) {})
	w.store.StartDefinitions(t.Context(), func(_ bool, err error) {
		if err != nil {
			t.Error(err)
		}
	})
	for name, who := range map[string]auth.Principal{
		"doctor": doctor("treats", "user/*.cruds"), "patient": patientApp("anna", "patient/*.cruds"), "admin": admin("user/*.cruds"), "backend": backend("system/*.cruds"),
	} {
		read := do(t, w.Service, Request{Principal: who, Interaction: Read, Type: "StructureDefinition", ID: "Patient"})
		if read.Version == nil || read.Version.Number != 1 {
			t.Errorf("%s reads %+v", name, read.Version)
		}
		for query, typ := range map[string]string{"code=expand": "OperationDefinition", "url=http://hl7.org/fhir/SearchParameter/clinical-patient": "SearchParameter"} {
			if found := do(t, w.Service, Request{Principal: who, Interaction: SearchType, Type: typ, Query: query}).Bundle.Entries; len(found) != 1 {
				t.Errorf("%s finds %d with %s", name, len(found), query)
			}
		}
		_, err := w.Do(t.Context(), Request{Principal: who, Interaction: Delete, Type: "StructureDefinition", ID: "Patient"})
		if kind := fhir.KindOf(err); kind != fhir.BusinessRule && kind != fhir.Forbidden {
			t.Errorf("%s deletes: %v", name, err)
		}
	}
	_, err := w.Do(t.Context(), Request{Principal: patientApp("anna", "patient/Patient.rs"), Interaction: Read, Type: "StructureDefinition", ID: "Patient"})
	if fhir.KindOf(err) != fhir.Forbidden {
		t.Errorf("without a scope: %v", err)
	}
	n := parse(t, `{"resourceType":"StructureDefinition","url":"http://hl7.org/fhir/StructureDefinition/Patient","name":"X","status":"draft"}`)
	made := do(t, w.Service, Request{Principal: admin("user/*.cruds"), Interaction: Create, Type: "StructureDefinition", Body: n,
		IfNoneExist: search.Encode([]search.Pair{{Name: "url", Value: "http://hl7.org/fhir/StructureDefinition/Patient"}})})
	if made.Created || made.Version.ID != "Patient" {
		t.Errorf("a conditional create made %+v", made.Version)
	}
	for _, e := range do(t, w.Service, Request{Principal: doctor("treats", "user/*.rs"), Interaction: Operate, Operation: "everything", Type: "Patient", ID: "anna"}).Bundle.Entries {
		if e.Version.Type == "StructureDefinition" {
			t.Errorf("$everything has %s/%s", e.Version.Type, e.Version.ID)
		}
	}
}

// While the definitions are being loaded, only who asks for one of them by its id waits; a search says what it may lack.
func TestDefinitions_that_are_being_loaded(t *testing.T) {
	t.Parallel()
	var url string
	s := newService(t, func(_ *Options, o *storage.Options) { url = o.URL })
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, int64(0x64656673)); err != nil { // as a server does that loads them
		t.Fatal(err)
	}
	s.store.StartDefinitions(t.Context(), func(bool, error) {})
	put(t, s, `{"resourceType":"ValueSet","id":"mine","url":"http://example.org/mine","status":"active"}`)
	do(t, s, Request{Interaction: Read, Type: "ValueSet", ID: "mine"})
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Do(short, Request{Interaction: Read, Type: "StructureDefinition", ID: "Patient", Principal: auth.System()}); fhir.KindOf(err) != fhir.Transient {
		t.Errorf("a definition that is not there yet: %v", err)
	}
	found := do(t, s, Request{Interaction: SearchType, Type: "ValueSet", Query: "url=http://example.org/mine"}).Bundle
	if len(found.Entries) != 1 || len(found.Issues) != 1 || found.Issues[0].Code != fhir.CodeIncomplete {
		t.Errorf("%d found, %v", len(found.Entries), found.Issues)
	}
	if more := do(t, s, Request{Interaction: SearchType, Type: "Patient"}).Bundle.Issues; len(more) != 0 {
		t.Errorf("a search for others: %v", more)
	}
}
