-- A read of one resource by a user, in one function that keeps its plans: the views' subqueries are made ready whether a row asks or
-- not, and what is said by settings is written and read as text, which cost more than the read itself. The rule stays written once: the
-- views and this function are made of the same text.
-- +goose Up

-- +goose StatementBegin
-- The rule. {x} is the row, {t} its type's number; the other names in braces are what answers says: what the caller has (ways, narrow,
-- patients, record, clear, actors, withheld, clearance, consent) and what is to be found out (treated, consents, released, consented, broken,
-- narrowed). Where nothing of the latter is found out and stands as false, as little passes as then can: none of them is negated, but
-- consents. ways has a byte for each type, at the place of its number. Two bits each say what there is of it for the caller in no compartment,
-- from bit 0 on, in those of patients, from bit 2 on, and in others, from bit 4 on: 0 nothing, 1 what belongs to somebody in treatment or to
-- the caller (actors), 2 all. Bit 6 says that 1 is one of the ways. narrow has an n for each type that granular scopes
-- narrow. CASE around it all keeps the planner from guessing that nearly nothing passes, and so from sorting everything instead of reading an
-- index in its order.
CREATE FUNCTION visible.rule(x text, t text, answers jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $f$
DECLARE
  r text := $r$CASE WHEN
  CASE get_byte({ways}, {t}) >> CASE
      WHEN {x}.compartments = '{}' THEN 0
      WHEN {x}.compartments && {patients} THEN 2
      ELSE 4 END & 3
    WHEN 2 THEN true
    WHEN 1 THEN {x}.compartments <@ {clear}
      OR {treated} OR {x}.compartments && {actors}
    ELSE false END
  AND CASE WHEN {x}.compartments && {record}
    THEN {x}.labels = 0 OR CASE {x}.labels & {withheld} WHEN 0 THEN true ELSE {released} END
    ELSE ({x}.labels = 0 OR {x}.labels & ~{clearance} = 0)
      AND CASE {consent}
        WHEN 'off' THEN true
        WHEN 'permit' THEN {x}.compartments = '{}' OR {x}.compartments <@ {clear}
          OR {x}.compartments IS NOT NULL AND NOT {consents}
          OR {consented}
        ELSE {consented} END
      OR {broken} END
  AND (substr({narrow}, {t}, 1) IS DISTINCT FROM 'n' OR {narrowed})
THEN true ELSE false END$r$;
  answer record;
BEGIN
  FOR answer IN SELECT key, value FROM jsonb_each_text(answers) LOOP
    r := replace(r, '{' || answer.key || '}', answer.value);
  END LOOP;
  RETURN replace(replace(r, '{x}', x), '{t}', t);
END $f$;

CREATE OR REPLACE FUNCTION visible.apply_rule() RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
  -- For views. What stands in (SELECT …) is worked out once a statement, and only where a row asks.
  views jsonb := jsonb_build_object(
    'ways', '(SELECT nullif(current_setting(''kiln.ways'', true), '''')::bytea)',
    'patients', '(SELECT nullif(current_setting(''kiln.patients'', true), '''')::bigint[])',
    'record', '(SELECT nullif(current_setting(''kiln.record'', true), '''')::bigint[])',
    'clear', '(SELECT nullif(current_setting(''kiln.clear'', true), '''')::bigint[])',
    'consent', '(SELECT current_setting(''kiln.consent'', true))',
    'narrow', '(SELECT current_setting(''kiln.narrow'', true))',
    'actors', 'nullif(current_setting(''kiln.actors'', true), '''')::bigint[]',
    'withheld', 'nullif(current_setting(''kiln.withheld'', true), '''')::integer',
    'clearance', 'nullif(current_setting(''kiln.clearance'', true), '''')::integer',
    'consents', 'EXISTS (SELECT FROM public.consent_rule c WHERE c.patient = ANY({x}.compartments))',
    'released', 'visible.released({x}.rk, {x}.labels)',
    'consented', 'visible.consented({t}, {x}.compartments, {x}.labels)',
    'broken', 'visible.broken({x}.compartments)',
    'narrowed', 'visible.narrowed({x}.rk)');
  -- Where many rows are looked at, and many are of others: all whom the caller treats, once, and a row is looked for among them. It
  -- belongs to one patient, as a rule.
  many jsonb := views || jsonb_build_object('treated', '({x}.compartments[1] IN (SELECT t.patient FROM visible.treated t)
    OR cardinality({x}.compartments) > 1 AND visible.treats({x}.compartments))');
  -- Where few are: first in the own name, and only then, by a function, in others. That function alone is the whole answer.
  few jsonb := views || jsonb_build_object('treated', '(EXISTS (SELECT FROM public.treatment k WHERE k.actor = ANY(nullif(current_setting(''kiln.actors'', true), '''')::bigint[])
      AND k.patient = ANY({x}.compartments) AND k.confirmed AND k.low <= now() AND k.high > now()) OR visible.treats({x}.compartments))');
  -- For one row: what the caller has comes as it is, and what takes more than one look is not found out.
  one jsonb := jsonb_build_object('ways', 'ways', 'patients', 'patients', 'record', 'record', 'actors', 'actors', 'withheld', 'withheld',
    'clearance', 'clearance', 'consent', 'consent', 'clear', 'NULL::bigint[]', 'narrow', 'NULL::text', 'treated', 'treated', 'consents', 'consents',
    'released', 'false', 'consented', 'false', 'broken', 'false', 'narrowed', 'false');
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
  -- One resource, where the access token holds and the rule lets it through as far as it is found out here. NULL says nothing: then
  -- the views are asked. Values of settings come as arguments. Granular scopes are no matter of it: who has some goes to the views.
  EXECUTE format($d$
CREATE OR REPLACE FUNCTION visible.resource_read(token bytea, moment timestamptz, ways bytea, patients bigint[], record bigint[], actors bigint[],
  withheld integer, clearance integer, consent text, key bigint, typ text, name text) RETURNS public.resource LANGUAGE plpgsql STABLE SECURITY DEFINER AS $b$
DECLARE
  x public.resource;
  treated boolean;
  consents boolean;
BEGIN
  SELECT r.* INTO x FROM public.resource r WHERE r.rk = key AND r.type = typ AND r.id = name
    AND EXISTS (SELECT FROM public.oauth_token o WHERE o.hash = token AND o.kind = 'A' AND o.expires > moment);
  IF x.compartments <> '{}' AND (x.compartments && record) IS NOT TRUE THEN
    SELECT EXISTS (SELECT FROM public.treatment k WHERE k.actor = ANY(actors) AND k.patient = ANY(x.compartments)
        AND k.confirmed AND k.low <= now() AND k.high > now()),
      EXISTS (SELECT FROM public.consent_rule c WHERE c.patient = ANY(x.compartments)) INTO treated, consents;
  END IF;
  IF (%s) THEN RETURN x; END IF;
  RETURN NULL;
END $b$ $d$, visible.rule('x', 'x.type_number', one));
END $f$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION visible.rule(text, text, jsonb) FROM PUBLIC;
SELECT visible.apply_rule();
REVOKE ALL ON FUNCTION visible.resource_read(bytea, timestamptz, bytea, bigint[], bigint[], bigint[], integer, integer, text, bigint, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION visible.resource_read(bytea, timestamptz, bytea, bigint[], bigint[], bigint[], integer, integer, text, bigint, text, text) TO kiln_access;
DROP FUNCTION visible.rule(text, text, text);

-- +goose Down
DROP FUNCTION visible.resource_read(bytea, timestamptz, bytea, bigint[], bigint[], bigint[], integer, integer, text, bigint, text, text);
-- +goose StatementBegin
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
REVOKE ALL ON FUNCTION visible.rule(text, text, text) FROM PUBLIC;
SELECT visible.apply_rule();
DROP FUNCTION visible.rule(text, text, jsonb);
