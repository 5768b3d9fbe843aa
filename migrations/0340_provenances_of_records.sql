-- Provenances by their targets, those of one record together: $everything asks for those of 200 resources at a time, which lie on 200 pages of an index of
-- hashes alone. A term is the first half of the key of a compartment and the second half of a reference, so the terms of a record are neighbours; what has the
-- halves is looked at (storage/provenances.go). A Provenance of more than ten records has a term for each compartment alone: for each of them and each reference,
-- what names two thousand patients would have four million. Type 112 is Provenance; + 0, and the cost of the function, keep the planner from reading all of them instead.
-- The loops take a third of the time of a subquery. It takes some seconds for a million resources; writes wait meanwhile.
-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION record_terms(compartments bigint[], refs bigint[]) RETURNS bigint[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS $$
DECLARE
  compartment bigint;
  reference bigint;
  terms bigint[] := '{}';
BEGIN
  FOREACH compartment IN ARRAY compartments LOOP
    IF cardinality(compartments) > 10 THEN
      terms := terms || (compartment & -4294967296);
      CONTINUE;
    END IF;
    FOREACH reference IN ARRAY refs LOOP
      terms := terms || ((compartment & -4294967296) | (reference & 4294967295));
    END LOOP;
  END LOOP;
  RETURN terms;
END $$;
-- +goose StatementEnd
CREATE INDEX search_index_provenance ON search_index USING gin (record_terms(compartments, refs)) WITH (fastupdate = off) WHERE type + 0 = 112;

-- +goose Down
DROP INDEX search_index_provenance;
DROP FUNCTION record_terms;
