-- The rule of 0005 and 0043, in a form that costs less. It lets through what it let through before.
-- What a statement knows of the caller it finds out once, and not for each row; each row takes one look at what the caller has of
-- its type. And where a request is about some patients, whether the caller treats them and whether they have Consents is asked
-- once, before all else, and not of each row of their records.
-- +goose Up

-- Of the patient of a row there are few treatments, of a practitioner there may be thousands.
CREATE INDEX treatment_patient ON treatment (patient, actor);

-- +goose StatementBegin
-- In whose names a practitioner takes part now: the own, the roles, and their organizations.
CREATE FUNCTION visible.names() RETURNS bigint[] LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $f$
DECLARE
  self bigint[] := nullif(current_setting('kiln.actors', true), '')::bigint[];
BEGIN
  RETURN self || ARRAY(SELECT a.also FROM acting a WHERE a.practitioner = ANY(self) AND a.low <= now() AND a.high > now());
END $f$;

-- Those of some patients whom the caller treats, if self is who asks as a practitioner, and who have no Consent: nothing more is
-- to be asked of a row that belongs to them alone. The value of kiln.clear.
CREATE FUNCTION visible.clear(self bigint[], patients bigint[]) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $f$
BEGIN
  RETURN ARRAY(SELECT p.rk FROM unnest(patients) AS p(rk)
    WHERE (self IS NULL OR EXISTS (SELECT FROM treatment k WHERE k.patient = p.rk AND k.confirmed AND k.low <= now() AND k.high > now()
        AND (k.actor = ANY(self) OR EXISTS (SELECT FROM acting a WHERE a.also = k.actor AND a.practitioner = ANY(self) AND a.low <= now() AND a.high > now()))))
      AND NOT EXISTS (SELECT FROM consent_rule c WHERE c.patient = p.rk));
END $f$;

-- The following are as they were in 0005, 0043, 0070 and 0071, but that they are planned once a connection, and not at each use.
CREATE OR REPLACE FUNCTION visible.broken(compartments bigint[]) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $f$
BEGIN
  RETURN EXISTS (SELECT FROM treatment k WHERE k.actor = ANY(nullif(current_setting('kiln.actors', true), '')::bigint[])
    AND k.patient = ANY(compartments) AND k.kind = 0 AND k.low <= now() AND k.high > now());
END $f$;
CREATE OR REPLACE FUNCTION visible.narrowed(rk bigint) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $f$
DECLARE
  terms bigint[] := nullif(current_setting('kiln.terms', true), '')::bigint[];
BEGIN
  RETURN EXISTS (SELECT FROM search_index i WHERE i.rk = narrowed.rk AND (i.tokens && terms OR i.refs && terms));
END $f$;
CREATE OR REPLACE FUNCTION visible.represents(proxy bigint, patients bigint[]) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $f$
BEGIN
  RETURN EXISTS (SELECT FROM proxy p WHERE p.source = represents.proxy AND p.patient = ANY(patients) AND p.low <= now() AND p.high > now())
    AND NOT EXISTS (SELECT FROM consent_rule c WHERE c.patient = ANY(patients) AND c.deny AND c.actors @> ARRAY[represents.proxy] AND c.low <= now() AND c.high > now());
END $f$;
-- This one knows itself which labels withhold.
CREATE OR REPLACE FUNCTION visible.released(rk bigint, held integer) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $f$
BEGIN
  RETURN held & nullif(current_setting('kiln.withheld', true), '')::integer
      = (SELECT 1 << bit FROM security_label WHERE system = 'http://terminology.hl7.org/CodeSystem/v3-ActCode' AND code = 'NOPAT')
    AND NOT EXISTS (SELECT FROM withholding w WHERE w.rk = released.rk AND w.until > now());
END $f$;
CREATE OR REPLACE FUNCTION visible.withholds(patients bigint[]) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $f$
DECLARE
  ways bytea := nullif(current_setting('kiln.ways', true), '')::bytea;
  uncleared integer := ~nullif(current_setting('kiln.clearance', true), '')::integer;
