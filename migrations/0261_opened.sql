-- A practitioner's read of one resource looked up the token and a row of treatment. Now one row says both (docs/adr/0010). It takes no time.
-- +goose Up

-- Patients whose records a token opens to the practitioner who has it: the token is there and ends at expires, and a row of treatment that is
-- clear lasts until then. treatment_opens alone writes it, which Kiln calls after a read that did not find a row, and whatever changes the token
-- or that row of treatment deletes it. So a row may be missing, and is never there wrongly.
CREATE TABLE opened (
  token bytea NOT NULL,
  kind "char" NOT NULL DEFAULT 'A' CHECK (kind = 'A'),
  patient bigint NOT NULL,
  actor bigint NOT NULL,
  expires timestamptz NOT NULL,
  until timestamptz NOT NULL,
  PRIMARY KEY (token, patient),
  FOREIGN KEY (token, kind) REFERENCES oauth_token (hash, kind) ON DELETE CASCADE);
CREATE INDEX opened_care ON opened (actor, patient);

-- +goose StatementBegin
-- It holds the lock of treatment_clears, the row of treatment and the token, and waits for none of them. Whoever changes one of them waits until it
-- has ended, and then sees what it has written.
CREATE FUNCTION treatment_opens(shown bytea, doctor bigint, subject bigint) RETURNS boolean LANGUAGE plpgsql AS $$
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

CREATE FUNCTION treatment_closes() RETURNS trigger LANGUAGE plpgsql AS $$
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

CREATE FUNCTION token_closes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'oauth_token is changed by transactions that are READ COMMITTED, which see what others have done to opened';
  END IF;
  DELETE FROM opened o WHERE o.token = OLD.hash;
  RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER treatment_closes AFTER UPDATE OR DELETE ON treatment FOR EACH ROW WHEN (OLD.clear) EXECUTE FUNCTION treatment_closes();
CREATE TRIGGER treatment_all_closes AFTER TRUNCATE ON treatment FOR EACH STATEMENT EXECUTE FUNCTION treatment_closes();
CREATE TRIGGER token_closes AFTER UPDATE OF hash, kind, expires ON oauth_token FOR EACH ROW EXECUTE FUNCTION token_closes();
ALTER TABLE treatment ENABLE ALWAYS TRIGGER treatment_closes, ENABLE ALWAYS TRIGGER treatment_all_closes;
ALTER TABLE oauth_token ENABLE ALWAYS TRIGGER token_closes;

-- +goose Down
DROP TRIGGER treatment_closes ON treatment;
DROP TRIGGER treatment_all_closes ON treatment;
DROP TRIGGER token_closes ON oauth_token;
DROP FUNCTION treatment_opens, treatment_closes, token_closes;
DROP TABLE opened;
