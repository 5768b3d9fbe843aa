-- Many entries of the audit log stand in one row, and have one place in the chain (docs/adr/0012): the row, its index entry and the
-- commit cost more than the entry. Only the catalog changes: rows that are there stay as they are, and are read as before.
-- +goose Up

-- How many entries the row has, a line each: microseconds since 1970, a space, the JSON. recorded is the time of the first. NULL: the
-- row is one entry, and entry its JSON.
ALTER TABLE audit_entry ADD lines integer;

-- Of a place for a row of several entries, for each of them: to how many of the events it has led (4 bytes), and the first 8 bytes of the hash
-- after it, which tell which one was changed. position is that of the last of them, hash the hash after it.
ALTER TABLE audit_chain ADD lines bytea;

-- +goose StatementBegin
DO $$
BEGIN
  ALTER TABLE audit_entry ALTER entry SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
  NULL; -- it goes on with pglz
END $$;
-- +goose StatementEnd

-- The entries one by one, for who looks at them by SQL.
CREATE VIEW audit_line AS
SELECT id, 1::bigint AS line, recorded, entry FROM audit_entry WHERE lines IS NULL
UNION ALL
SELECT e.id, l.line, 'epoch'::timestamptz + split_part(l.text, ' ', 1)::bigint * interval '1 microsecond', substr(l.text, strpos(l.text, ' ') + 1)
FROM audit_entry e, string_to_table(rtrim(e.entry, E'\n'), E'\n') WITH ORDINALITY AS l(text, line) WHERE e.lines IS NOT NULL;

-- +goose Down
-- +goose StatementBegin
DO $$
BEGIN
  IF EXISTS (SELECT FROM audit_entry WHERE lines IS NOT NULL) THEN
    RAISE EXCEPTION 'the audit log has rows of several entries, which older versions cannot read';
  END IF;
END $$;
-- +goose StatementEnd
DROP VIEW audit_line;
ALTER TABLE audit_chain DROP lines;
ALTER TABLE audit_entry DROP lines;
ALTER TABLE audit_entry ALTER entry SET COMPRESSION pglz;
