-- The audit log. docs/audit.md tells what is kept, docs/adr/0012 why it looks like that.
-- +goose Up

-- What happened, a row each, written with the change it tells of or before the answer goes out. Append-only. xid stands
-- before id, so that a transaction has its number before it takes an id: the worker relies on that (audit_progress).
CREATE TABLE audit_entry (
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  recorded timestamptz NOT NULL,
  entry text NOT NULL);                 -- JSON: storage.AuditEntry
ALTER TABLE audit_entry ALTER entry SET COMPRESSION pglz;

-- The order of the entries, each bound to all before it, and the AuditEvents made of it. Append-only.
CREATE TABLE audit_chain (
  position bigint PRIMARY KEY CHECK (position > 0),
  entry bigint NOT NULL,
  events text[] NOT NULL,               -- ids of the AuditEvents
  hash bytea NOT NULL CHECK (length(hash) = 32),
  CONSTRAINT audit_chain_entry UNIQUE (entry));

-- One row: where the worker looks for entries. All up to low are in the chain. Those up to mark will all be there, or never
-- come, once the transactions that ran when it was set have ended: those numbered below mark_xid.
CREATE TABLE audit_progress (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  low bigint NOT NULL DEFAULT 0,
  mark bigint NOT NULL DEFAULT 0,
  mark_xid xid8 NOT NULL DEFAULT '0');
INSERT INTO audit_progress DEFAULT VALUES;

CREATE TRIGGER audit_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entry
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_chain_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_chain
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- AuditEvents are never changed, whoever asks. (What the server finds out about all resources anew, it may write.)
CREATE TRIGGER resource_audit_kept BEFORE UPDATE OF id, version, last_updated, method, content, literal ON resource
  FOR EACH ROW WHEN (OLD.type = 'AuditEvent') EXECUTE FUNCTION refuse_change();
CREATE TRIGGER resource_audit_not_deleted BEFORE DELETE ON resource
  FOR EACH ROW WHEN (OLD.type = 'AuditEvent') EXECUTE FUNCTION refuse_change();

-- Nor may the owner: who wants to must give himself the right first, and take the triggers away.
-- +goose StatementBegin
DO $$
BEGIN
  EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON audit_entry, audit_chain FROM PUBLIC, %I', current_user);
END $$;
-- +goose StatementEnd

-- What decides who may do and see what is changed by statements, so the database itself tells of it.
-- +goose StatementBegin
CREATE FUNCTION audit_policy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO public.audit_entry (recorded, entry) VALUES (clock_timestamp(), json_build_object('a', 'policy', 'd', TG_OP || ' ' || TG_TABLE_NAME, 'n', session_user)::text);
  RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER role_policy_audited AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON role_policy FOR EACH STATEMENT EXECUTE FUNCTION audit_policy();
CREATE TRIGGER security_label_audited AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON security_label FOR EACH STATEMENT EXECUTE FUNCTION audit_policy();
CREATE TRIGGER relationship_audited AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON relationship FOR EACH STATEMENT EXECUTE FUNCTION audit_policy();
CREATE TRIGGER consent_default_audited AFTER UPDATE OF consent_default ON access_state FOR EACH STATEMENT EXECUTE FUNCTION audit_policy();

-- A Consent of a patient hides records, never the log of who looked at them: kiln.log is the number of the type AuditEvent
-- for callers who may read the whole log.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION visible.consented(t smallint, compartments bigint[], labels integer) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = public AS $f$
DECLARE
  mode text := current_setting('kiln.consent', true);
  purpose text := current_setting('kiln.purpose', true);
  who bigint[];
BEGIN
  IF mode = 'off' OR t = nullif(current_setting('kiln.log', true), '')::smallint THEN RETURN true; END IF;
  who := ARRAY(SELECT unnest(nullif(current_setting('kiln.actors', true), '')::bigint[])
    UNION ALL SELECT a.also FROM acting a WHERE a.practitioner = ANY(nullif(current_setting('kiln.actors', true), '')::bigint[])
      AND a.low <= now() AND a.high > now());
  RETURN compartments IS NOT NULL AND NOT EXISTS (
    SELECT FROM unnest(compartments) AS p(rk) WHERE coalesce((
      SELECT c.deny FROM consent_rule c WHERE c.patient = p.rk AND c.low <= now() AND c.high > now()
        AND (c.actors IS NULL OR c.actors && who) AND (c.types IS NULL OR t = ANY(c.types))
        AND (c.labels IS NULL OR c.labels & consented.labels <> 0) AND (c.purposes IS NULL OR purpose = ANY(c.purposes))
      ORDER BY c.specificity DESC, c.deny DESC LIMIT 1), mode IS DISTINCT FROM 'permit'));
END $f$;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER resource_audit_kept ON resource;
DROP TRIGGER resource_audit_not_deleted ON resource;
DROP TRIGGER role_policy_audited ON role_policy;
DROP TRIGGER security_label_audited ON security_label;
DROP TRIGGER relationship_audited ON relationship;
DROP TRIGGER consent_default_audited ON access_state;
DROP FUNCTION audit_policy();
DROP TABLE audit_progress, audit_chain, audit_entry;