BEGIN
  IF NOT visible.treats(patients) OR visible.broken(patients) THEN RETURN false; END IF;
  RETURN EXISTS (SELECT FROM search_index i WHERE i.compartments && patients AND i.labels <> 0 AND i.labels & uncleared <> 0 AND get_byte(ways, i.type) & 64 <> 0)
    OR EXISTS (SELECT FROM consent_rule c WHERE c.patient = ANY(patients) AND c.deny AND c.low <= now() AND c.high > now())
      AND EXISTS (SELECT FROM search_index i WHERE i.compartments && patients AND get_byte(ways, i.type) & 64 <> 0 AND NOT visible.consented(i.type, i.compartments, i.labels));
END $f$;

-- {x} is the row, {t} its type's number, {treated} whether the caller treats one of its patients. kiln.ways has a byte for each
-- type, at the place of its number. Two bits each say what there is of it for the caller in no compartment, from bit 0 on, in
-- those of kiln.patients, from bit 2 on, and in others, from bit 4 on: 0 nothing, 1 what belongs to somebody in treatment or to
-- the caller (kiln.actors), 2 all. Bit 6 says that 1 is one of the ways. kiln.narrow has an n for each type that granular scopes
-- narrow. What stands in (SELECT …) is worked out once a statement, and only where a row asks. CASE around it all keeps the planner
-- from guessing that nearly nothing passes, and so from sorting everything instead of reading an index in its order.
CREATE FUNCTION visible.rule(x text, t text, treated text) RETURNS text LANGUAGE sql IMMUTABLE AS $f$
SELECT replace(replace(replace($r$CASE WHEN
  CASE get_byte((SELECT nullif(current_setting('kiln.ways', true), '')::bytea), {t}) >> CASE
      WHEN {x}.compartments = '{}' THEN 0
      WHEN {x}.compartments && (SELECT nullif(current_setting('kiln.patients', true), '')::bigint[]) THEN 2
      ELSE 4 END & 3
    WHEN 2 THEN true
    WHEN 1 THEN {x}.compartments <@ (SELECT nullif(current_setting('kiln.clear', true), '')::bigint[])
      OR {treated} OR {x}.compartments && nullif(current_setting('kiln.actors', true), '')::bigint[]
    ELSE false END
  AND CASE WHEN {x}.compartments && (SELECT nullif(current_setting('kiln.record', true), '')::bigint[])
    THEN {x}.labels = 0 OR CASE {x}.labels & nullif(current_setting('kiln.withheld', true), '')::integer WHEN 0 THEN true ELSE visible.released({x}.rk, {x}.labels) END
    ELSE ({x}.labels = 0 OR {x}.labels & ~nullif(current_setting('kiln.clearance', true), '')::integer = 0)
      AND CASE (SELECT current_setting('kiln.consent', true))
        WHEN 'off' THEN true
        WHEN 'permit' THEN {x}.compartments = '{}' OR {x}.compartments <@ (SELECT nullif(current_setting('kiln.clear', true), '')::bigint[])
          OR {x}.compartments IS NOT NULL AND NOT EXISTS (SELECT FROM public.consent_rule c WHERE c.patient = ANY({x}.compartments))
          OR visible.consented({t}, {x}.compartments, {x}.labels)
        ELSE visible.consented({t}, {x}.compartments, {x}.labels) END
      OR visible.broken({x}.compartments) END
  AND (substr((SELECT current_setting('kiln.narrow', true)), {t}, 1) IS DISTINCT FROM 'n' OR visible.narrowed({x}.rk))
THEN true ELSE false END$r$, '{treated}', treated), '{x}', x), '{t}', t)
$f$;

