-- Practitioners who treat a patient are told that something of the record is withheld from them (docs/access.md).
-- +goose Up

-- Few resources have labels; this finds those of one patient.
CREATE INDEX search_index_labelled ON search_index USING gin (compartments) WHERE labels <> 0;

-- Whether the caller treats one of some patients (row keys of one person) and yet does not see something of the record, of a
-- type that the caller may see, that breaking the glass would show.
-- +goose StatementBegin
CREATE FUNCTION visible.withholds(patients bigint[]) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $f$
DECLARE
  care text := current_setting('kiln.care', true);
  uncleared integer := ~nullif(current_setting('kiln.clearance', true), '')::integer;
BEGIN
  IF NOT visible.treats(patients) OR visible.broken(patients) THEN RETURN false; END IF;
  RETURN EXISTS (SELECT FROM search_index i WHERE i.compartments && patients AND i.labels <> 0 AND i.labels & uncleared <> 0 AND substr(care, i.type, 1) IN ('t', 'c'))
    OR EXISTS (SELECT FROM consent_rule c WHERE c.patient = ANY(patients) AND c.deny AND c.low <= now() AND c.high > now())
      AND EXISTS (SELECT FROM search_index i WHERE i.compartments && patients AND substr(care, i.type, 1) IN ('t', 'c') AND NOT visible.consented(i.type, i.compartments, i.labels));
END $f$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION visible.withholds(bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION visible.withholds(bigint[]) TO kiln_access;

-- +goose Down
DROP FUNCTION visible.withholds(bigint[]);
DROP INDEX search_index_labelled;
