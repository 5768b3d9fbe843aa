package resources

import (
	"strings"
	"testing"
	"time"

	"kiln/storage"
)

// Where several entries stand in one row, between rows of one, the chain tells which of them is not as it was written.
func TestAudit_chain_names_the_entry_within_a_row(t *testing.T) {
	t.Parallel()
	w := newLog(t)
	read := Request{Interaction: Read, Type: "Patient", ID: "anna", Principal: admin("user/*.cruds")}
	several := func(n int) {
		list := make([]storage.AuditEntry, n)
		for i := range list {
			list[i] = storage.AuditEntry{Recorded: time.UnixMicro(1_700_000_000_000_001 + int64(i)), Act: string(Read), Name: "n" + string(rune('1'+i)),
				Target: "Observation/a1", Patients: []string{"anna", "ben"}}
		}
		list[3].Act = ActWritten // no AuditEvent is made of it
		if err := w.store.Audit(t.Context(), list...); err != nil {
			t.Fatal(err)
		}
	}
	do(t, w.Service, read)
	several(6)
	w.catchUp()
	do(t, w.Service, read)
	several(5)
	do(t, w.Service, read)
	w.catchUp()
	whole, err := w.store.VerifyAudit(t.Context(), 0, "")
	if err != nil || whole.Break != "" || whole.Waiting != 0 || whole.Foreign != 0 {
		t.Fatal(err, whole)
	}
	for _, table := range []string{"audit_entry", "audit_chain", "resource"} {
		w.sql("CREATE TABLE kept_" + table + " AS SELECT * FROM " + table)
	}
	const (
		unlock  = "SET session_replication_role = replica; "
		restore = unlock + `
UPDATE audit_entry e SET recorded = k.recorded, entry = k.entry, lines = k.lines FROM kept_audit_entry k WHERE k.id = e.id;
UPDATE audit_chain c SET position = k.position, events = k.events, hash = k.hash, lines = k.lines FROM kept_audit_chain k WHERE k.entry = c.entry;
DELETE FROM resource WHERE type = 'AuditEvent';
INSERT INTO resource SELECT * FROM kept_resource WHERE type = 'AuditEvent'`
		changed = "the entry, one of its AuditEvents or the chain was changed"
		lines   = "UPDATE audit_entry SET entry = (SELECT string_agg(text || E'\\n', '' ORDER BY %) FROM string_to_table(rtrim(entry, E'\\n'), E'\\n') WITH ORDINALITY AS l(text, line)) WHERE lines = 6"
		place   = "(SELECT id FROM audit_entry WHERE audit_entry.lines = 6)"
		event   = "type = 'AuditEvent' AND id = (SELECT events[%] FROM audit_chain WHERE entry = " + place + ")"
	)
	for _, c := range []struct{ name, statement, want string }{
		{"an_entry_changed", `UPDATE audit_entry SET entry = replace(entry, '"n3"', '"n7"') WHERE lines = 6`, "line 3: " + changed},
		{"its_time_changed", `UPDATE audit_entry SET entry = replace(entry, '1700000000000004', '1700000000000003') WHERE lines = 6`, "line 4: " + changed},
		{"an_entry_gone", strings.Replace(lines, "ORDER BY %)", "ORDER BY line) FILTER (WHERE line <> 2)", 1), "line 2: " + changed},
		{"the_last_gone", strings.Replace(lines, "ORDER BY %)", "ORDER BY line) FILTER (WHERE line <> 6)", 1), "line 6: the entry is missing"},
		{"two_changed_about", strings.Replace(lines, "%", "CASE line WHEN 2 THEN 3 WHEN 3 THEN 2 ELSE line END", 1), "line 2: " + changed},
		{"one_slipped_in_behind", `UPDATE audit_entry SET entry = entry || E'1700000000000009 {"a":"read"}\n' WHERE lines = 6`, "line 7: it was slipped in"},
		{"what_is_no_entry", `UPDATE audit_entry SET entry = 'x' WHERE lines = 6`, "line 1: " + changed},
		{"their_number_changed", `UPDATE audit_entry SET lines = 7 WHERE lines = 6`, changed},
		{"as_if_it_were_one", `UPDATE audit_entry SET lines = NULL WHERE lines = 6`, changed},
		{"the_time_of_the_row", `UPDATE audit_entry SET recorded = now() WHERE lines = 6`, changed},
		{"an_AuditEvent_changed", `UPDATE resource SET content = jsonb_set(content, '{action}', '"C"') WHERE ` + strings.Replace(event, "%", "5", 1), "line 3: " + changed},
		{"an_AuditEvent_gone", "DELETE FROM resource WHERE " + strings.Replace(event, "%", "8", 1), "line 5: AuditEvent/"},
		{"an_AuditEvent_moved", "UPDATE audit_chain SET lines = set_byte(lines, 3, 1) WHERE entry = " + place, "line 1: " + changed},
		{"more_AuditEvents_told_of", "UPDATE audit_chain SET events = events || events[1:1] WHERE entry = " + place, changed},
		{"a_hash_changed", "UPDATE audit_chain SET lines = set_byte(lines, 12 * 2 + 5, get_byte(lines, 12 * 2 + 5) # 1) WHERE entry = " + place, "line 3: " + changed},
		{"the_last_hash_changed", "UPDATE audit_chain SET hash = sha256('x') WHERE entry = " + place, changed},
		{"entries_of_the_place_forgotten", "UPDATE audit_chain SET lines = NULL WHERE entry = " + place, "it is missing in the chain"},
		{"a_part_of_its_lines_forgotten", "UPDATE audit_chain SET lines = substr(lines, 1, 71) WHERE entry = " + place, "it is missing in the chain"},
	} {
		w.sql(unlock + c.statement)
		found, err := w.store.VerifyAudit(t.Context(), 0, "")
		if err != nil || !strings.Contains(found.Break, c.want) {
			t.Errorf("%s: %v, %q, want %q", c.name, err, found.Break, c.want)
		}
		w.sql(restore)
	}
	if again, err := w.store.VerifyAudit(t.Context(), whole.Position, whole.Head); err != nil || *again != *whole {
		t.Errorf("%v, %+v, want %+v", err, again, whole)
	}
	// No head was ever printed in the midst of a row.
	if r, err := w.store.VerifyAudit(t.Context(), whole.Position-3, whole.Head); err != nil || r.Break == "" {
		t.Errorf("a head within a row: %v, %+v", err, r)
	}
}
