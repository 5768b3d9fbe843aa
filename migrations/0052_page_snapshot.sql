-- What paging needs to show what there was at the first page, while others write: docs/adr/0015.
-- +goose Up

-- The transaction that wrote a version. A snapshot says which transactions it saw; so a snapshot in a paging link says which
-- versions are later than the first page. Rows from before this migration get the transaction of the migration.
ALTER TABLE resource_change ADD xid xid8 NOT NULL DEFAULT pg_current_xact_id();
-- Only of what was there before; creates have no entry.
CREATE INDEX resource_change_later ON resource_change (type, xid, rk, version) WHERE version > 1;

-- Numbers of transactions mean something within one cluster alone. A database restored into another one has rows up to
-- restored_seq that carry numbers of the old one: they are earlier than any page there.
ALTER TABLE instance ADD restored_seq bigint NOT NULL DEFAULT 0;

CREATE VIEW resource_later AS
SELECT c.type, c.rk, c.version, c.last_updated, c.xid, c.seq <= (SELECT i.restored_seq FROM instance i) AS restored FROM resource_change c;

-- For callers: the versions of what they see now. Which version was hidden when, pages do not tell; they only leave the
-- versions that are too new out.
CREATE VIEW visible.resource_later AS
SELECT c.type, c.rk, c.version, c.last_updated, c.xid, c.restored FROM public.resource_later c
WHERE EXISTS (SELECT FROM visible.resource r WHERE r.rk = c.rk);
GRANT SELECT ON visible.resource_later TO kiln_access;

-- +goose Down
DROP VIEW visible.resource_later, resource_later;
DROP INDEX resource_change_later;
ALTER TABLE resource_change DROP xid;
ALTER TABLE instance DROP restored_seq;
