-- Reads of practitioners: whether they treat the patient and whether the patient has a Consent is looked up within the
-- statement. A function for that costs more, in a statement that finds one row, than the rest of the rule does.
-- +goose Up

-- The views that are read row by row. First whether the caller treats the patient in the own name, and only then, by a
-- function, whether in another. That function alone is the whole answer; what stands before it spares the call.
-- +goose StatementBegin
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
  EXECUTE 'CREATE OR REPLACE VIEW visible.resource_change AS SELECT x.* FROM public.resource_change x WHERE ' || visible.rule('x', 'x.type', treated, patients, consents)
    || ' AND EXISTS (SELECT FROM visible.resource r WHERE r.rk = x.rk)';
END $f$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION visible.apply_reads() FROM PUBLIC;
SELECT visible.apply_reads();

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION visible.apply_reads() RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
  few text[] := ARRAY['visible.treats({x}.compartments)', 'nullif(current_setting(''kiln.patients'', true), '''')::bigint[]', 'visible.has_consents({x}.compartments)'];
BEGIN
  EXECUTE 'CREATE OR REPLACE VIEW visible.resource AS SELECT x.* FROM public.resource x WHERE ' || visible.rule('x', 'x.type_number', few[1], few[2], few[3]);
  EXECUTE 'CREATE OR REPLACE VIEW visible.resource_history AS SELECT x.* FROM public.resource_history x WHERE ' || visible.rule('x', 'x.type_number', few[1], few[2], few[3])
    || ' AND EXISTS (SELECT FROM visible.resource r WHERE r.rk = x.rk)';
END $f$;
CREATE OR REPLACE FUNCTION visible.apply_rule() RETURNS void LANGUAGE plpgsql AS $f$
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
SELECT visible.apply_reads();
DROP FUNCTION visible.apply_reads();
