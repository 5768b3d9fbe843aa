-- Who treats very many patients paid for all of them in each statement, a page of 20 rows included: all were read to look for rows among them.
-- Now a statement that looks at few rows says so, and each is looked for in the index of treatments.
-- +goose Up
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
  -- belongs to one patient, as a rule. Where more are treated than rows are looked at, kiln.each has each row looked for by itself: it
  -- says nothing of what is visible, and both answers are the same.
  many jsonb := views || jsonb_build_object('treated', '(CASE (SELECT current_setting(''kiln.each'', true)) WHEN ''on''
      THEN (SELECT true FROM public.treatment k WHERE k.actor = ANY((SELECT visible.names())::bigint[]) AND k.patient = {x}.compartments[1]
        AND k.confirmed AND k.low <= now() AND k.high > now() LIMIT 1)
      ELSE {x}.compartments[1] IN (SELECT t.patient FROM visible.treated t) END
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
END  $f$;
-- +goose StatementEnd
SELECT visible.apply_views();

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
END  $f$;
-- +goose StatementEnd
SELECT visible.apply_views();
