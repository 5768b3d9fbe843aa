-- What a caller surely sees is read by fixed statements that are told all by their arguments (storage/surely.go): saying it by settings, for
-- views, cost more than the rest of a read.
-- +goose Up
DROP VIEW visible.surely_own, visible.surely_shared, visible.surely_treated, visible.surely_context, visible.surely_permitted, visible.surely_everything;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION visible.apply_views() RETURNS void LANGUAGE plpgsql AS $f$
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

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION visible.apply_views() RETURNS void LANGUAGE plpgsql AS $f$
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
  -- For one row that is asked for by its key, what a caller surely sees: conditions that an index and the row itself decide. Where they hold
  -- so does the rule, for whom it is the way to the type (storage/surely.go). Where they do not, the views of the rule have the last word.
  labels text := 'x.labels & nullif(current_setting(''kiln.barred'', true), '''')::integer = 0';
  opened text := ' AND x.compartments && nullif(current_setting(''kiln.opened'', true), '''')::bigint[]';
  -- LIMIT keeps the planner from reading whom the caller treats at all. The index gives first what ends first.
  treated text := ' AND (SELECT k.confirmed FROM public.treatment k WHERE k.actor = nullif(current_setting(''kiln.treating'', true), '''')::bigint
    AND k.patient = x.compartments[1] AND k.confirmed AND k.low <= now() AND k.high > now() LIMIT 1)';
  permitted text := ' AND x.compartments IS NOT NULL AND (SELECT true FROM public.consent_rule c WHERE c.patient = ANY(x.compartments) LIMIT 1) IS NULL';
  surely record;
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
  FOR surely IN SELECT * FROM (VALUES
    ('own', opened),                               -- the own record
    ('shared', ' AND x.compartments = ''{}'''),    -- what belongs to nobody
    ('treated', treated || permitted),             -- whoever is in treatment
    ('context', treated || permitted || opened),   -- the same, of the patient in context
    ('permitted', permitted),                      -- everybody, where Consents bind
    ('everything', '')) s (name, condition)        -- everybody, where they do not
  LOOP
    EXECUTE 'CREATE OR REPLACE VIEW visible.surely_' || surely.name || ' AS SELECT x.* FROM public.resource x
      WHERE x.rk = nullif(current_setting(''kiln.row'', true), '''')::bigint AND ' || labels || surely.condition;
  END LOOP;
END $f$;
-- +goose StatementEnd
SELECT visible.apply_views();
GRANT SELECT ON visible.surely_own, visible.surely_shared, visible.surely_treated, visible.surely_context, visible.surely_permitted, visible.surely_everything TO kiln_access;
