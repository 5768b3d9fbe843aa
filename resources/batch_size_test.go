package resources

import (
	"fmt"
	"strings"
	"testing"

	"kiln/fhir"
	"kiln/storage"
)

// One large resource read again and again in one Bundle must not fill the memory: a small request has an answer that is bounded.
func TestBatch_answers_have_bounded_bytes(t *testing.T) {
	t.Parallel()
	s := newService(t, func(o *Options, _ *storage.Options) { o.Limits.MaxBatchBytes = 10_000 })
	put(t, s, fmt.Sprintf(`{"resourceType":"Basic","id":"b","code":{"text":%q}}`, strings.Repeat("x", 4000)))
	calls := []string{entryOf("", "GET", "Basic/b", ""), entryOf("", "GET", "Basic?_id=b", ""), entryOf("", "GET", "Basic/b", ""),
		entryOf("", "POST", "Basic", `{"resourceType":"Basic","code":{"text":"late"}}`), entryOf("", "GET", "Basic/b", "")}
	batch := parse(t, strings.Replace(transactionOf(calls...), `"transaction"`, `"batch"`, 1))
	for i, e := range do(t, s, Request{Interaction: Batch, Body: batch}).Bundle.Entries {
		if late := i > 2; late != (fhir.KindOf(e.Err) == fhir.TooCostly) || !late && e.Err != nil {
			t.Errorf("entry %d: %v", i, e.Err)
		}
	}
	reads := []string{entryOf("", "POST", "Basic", `{"resourceType":"Basic","code":{"text":"late"}}`)}
	for range 4 {
		reads = append(reads, entryOf("", "GET", "Basic/b", ""))
	}
	_, err := s.Do(t.Context(), Request{Interaction: Transaction, Body: parse(t, transactionOf(reads...))})
	if fhir.KindOf(err) != fhir.TooCostly || !strings.Contains(describe(err), "10000 bytes") {
		t.Errorf("the transaction: %s", describe(err))
	}
	if n := count(t, s, "Basic"); n != 1 {
		t.Errorf("%d are there", n)
	}
}
