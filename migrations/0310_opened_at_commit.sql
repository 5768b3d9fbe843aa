-- Who changes a treatment took the rows of opened at once and held them until the transaction ended. Whoever revoked a token meanwhile waited for that, past
-- lock_timeout, too, and then it was not revoked. Now they go as the transaction ends (docs/adr/0010). It takes no time; writes of who treats whom wait
-- for it.
-- +goose Up
-- +goose StatementBegin
-- Nobody else sees the change before that, and the row of treatment stays locked until then: no row of opened comes about meanwhile. The rights are those of
-- the tables' owner, since a transaction may end in the role kiln_access.
CREATE OR REPLACE FUNCTION treatment_closes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'treatment is changed by transactions that are READ COMMITTED, which see what others have done to opened';
  END IF;
  IF TG_OP = 'TRUNCATE' THEN
    DELETE FROM opened;
  ELSE
    DELETE FROM opened o WHERE o.actor = OLD.actor AND o.patient = OLD.patient;
  END IF;
  RETURN NULL;
END $$;

-- It differs from that of 0261 by SET CONSTRAINTS: where another row of treatment was clear, what it has opened ends before there is the new row, and not that with it.
CREATE OR REPLACE FUNCTION treatment_opens(shown bytea, doctor bigint, subject bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  ends timestamptz;
  last timestamptz;
BEGIN
  IF NOT treatment_clears(doctor, subject) THEN
    RETURN false;
  END IF;
  SET CONSTRAINTS treatment_closes IMMEDIATE;
  SELECT k.high INTO ends FROM treatment k
  WHERE k.clear AND k.actor = doctor AND k.patient = subject AND k.confirmed AND k.low <= now() AND k.high > now() FOR SHARE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  SELECT t.expires INTO last FROM oauth_token t WHERE t.hash = shown AND t.kind = 'A' FOR SHARE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  INSERT INTO opened (token, patient, actor, expires, until) VALUES (shown, subject, doctor, last, ends)
  ON CONFLICT (token, patient) DO UPDATE SET actor = EXCLUDED.actor, expires = EXCLUDED.expires, until = EXCLUDED.until;
  RETURN true;
END $$;
-- +goose StatementEnd
DROP TRIGGER treatment_closes ON treatment;
CREATE CONSTRAINT TRIGGER treatment_closes AFTER UPDATE OR DELETE ON treatment DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.clear) EXECUTE FUNCTION treatment_closes();
ALTER TABLE treatment ENABLE ALWAYS TRIGGER treatment_closes;

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION treatment_closes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'treatment is changed by transactions that are READ COMMITTED, which see what others have done to opened';
  END IF;
  IF TG_OP = 'TRUNCATE' THEN
    DELETE FROM opened;
  ELSE
    DELETE FROM opened o WHERE o.actor = OLD.actor AND o.patient = OLD.patient;
  END IF;
  RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION treatment_opens(shown bytea, doctor bigint, subject bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  ends timestamptz;
  last timestamptz;
BEGIN
  IF NOT treatment_clears(doctor, subject) THEN
    RETURN false;
  END IF;
  SELECT k.high INTO ends FROM treatment k
  WHERE k.clear AND k.actor = doctor AND k.patient = subject AND k.confirmed AND k.low <= now() AND k.high > now() FOR SHARE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  SELECT t.expires INTO last FROM oauth_token t WHERE t.hash = shown AND t.kind = 'A' FOR SHARE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  INSERT INTO opened (token, patient, actor, expires, until) VALUES (shown, subject, doctor, last, ends)
  ON CONFLICT (token, patient) DO UPDATE SET actor = EXCLUDED.actor, expires = EXCLUDED.expires, until = EXCLUDED.until;
  RETURN true;
END $$;
-- +goose StatementEnd
DROP TRIGGER treatment_closes ON treatment;
CREATE TRIGGER treatment_closes AFTER UPDATE OR DELETE ON treatment FOR EACH ROW WHEN (OLD.clear) EXECUTE FUNCTION treatment_closes();
ALTER TABLE treatment ENABLE ALWAYS TRIGGER treatment_closes;
