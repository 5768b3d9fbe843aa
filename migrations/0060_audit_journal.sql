-- Entries of the audit log come from files of the servers (storage/audit_carry.go), batch by batch.
-- +goose Up

-- The last batch of each server that is in audit_entry, written with it: a batch that comes again is known by its number.
CREATE TABLE audit_journal (
  owner text PRIMARY KEY,               -- a process of a server
  batch bigint NOT NULL);

-- +goose Down
DROP TABLE audit_journal;
