-- A record, its visit, the visit's appointment and its results are about one patient. Checked when a transaction ends, in
-- the same round trip; on the way of a caller "resource" is the view, so that what the caller cannot see counts as missing.
-- +goose Up

-- Fails with the number of the first reference that leads astray. strict: what is missing, and what names no patient,
-- leads astray too. An Appointment always has to name the patient.
-- +goose StatementBegin
CREATE FUNCTION same_patient(parents bigint[], patients bigint[], strict boolean[]) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
  astray bigint;
BEGIN
  SELECT u.n INTO astray FROM unnest(parents, patients, strict) WITH ORDINALITY AS u(parent, patient, strict, n)
  LEFT JOIN resource r ON r.rk = u.parent AND r.content IS NOT NULL
  WHERE CASE WHEN r.rk IS NULL THEN u.strict
    WHEN u.patient = ANY(r.compartments) THEN false
    ELSE u.strict OR r.type = 'Appointment' OR coalesce(r.content -> 'subject', r.content -> 'patient') ->> 'reference' LIKE '%Patient/%' END
  ORDER BY u.n LIMIT 1;
  IF astray IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'KN003', MESSAGE = astray::text;
  END IF;
END $f$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION same_patient(bigint[], bigint[], boolean[]);
