-- A Provenance of many records had a term for each of them and each of its references: what names a thousand patients took 12 s to write, and what names two
-- thousand longer than a statement may. One of more than ten has a term for each compartment alone, and its references are looked at (storage/provenances.go).
-- It takes some seconds for a million resources; writes wait meanwhile.
-- +goose Up
DROP INDEX search_index_provenance;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION record_terms(compartments bigint[], refs bigint[]) RETURNS bigint[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS $$
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
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION record_terms(compartments bigint[], refs bigint[]) RETURNS bigint[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 10000 AS $$
DECLARE
  compartment bigint;
  reference bigint;
  terms bigint[] := '{}';
BEGIN
  FOREACH compartment IN ARRAY compartments LOOP
    FOREACH reference IN ARRAY refs LOOP
      terms := terms || ((compartment & -4294967296) | (reference & 4294967295));
    END LOOP;
  END LOOP;
  RETURN terms;
END $$;
-- +goose StatementEnd
CREATE INDEX search_index_provenance ON search_index USING gin (record_terms(compartments, refs)) WITH (fastupdate = off) WHERE type + 0 = 112;
