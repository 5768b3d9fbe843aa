-- A practitioner's read of one resource looked for a treatment and for Consents: two tables. Now one row of treatment says both (docs/adr/0010). It
-- takes a second or less for a million rows; writes of who treats whom wait meanwhile.
-- +goose Up

-- clear: the patient has no Consent, and of the rows of this practitioner and patient this is the one to look at. It may be false where it could
-- be true, never the other way round. It becomes true by treatment_clears alone, which Kiln calls after a read that did not find a row.
ALTER TABLE treatment ADD clear boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX treatment_clear ON treatment (actor, patient) WHERE clear;

-- +goose StatementBegin
-- Whoever writes a Consent holds this lock shared from then on until the transaction ends, whoever makes a row clear holds it alone. So
-- either sees all that the other has done. Nobody waits here but the writer of a Consent, and that for a transaction that waits for nobody.
CREATE FUNCTION treatment_clears(doctor bigint, subject bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  one treatment;
  place tid;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' OR NOT pg_try_advisory_xact_lock(7267, 0) THEN
    RETURN false;
  END IF;
  PERFORM set_config('synchronous_commit', 'off', true); -- what is lost is done again
  IF EXISTS (SELECT FROM consent_rule c WHERE c.patient = subject) THEN
    RETURN false;
  END IF;
  IF EXISTS (SELECT FROM treatment k WHERE k.clear AND k.actor = doctor AND k.patient = subject) THEN
    SELECT k.* INTO one FROM treatment k WHERE k.clear AND k.actor = doctor AND k.patient = subject FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN -- somebody is changing it
      RETURN false;
    END IF;
    IF one.confirmed AND one.low <= now() AND one.high > now() THEN
      RETURN true;
    END IF;
    UPDATE treatment k SET clear = false WHERE k.clear AND k.actor = doctor AND k.patient = subject;
  END IF;
  SELECT k.ctid INTO place FROM treatment k WHERE k.actor = doctor AND k.patient = subject AND k.confirmed AND k.low <= now() AND k.high > now()
  ORDER BY k.high DESC LIMIT 1 FOR UPDATE SKIP LOCKED;
  UPDATE treatment k SET clear = true WHERE k.ctid = place;
  RETURN FOUND;
END $$;

CREATE FUNCTION consent_unclears() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE subject bigint;
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'consent_rule is written by transactions that are READ COMMITTED, which see what others have done to treatment';
  END IF;
  PERFORM pg_advisory_xact_lock_shared(7267, 0);
  FOR subject IN SELECT DISTINCT patient FROM written ORDER BY patient LOOP
    UPDATE treatment k SET clear = false WHERE k.patient = subject AND k.clear;
  END LOOP;
  RETURN NULL;
END $$;

-- A row that comes from elsewhere, or becomes another patient's, is not clear.
CREATE FUNCTION treatment_unclear() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.clear := false;
  RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER consent_unclears AFTER INSERT ON consent_rule REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION consent_unclears();
CREATE TRIGGER consent_change_unclears AFTER UPDATE ON consent_rule REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION consent_unclears();
CREATE TRIGGER treatment_unclear BEFORE INSERT OR UPDATE OF actor, patient ON treatment FOR EACH ROW WHEN (NEW.clear) EXECUTE FUNCTION treatment_unclear();
ALTER TABLE consent_rule ENABLE ALWAYS TRIGGER consent_unclears, ENABLE ALWAYS TRIGGER consent_change_unclears;
ALTER TABLE treatment ENABLE ALWAYS TRIGGER treatment_unclear;

-- +goose Down
DROP TRIGGER consent_unclears ON consent_rule;
DROP TRIGGER consent_change_unclears ON consent_rule;
DROP TRIGGER treatment_unclear ON treatment;
DROP FUNCTION consent_unclears, treatment_clears, treatment_unclear;
ALTER TABLE treatment DROP clear;
