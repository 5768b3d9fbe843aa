package resources

import (
	"strings"
	"testing"

	"kiln/auth"
	"kiln/fhir"
)

func TestBinary_of_a_signed_document_stays_as_it_is(t *testing.T) {
	t.Parallel()
	h := newHospital(t)
	file := func(data string) string {
		return `{"resourceType":"Binary","contentType":"text/plain","data":"` + data + `","securityContext":{"reference":"DocumentReference/letter"}}`
	}
	h.put(strings.Replace(bodyOf("DocumentReference", "preliminary", ""), "{", `{"id":"letter",`, 1))
	n, err := h.create(h.doc, file("YQ=="))
	if err != nil {
		t.Fatal(describe(err))
	}
	if err := h.change(h.doc, n.ID(), file("Yg==")); err != nil {
		t.Errorf("before it is signed: %s", describe(err))
	}
	if err := h.change(h.doc, "letter", bodyOf("DocumentReference", "final", "")); err != nil {
		t.Fatal(describe(err))
	}
	for _, p := range []auth.Principal{h.doc, auth.Operator("test")} {
		h.wantCode(h.change(p, n.ID(), file("Yw==")), fhir.Conflict, "illegal-transition")
	}
	_, err = h.Do(t.Context(), Request{Interaction: Delete, Type: "Binary", ID: n.ID()})
	h.wantCode(err, fhir.MethodNotAllowed, "retention")
	t.Run("files_of_strangers_are_not_written", func(t *testing.T) {
		_, err := h.create(doctor("dirk", "user/*.cruds"), file("YQ=="))
		h.wantCode(err, fhir.Forbidden, "out-of-compartment")
		_, err = h.create(h.doc, `{"resourceType":"Binary","contentType":"text/plain","data":"YQ=="}`)
		h.wantCode(err, fhir.Forbidden, "out-of-compartment")
	})
	t.Run("document_and_file_in_one_transaction", func(t *testing.T) {
		_, err := h.Do(t.Context(), Request{Interaction: Transaction, Principal: h.doc, Body: parse(t, transactionOf(
			entryOf("urn:uuid:d", "POST", "DocumentReference", strings.Replace(bodyOf("DocumentReference", "final", ""), "http://example.org/x", "urn:uuid:f", 1)),
			entryOf("urn:uuid:f", "POST", "Binary", strings.Replace(file("YQ=="), "DocumentReference/letter", "urn:uuid:d", 1))))})
		if err != nil {
			t.Error(describe(err))
		}
	})
}
