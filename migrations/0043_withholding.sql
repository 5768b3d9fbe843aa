-- Results that are not final, and what is withheld for a time, are not for the patient whom they are about. Both are labels
-- that bind the patient too: the server sets the one ("unreleased", from status and performer), and whoever writes the record
-- the other (NOPAT in meta.security, with a reason and an end).
-- +goose Up

-- withholds: the label keeps a record from its own patient, unless the role patient is cleared for it.
ALTER TABLE security_label ADD withholds boolean NOT NULL DEFAULT false;
INSERT INTO security_label (bit, system, code, cleared, withholds) VALUES
  (8, 'http://terminology.hl7.org/CodeSystem/v3-ActCode', 'NOPAT', '{practitioner,admin,system}', true),
  (9, 'https://kiln.example/fhir/CodeSystem/label', 'unreleased', '{practitioner,admin,system}', true);

-- Until when records labelled NOPAT are withheld; written with the resource.
CREATE TABLE withholding (
  rk bigint PRIMARY KEY,
  until timestamptz NOT NULL);

-- Whether nothing withholds a record any more. held are the labels that do.
-- +goose StatementBegin
CREATE FUNCTION visible.released(rk bigint, held integer) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $f$
  SELECT held = (SELECT 1 << bit FROM security_label WHERE system = 'http://terminology.hl7.org/CodeSystem/v3-ActCode' AND code = 'NOPAT')
    AND NOT EXISTS (SELECT FROM withholding w WHERE w.rk = released.rk AND w.until > now())
$f$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION visible.released(bigint, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION visible.released(bigint, integer) TO kiln_access;

-- The rule of 0005, with one condition more: the own record is seen but for what is withheld. Everybody else is cleared for
-- those labels, or not, as for all labels.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION visible.rule(x text, t text, treated text, patients text, consents text) RETURNS text LANGUAGE sql IMMUTABLE AS $f$
SELECT replace(replace(replace(replace(replace($r$CASE WHEN (
  CASE substr(current_setting('kiln.plain', true), {t}, 1)
    WHEN 'a' THEN true
    WHEN 's' THEN {x}.compartments = '{}'
    WHEN 'o' THEN {x}.compartments && {patients}
    WHEN 'p' THEN {x}.compartments = '{}' OR {x}.compartments && {patients}
    ELSE false END
  OR CASE substr(current_setting('kiln.care', true), {t}, 1)
    WHEN 't' THEN true
    WHEN 'c' THEN {x}.compartments && {patients}
    ELSE false END
  AND ({treated} OR {x}.compartments && nullif(current_setting('kiln.self', true), '')::bigint[]))
  AND (CASE WHEN {x}.compartments && nullif(current_setting('kiln.record', true), '')::bigint[]
    THEN {x}.labels & nullif(current_setting('kiln.withheld', true), '')::integer = 0
      OR visible.released({x}.rk, {x}.labels & nullif(current_setting('kiln.withheld', true), '')::integer)
    ELSE ({x}.labels = 0 OR {x}.labels & ~nullif(current_setting('kiln.clearance', true), '')::integer = 0)
      AND CASE current_setting('kiln.consent', true)
        WHEN 'off' THEN true
        WHEN 'permit' THEN {x}.compartments = '{}' OR {x}.compartments IS NOT NULL AND NOT {consents} OR visible.consented({t}, {x}.compartments, {x}.labels)
        ELSE visible.consented({t}, {x}.compartments, {x}.labels) END
    OR visible.broken({x}.compartments) END)
  AND (substr(current_setting('kiln.narrow', true), {t}, 1) IS DISTINCT FROM 'n' OR visible.narrowed({x}.rk))
THEN true ELSE false END$r$,
  '{treated}', treated), '{patients}', patients), '{consents}', consents), '{x}', x), '{t}', t)
$f$;
CREATE FUNCTION visible.apply_rule() RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
  many text[] := ARRAY['EXISTS (SELECT FROM public.treatment k WHERE k.actor = ANY(' || visible.actors() || ') AND k.patient = ANY({x}.compartments)
      AND k.confirmed AND k.low <= now() AND k.high > now())',
    '(SELECT nullif(current_setting(''kiln.patients'', true), '''')::bigint[])',
    'EXISTS (SELECT FROM public.consent_rule c WHERE c.patient = ANY({x}.compartments))'];
  few text[] := ARRAY['visible.treats({x}.compartments)', 'nullif(current_setting(''kiln.patients'', true), '''')::bigint[]', 'visible.has_consents({x}.compartments)'];
BEGIN
  EXECUTE 'CREATE OR REPLACE VIEW visible.search_index AS SELECT x.* FROM public.search_index x WHERE ' || visible.rule('x', 'x.type', many[1], many[2], many[3]);
  EXECUTE 'CREATE OR REPLACE VIEW visible.resource AS SELECT x.* FROM public.resource x WHERE ' || visible.rule('x', 'x.type_number', few[1], few[2], few[3]);
  EXECUTE 'CREATE OR REPLACE VIEW visible.resource_history AS SELECT x.* FROM public.resource_history x WHERE ' || visible.rule('x', 'x.type_number', few[1], few[2], few[3])
    || ' AND EXISTS (SELECT FROM visible.resource r WHERE r.rk = x.rk)';
  EXECUTE 'CREATE OR REPLACE VIEW visible.resource_change AS SELECT x.* FROM public.resource_change x WHERE ' || visible.rule('x', 'x.type', many[1], many[2], many[3])
    || ' AND EXISTS (SELECT FROM visible.resource r WHERE r.rk = x.rk)';
