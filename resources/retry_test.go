package resources

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/storage"
)

// Each commit that writes a resource fails a number of times, as one that meets a conflict does. The sequence is what
// survives the rollback.
const failingCommits = `
CREATE SEQUENCE tries;
CREATE FUNCTION fail_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF nextval('tries') %% %[1]d <> 0 THEN RAISE EXCEPTION 'not now' USING ERRCODE = 'serialization_failure'; END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER fail_commit AFTER INSERT OR UPDATE ON resource DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.id <> 'calm') EXECUTE FUNCTION fail_commit()`

// TestCommitConflicts shows that a conflict at COMMIT is tried again and never taken for a success (medplum#9811).
func TestCommitConflicts(t *testing.T) {
	t.Parallel()
	for _, tries := range []int{3, 1000} { // the third try succeeds; none does
		t.Run(fmt.Sprint(tries), func(t *testing.T) {
			t.Parallel()
			var url string
			s := newService(t, func(_ *Options, so *storage.Options) { url = so.URL })
			conn, err := pgx.Connect(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(background)
			if _, err := conn.Exec(t.Context(), fmt.Sprintf(failingCommits, tries)); err != nil {
				t.Fatal(err)
			}
			put(t, s, `{"resourceType":"Patient","id":"calm"}`)
			tx := func(entry string) Request {
				return Request{Interaction: Transaction, Body: parse(t, transactionOf(entry))}
			}
			for i, r := range []Request{
				{Interaction: Create, Type: "Patient", Body: parse(t, `{"resourceType":"Patient"}`)},
				{Interaction: Create, Type: "Patient", Body: parse(t, identified("x", "")), IfNoneExist: "identifier=urn:x|x"},
				{Interaction: Update, Type: "Patient", ID: "u", Body: parse(t, `{"resourceType":"Patient","id":"u"}`)},
				{Interaction: Update, Type: "Patient", Query: "identifier=urn:x|y", Body: parse(t, identified("y", ""))},
				{Interaction: Create, Type: "Patient", Body: parse(t, `{"resourceType":"Patient"}`), IdempotencyKey: "k"},
				tx(entryOf("", "POST", "Patient", `{"resourceType":"Patient"}`)),
				tx(entryOf("", "POST", "Patient", identified("z", ""), `"ifNoneExist":"identifier=urn:x|z"`)),
			} {
				before := count(t, s, "Patient")
				resp, err := s.Do(t.Context(), r)
				after := count(t, s, "Patient")
				if tries == 1000 {
					if fhir.KindOf(err) != fhir.Transient || after != before {
						t.Errorf("%d: %s, %d more", i, describe(err), after-before)
					}
					continue
				}
				if err != nil || after != before+1 {
					t.Errorf("%d: %s, %d more", i, describe(err), after-before)
					continue
				}
				if resp.Bundle != nil {
					resp = resp.Bundle.Entries[0].Response
				}
				if !resp.Created || resp.Version.Number != 1 {
					t.Errorf("%d: %+v", i, resp)
				}
				read(t, s, "Patient", resp.Version.ID)
			}
		})
	}
}
