-- Searches of few patients' records by a user: a row that lies in their records alone is told by a look at the row itself, once it is known
-- of these patients that the rule asks no more of them (visible.clear). For any other row the whole rule is asked, in a function, which costs
-- nothing where it is not called: making ready the expressions of the rule, in each view of a statement, cost as much as the search.
-- +goose Up

ALTER FUNCTION visible.apply_rule() RENAME TO apply_views;
-- +goose StatementBegin
-- Views of the same name but about_, for statements that look at few rows beyond the records of some patients. kiln.clear are those whose
-- rows need nothing more, or kiln.open, the record that the caller opens. kiln.plain has a byte for each type, at the place of its number: 1
-- where what lies in these records is visible to the caller as far as its labels (kiln.barred) let, 2 where what belongs to nobody is. They
-- let through what the rule lets through, in the order in which it costs least to find out; storage/about.go tells for whom.
CREATE FUNCTION visible.apply_about() RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
  -- For a function: what the caller has is read where a row needs it.
  one jsonb := jsonb_build_object(
    'ways', 'nullif(current_setting(''kiln.ways'', true), '''')::bytea',
    'patients', 'nullif(current_setting(''kiln.patients'', true), '''')::bigint[]',
    'record', 'nullif(current_setting(''kiln.record'', true), '''')::bigint[]',
    'clear', 'nullif(current_setting(''kiln.clear'', true), '''')::bigint[]',
    'consent', 'current_setting(''kiln.consent'', true)',
    'narrow', 'current_setting(''kiln.narrow'', true)',
    'actors', 'nullif(current_setting(''kiln.actors'', true), '''')::bigint[]',
    'withheld', 'nullif(current_setting(''kiln.withheld'', true), '''')::integer',
    'clearance', 'nullif(current_setting(''kiln.clearance'', true), '''')::integer',
    'treated', 'visible.treats({x}.compartments)',
    'consents', 'EXISTS (SELECT FROM public.consent_rule c WHERE c.patient = ANY({x}.compartments))',
    'released', 'visible.released({x}.rk, {x}.labels)',
    'consented', 'visible.consented({t}, {x}.compartments, {x}.labels)',
    'broken', 'visible.broken({x}.compartments)',
    'narrowed', 'visible.narrowed({x}.rk)');
  shown text := $r$CASE
    WHEN x.compartments <@ (SELECT nullif(coalesce(nullif(current_setting('kiln.open', true), ''), current_setting('kiln.clear', true)), '')::bigint[])
      AND get_byte((SELECT nullif(current_setting('kiln.plain', true), '')::bytea), {t}) & CASE WHEN x.compartments = '{}' THEN 2 ELSE 1 END <> 0
      AND (x.labels = 0 OR x.compartments <> '{}' AND x.labels & nullif(current_setting('kiln.barred', true), '')::integer = 0)
    THEN true
    ELSE visible.shows(x.rk, {t}, x.compartments, x.labels) END$r$;
BEGIN
  EXECUTE format($d$CREATE OR REPLACE FUNCTION visible.shows(rk bigint, type smallint, compartments bigint[], labels integer) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER AS $b$
BEGIN
  RETURN %s;
END $b$ $d$, visible.rule('shows', 'shows.type', one));
  EXECUTE 'CREATE OR REPLACE VIEW visible.about_index AS SELECT x.* FROM public.search_index x WHERE ' || replace(shown, '{t}', 'x.type');
  EXECUTE 'CREATE OR REPLACE VIEW visible.about_resource AS SELECT x.* FROM public.resource x WHERE ' || replace(shown, '{t}', 'x.type_number');
  -- What patients have with a code, by date: the codes with what has them, so that each row is looked at once.
  EXECUTE 'CREATE OR REPLACE VIEW visible.about_code AS SELECT s.term, s.patient, s.date_low, r.* FROM public.search_code s JOIN visible.about_resource r USING (rk)';
END $f$;
CREATE FUNCTION visible.apply_rule() RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
  PERFORM visible.apply_views();
  PERFORM visible.apply_about();
END $f$;
-- +goose StatementEnd
SELECT visible.apply_about();
REVOKE ALL ON FUNCTION visible.apply_rule(), visible.apply_about(), visible.shows(bigint, smallint, bigint[], integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION visible.shows(bigint, smallint, bigint[], integer) TO kiln_access;
GRANT SELECT ON visible.about_index, visible.about_resource, visible.about_code TO kiln_access;

-- Those of some patients whom the caller treats, if self is who asks as a practitioner, and who have no Consent, as in 0081. Each is looked for
-- in the index of whom the caller treats: as one statement it read the treatments by everybody.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION visible.clear(self bigint[], patients bigint[]) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $f$
DECLARE
  one bigint;
  clear bigint[] := '{}';
BEGIN
  FOREACH one IN ARRAY coalesce(patients, '{}') LOOP
    IF (self IS NULL
        OR (SELECT true FROM treatment k WHERE k.actor = ANY(self) AND k.patient = one AND k.confirmed AND k.low <= now() AND k.high > now() LIMIT 1)
        OR (SELECT true FROM acting a JOIN treatment k ON k.actor = a.also WHERE a.practitioner = ANY(self) AND a.low <= now() AND a.high > now()
          AND k.patient = one AND k.confirmed AND k.low <= now() AND k.high > now() LIMIT 1))
      AND (SELECT true FROM consent_rule c WHERE c.patient = one LIMIT 1) IS NULL
    THEN clear := clear || one; END IF;
  END LOOP;
  RETURN clear;
END $f$;
-- +goose StatementEnd

-- As it was in 0081, but that of patients of whom it is known that the caller treats them and that they have no Consent (kiln.clear) it
-- asks no more than for labels.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION visible.withholds(patients bigint[]) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $f$
DECLARE
  ways bytea := nullif(current_setting('kiln.ways', true), '')::bytea;
  uncleared integer := ~nullif(current_setting('kiln.clearance', true), '')::integer;
BEGIN
  IF nullif(current_setting('kiln.actors', true), '') IS NOT NULL AND patients <@ nullif(current_setting('kiln.clear', true), '')::bigint[] THEN
    RETURN EXISTS (SELECT FROM search_index i WHERE i.compartments && patients AND i.labels <> 0 AND i.labels & uncleared <> 0 AND get_byte(ways, i.type) & 64 <> 0)
      AND NOT visible.broken(patients);
  END IF;
  IF NOT visible.treats(patients) OR visible.broken(patients) THEN RETURN false; END IF;
  RETURN EXISTS (SELECT FROM search_index i WHERE i.compartments && patients AND i.labels <> 0 AND i.labels & uncleared <> 0 AND get_byte(ways, i.type) & 64 <> 0)
    OR EXISTS (SELECT FROM consent_rule c WHERE c.patient = ANY(patients) AND c.deny AND c.low <= now() AND c.high > now())
      AND EXISTS (SELECT FROM search_index i WHERE i.compartments && patients AND get_byte(ways, i.type) & 64 <> 0 AND NOT visible.consented(i.type, i.compartments, i.labels));
END $f$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
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
-- +goose StatementEnd
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION visible.clear(self bigint[], patients bigint[]) RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $f$
BEGIN
  RETURN ARRAY(SELECT p.rk FROM unnest(patients) AS p(rk)
    WHERE (self IS NULL OR EXISTS (SELECT FROM treatment k WHERE k.patient = p.rk AND k.confirmed AND k.low <= now() AND k.high > now()
        AND (k.actor = ANY(self) OR EXISTS (SELECT FROM acting a WHERE a.also = k.actor AND a.practitioner = ANY(self) AND a.low <= now() AND a.high > now()))))
      AND NOT EXISTS (SELECT FROM consent_rule c WHERE c.patient = p.rk));
END $f$;
-- +goose StatementEnd
DROP VIEW visible.about_code, visible.about_resource, visible.about_index;
DROP FUNCTION visible.shows(bigint, smallint, bigint[], integer), visible.apply_about(), visible.apply_rule();
ALTER FUNCTION visible.apply_views() RENAME TO apply_rule;