END $f$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION visible.apply_rule() FROM PUBLIC;
SELECT visible.apply_rule();

-- What is stored already: reads all Observations and DiagnosticReports once. Performers that are the patient are left to the
-- next write or $reindex of all; until then such a report of the patient's own, if it is preliminary, is hidden.
ALTER TABLE resource_history DISABLE TRIGGER resource_history_append_only;
UPDATE resource SET labels = labels | 512 WHERE type IN ('Observation', 'DiagnosticReport') AND content ->> 'status' IN ('registered', 'partial', 'preliminary');
UPDATE resource_history SET labels = labels | 512
WHERE rk IN (SELECT rk FROM resource WHERE type IN ('Observation', 'DiagnosticReport')) AND content ->> 'status' IN ('registered', 'partial', 'preliminary');
ALTER TABLE resource_history ENABLE TRIGGER resource_history_append_only;
UPDATE search_index i SET labels = r.labels FROM resource r WHERE r.rk = i.rk AND r.labels & 512 <> 0;
ALTER TABLE resource_change DISABLE TRIGGER resource_change_append_only;
UPDATE resource_change c SET labels = v.labels
FROM (SELECT rk, version, labels FROM resource UNION ALL SELECT rk, version, labels FROM resource_history) v
WHERE v.rk = c.rk AND v.version = c.version AND v.labels & 512 <> 0;
ALTER TABLE resource_change ENABLE TRIGGER resource_change_append_only;

-- +goose Down
DROP FUNCTION visible.apply_rule();
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION visible.rule(x text, t text, treated text, patients text, consents text) RETURNS text LANGUAGE sql IMMUTABLE AS $f$
SELECT replace(replace(replace(replace(replace($r$CASE WHEN (
  CASE substr(current_setting('kiln.plain', true), {t}, 1)
    WHEN 'a' THEN true
    WHEN 's' THEN {x}.compartments = '{}'
    WHEN 'o' THEN {x}.compartments && {patients}
    WHEN 'p' THEN {x}.compartments = '{}' OR {x}.compartments && {patients}
    ELSE false END
  OR CASE substr(current_setting('kiln.care', true), {t}, 1)
    WHEN 't' THEN true
    WHEN 'c' THEN {x}.compartments && {patients}
    ELSE false END
  AND ({treated} OR {x}.compartments && nullif(current_setting('kiln.self', true), '')::bigint[]))
  AND ({x}.compartments && nullif(current_setting('kiln.record', true), '')::bigint[]
    OR ({x}.labels = 0 OR {x}.labels & ~nullif(current_setting('kiln.clearance', true), '')::integer = 0)
      AND CASE current_setting('kiln.consent', true)
        WHEN 'off' THEN true
        WHEN 'permit' THEN {x}.compartments = '{}' OR {x}.compartments IS NOT NULL AND NOT {consents} OR visible.consented({t}, {x}.compartments, {x}.labels)
        ELSE visible.consented({t}, {x}.compartments, {x}.labels) END
    OR visible.broken({x}.compartments))
  AND (substr(current_setting('kiln.narrow', true), {t}, 1) IS DISTINCT FROM 'n' OR visible.narrowed({x}.rk))
THEN true ELSE false END$r$,
  '{treated}', treated), '{patients}', patients), '{consents}', consents), '{x}', x), '{t}', t)
$f$;

DO $$
DECLARE
  many text[] := ARRAY['EXISTS (SELECT FROM public.treatment k WHERE k.actor = ANY(' || visible.actors() || ') AND k.patient = ANY({x}.compartments)
      AND k.confirmed AND k.low <= now() AND k.high > now())',
    '(SELECT nullif(current_setting(''kiln.patients'', true), '''')::bigint[])',
    'EXISTS (SELECT FROM public.consent_rule c WHERE c.patient = ANY({x}.compartments))'];
  few text[] := ARRAY['visible.treats({x}.compartments)', 'nullif(current_setting(''kiln.patients'', true), '''')::bigint[]', 'visible.has_consents({x}.compartments)'];
BEGIN
  EXECUTE 'CREATE OR REPLACE VIEW visible.search_index AS SELECT x.* FROM public.search_index x WHERE ' || visible.rule('x', 'x.type', many[1], many[2], many[3]);
  EXECUTE 'CREATE OR REPLACE VIEW visible.resource AS SELECT x.* FROM public.resource x WHERE ' || visible.rule('x', 'x.type_number', few[1], few[2], few[3]);
  EXECUTE 'CREATE OR REPLACE VIEW visible.resource_history AS SELECT x.* FROM public.resource_history x WHERE ' || visible.rule('x', 'x.type_number', few[1], few[2], few[3])
    || ' AND EXISTS (SELECT FROM visible.resource r WHERE r.rk = x.rk)';
  EXECUTE 'CREATE OR REPLACE VIEW visible.resource_change AS SELECT x.* FROM public.resource_change x WHERE ' || visible.rule('x', 'x.type', many[1], many[2], many[3])
    || ' AND EXISTS (SELECT FROM visible.resource r WHERE r.rk = x.rk)';
END $$;
-- +goose StatementEnd
DROP FUNCTION visible.released(bigint, integer);
DROP TABLE withholding;
DELETE FROM security_label WHERE withholds;
ALTER TABLE security_label DROP withholds;
