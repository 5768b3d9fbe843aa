-- The resource that stands for the caller, and no other of its type: what the scope fhirUser opens.
-- +goose Up

-- The rule of 0145, with one way more. 3 in the two bits that say what there is of a type: the resource that kiln.user names, and nothing else.
-- Nothing is worked out for it where no type has this way. Who has more of a type has no need of it.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION visible.rule(x text, t text, answers jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $f$
DECLARE
  r text := $r$CASE WHEN
  CASE get_byte({ways}, {t}) >> CASE
      WHEN {x}.compartments = '{}' THEN 0
      WHEN {x}.compartments && {patients} THEN 2
      ELSE 4 END & 3
    WHEN 2 THEN true
    WHEN 1 THEN {x}.compartments <@ {clear}
      OR {treated} OR {x}.compartments && {actors}
    WHEN 3 THEN {x}.rk = nullif(current_setting('kiln.user', true), '')::bigint
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

-- Granular scopes leave nothing out of it.
CREATE OR REPLACE FUNCTION visible.narrowed(rk bigint) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $f$
DECLARE
  terms bigint[] := nullif(current_setting('kiln.terms', true), '')::bigint[];
BEGIN
  RETURN rk = nullif(current_setting('kiln.user', true), '')::bigint
    OR EXISTS (SELECT FROM search_index i WHERE i.rk = narrowed.rk AND (i.tokens && terms OR i.refs && terms));
END $f$;
-- +goose StatementEnd
SELECT visible.apply_rule();

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION visible.rule(x text, t text, answers jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $f$
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
CREATE OR REPLACE FUNCTION visible.narrowed(rk bigint) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $f$
DECLARE
  terms bigint[] := nullif(current_setting('kiln.terms', true), '')::bigint[];
BEGIN
  RETURN EXISTS (SELECT FROM search_index i WHERE i.rk = narrowed.rk AND (i.tokens && terms OR i.refs && terms));
END $f$;
-- +goose StatementEnd
SELECT visible.apply_rule();