CREATE OR REPLACE FUNCTION visible.apply_rule() RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
  -- Where many rows are looked at, and many are of others: all whom the caller treats, once, and a row is looked for among them. It
  -- belongs to one patient, as a rule.
  many text := '({x}.compartments[1] IN (SELECT t.patient FROM visible.treated t)
    OR cardinality({x}.compartments) > 1 AND visible.treats({x}.compartments))';
  -- Where few are: first in the own name, and only then, by a function, in others. That function alone is the whole answer.
  few text := '(EXISTS (SELECT FROM public.treatment k WHERE k.actor = ANY(nullif(current_setting(''kiln.actors'', true), '''')::bigint[])
      AND k.patient = ANY({x}.compartments) AND k.confirmed AND k.low <= now() AND k.high > now()) OR visible.treats({x}.compartments))';
BEGIN
  -- The patients that the caller treats now.
  CREATE OR REPLACE VIEW visible.treated AS SELECT k.patient FROM public.treatment k
    WHERE k.actor = ANY((SELECT visible.names())::bigint[]) AND k.confirmed AND k.low <= now() AND k.high > now();
  EXECUTE 'CREATE OR REPLACE VIEW visible.search_index AS SELECT x.* FROM public.search_index x WHERE ' || visible.rule('x', 'x.type', many);
  EXECUTE 'CREATE OR REPLACE VIEW visible.resource AS SELECT x.* FROM public.resource x WHERE ' || visible.rule('x', 'x.type_number', few);
  -- An old version is visible to whom the version itself and the resource as it is now are.
  EXECUTE 'CREATE OR REPLACE VIEW visible.resource_history AS SELECT x.* FROM public.resource_history x WHERE ' || visible.rule('x', 'x.type_number', few)
    || ' AND EXISTS (SELECT FROM visible.resource r WHERE r.rk = x.rk)';
  EXECUTE 'CREATE OR REPLACE VIEW visible.resource_change AS SELECT x.seq, x.last_updated, x.type, x.rk, x.version, x.compartments, x.labels FROM public.resource_change x WHERE ' || visible.rule('x', 'x.type', many)
    || ' AND EXISTS (SELECT FROM visible.resource r WHERE r.rk = x.rk)';
END $f$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION visible.names(), visible.clear(bigint[], bigint[]), visible.rule(text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION visible.names(), visible.clear(bigint[], bigint[]) TO kiln_access;
SELECT visible.apply_rule();
DROP FUNCTION visible.apply_reads(), visible.rule(text, text, text, text, text), visible.actors();

-- +goose Down
-- +goose StatementBegin
CREATE FUNCTION visible.actors() RETURNS text LANGUAGE sql IMMUTABLE AS $f$
SELECT $r$ARRAY(SELECT unnest(nullif(current_setting('kiln.actors', true), '')::bigint[])
  UNION ALL SELECT a.also FROM public.acting a WHERE a.practitioner = ANY(nullif(current_setting('kiln.actors', true), '')::bigint[])
    AND a.low <= now() AND a.high > now())$r$
$f$;
CREATE OR REPLACE FUNCTION visible.broken(compartments bigint[]) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $f$
  SELECT EXISTS (SELECT FROM treatment k WHERE k.actor = ANY(nullif(current_setting('kiln.actors', true), '')::bigint[])
    AND k.patient = ANY(compartments) AND k.kind = 0 AND k.low <= now() AND k.high > now())
$f$;
CREATE OR REPLACE FUNCTION visible.narrowed(rk bigint) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $f$
  SELECT EXISTS (SELECT FROM search_index i WHERE i.rk = narrowed.rk
    AND (i.tokens && nullif(current_setting('kiln.terms', true), '')::bigint[] OR i.refs && nullif(current_setting('kiln.terms', true), '')::bigint[]))
$f$;
CREATE OR REPLACE FUNCTION visible.represents(proxy bigint, patients bigint[]) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $f$
  SELECT EXISTS (SELECT FROM proxy p WHERE p.source = represents.proxy AND p.patient = ANY(patients) AND p.low <= now() AND p.high > now())
    AND NOT EXISTS (SELECT FROM consent_rule c WHERE c.patient = ANY(patients) AND c.deny AND c.actors @> ARRAY[represents.proxy] AND c.low <= now() AND c.high > now())
$f$;
CREATE OR REPLACE FUNCTION visible.released(rk bigint, held integer) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $f$
  SELECT held = (SELECT 1 << bit FROM security_label WHERE system = 'http://terminology.hl7.org/CodeSystem/v3-ActCode' AND code = 'NOPAT')
    AND NOT EXISTS (SELECT FROM withholding w WHERE w.rk = released.rk AND w.until > now())
$f$;
CREATE OR REPLACE FUNCTION visible.withholds(patients bigint[]) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $f$
DECLARE
  care text := current_setting('kiln.care', true);
  uncleared integer := ~nullif(current_setting('kiln.clearance', true), '')::integer;
BEGIN
  IF NOT visible.treats(patients) OR visible.broken(patients) THEN RETURN false; END IF;
  RETURN EXISTS (SELECT FROM search_index i WHERE i.compartments && patients AND i.labels <> 0 AND i.labels & uncleared <> 0 AND substr(care, i.type, 1) IN ('t', 'c'))
    OR EXISTS (SELECT FROM consent_rule c WHERE c.patient = ANY(patients) AND c.deny AND c.low <= now() AND c.high > now())
      AND EXISTS (SELECT FROM search_index i WHERE i.compartments && patients AND substr(care, i.type, 1) IN ('t', 'c') AND NOT visible.consented(i.type, i.compartments, i.labels));
END $f$;
CREATE FUNCTION visible.rule(x text, t text, treated text, patients text, consents text) RETURNS text LANGUAGE sql IMMUTABLE AS $f$
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
CREATE FUNCTION visible.apply_reads() RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
  treated text := '(EXISTS (SELECT FROM public.treatment k WHERE k.actor = ANY(nullif(current_setting(''kiln.actors'', true), '''')::bigint[])
      AND k.patient = ANY({x}.compartments) AND k.confirmed AND k.low <= now() AND k.high > now()) OR visible.treats({x}.compartments))';
  patients text := 'nullif(current_setting(''kiln.patients'', true), '''')::bigint[]';
  consents text := 'EXISTS (SELECT FROM public.consent_rule c WHERE c.patient = ANY({x}.compartments))';
BEGIN
  EXECUTE 'CREATE OR REPLACE VIEW visible.resource AS SELECT x.* FROM public.resource x WHERE ' || visible.rule('x', 'x.type_number', treated, patients, consents);
  EXECUTE 'CREATE OR REPLACE VIEW visible.resource_history AS SELECT x.* FROM public.resource_history x WHERE ' || visible.rule('x', 'x.type_number', treated, patients, consents)
    || ' AND EXISTS (SELECT FROM visible.resource r WHERE r.rk = x.rk)';
END $f$;
CREATE OR REPLACE FUNCTION visible.apply_rule() RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
  treated text := 'EXISTS (SELECT FROM public.treatment k WHERE k.actor = ANY(' || visible.actors() || ') AND k.patient = ANY({x}.compartments)
      AND k.confirmed AND k.low <= now() AND k.high > now())';
  patients text := '(SELECT nullif(current_setting(''kiln.patients'', true), '''')::bigint[])';
  consents text := 'EXISTS (SELECT FROM public.consent_rule c WHERE c.patient = ANY({x}.compartments))';
BEGIN
  EXECUTE 'CREATE OR REPLACE VIEW visible.search_index AS SELECT x.* FROM public.search_index x WHERE ' || visible.rule('x', 'x.type', treated, patients, consents);
  PERFORM visible.apply_reads();
  EXECUTE 'CREATE OR REPLACE VIEW visible.resource_change AS SELECT x.seq, x.last_updated, x.type, x.rk, x.version, x.compartments, x.labels FROM public.resource_change x WHERE ' || visible.rule('x', 'x.type', treated, patients, consents)
    || ' AND EXISTS (SELECT FROM visible.resource r WHERE r.rk = x.rk)';
END $f$;
DO $$
BEGIN
  EXECUTE 'CREATE OR REPLACE VIEW visible.treated AS SELECT k.patient FROM public.treatment k WHERE k.actor = ANY(' || visible.actors()
    || ') AND k.confirmed AND k.low <= now() AND k.high > now()';
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION visible.apply_reads(), visible.actors(), visible.rule(text, text, text, text, text) FROM PUBLIC;
SELECT visible.apply_rule();
DROP FUNCTION visible.names(), visible.clear(bigint[], bigint[]), visible.rule(text, text, text);
DROP INDEX treatment_patient;
