-- Who acts for a patient: a RelatedPerson that stands for an account. Patients manage their own Consents, and those who look
-- after Consents see them, whatever they deny.
-- +goose Up

-- One row for each RelatedPerson that is active, written with it: whom it may act for, and when.
CREATE TABLE proxy (
  source bigint PRIMARY KEY,
  patient bigint NOT NULL,
  low timestamptz NOT NULL, high timestamptz NOT NULL);

-- Those that are there already. One with a period counts after its next write or a $reindex of all.
INSERT INTO proxy SELECT rk, compartments[1], '-infinity', 'infinity' FROM resource
WHERE type = 'RelatedPerson' AND content IS NOT NULL AND cardinality(compartments) = 1 AND content ->> 'active' IS DISTINCT FROM 'false' AND content -> 'period' IS NULL;

-- Roles that are out of use lead nowhere.
DELETE FROM acting a USING resource r WHERE r.rk = a.source AND r.type = 'PractitionerRole' AND r.content ->> 'active' = 'false';

-- Whether a RelatedPerson acts for one of some patients (rows keys of one person) now. A Consent that denies something to it by
-- name ends that.
-- +goose StatementBegin
CREATE FUNCTION visible.represents(proxy bigint, patients bigint[]) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $f$
  SELECT EXISTS (SELECT FROM proxy p WHERE p.source = represents.proxy AND p.patient = ANY(patients) AND p.low <= now() AND p.high > now())
    AND NOT EXISTS (SELECT FROM consent_rule c WHERE c.patient = ANY(patients) AND c.deny AND c.actors @> ARRAY[represents.proxy] AND c.low <= now() AND c.high > now())
$f$;
-- As in 0030; and a Consent does not hide Consents from those who look after all of them: kiln.policy is the number of the type
-- Consent for them.
CREATE OR REPLACE FUNCTION visible.consented(t smallint, compartments bigint[], labels integer) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = public AS $f$
DECLARE
  mode text := current_setting('kiln.consent', true);
  purpose text := current_setting('kiln.purpose', true);
  who bigint[];
BEGIN
  IF mode = 'off' OR t = nullif(current_setting('kiln.log', true), '')::smallint OR t = nullif(current_setting('kiln.policy', true), '')::smallint THEN
    RETURN true;
  END IF;
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
REVOKE ALL ON FUNCTION visible.represents(bigint, bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION visible.represents(bigint, bigint[]) TO kiln_access;

INSERT INTO role_policy (role, types, actions, reach, note) VALUES
  ('patient', '{Consent}', 'cu', 'own', 'who may see the own record');

-- A parent who is no patient has the role of one all the same, through a RelatedPerson.
ALTER TABLE account DROP CONSTRAINT account_patient_is_linked;
ALTER TABLE account ADD CONSTRAINT account_patient_is_linked
  CHECK (NOT 'patient' = ANY (roles) OR array_to_string(fhir_user, ' ') ~ '(^| )(Patient|RelatedPerson)/');
-- Which of the account's links the user acts through; NULL: none was chosen.
ALTER TABLE oauth_request ADD link text;

-- +goose Down
ALTER TABLE oauth_request DROP link;
ALTER TABLE account DROP CONSTRAINT account_patient_is_linked;
ALTER TABLE account ADD CONSTRAINT account_patient_is_linked CHECK (NOT 'patient' = ANY (roles) OR array_to_string(fhir_user, ' ') ~ '(^| )Patient/');
DELETE FROM role_policy WHERE role = 'patient' AND types = '{Consent}';
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
DROP FUNCTION visible.represents(bigint, bigint[]);
DROP TABLE proxy;
