-- The texts of identifiers in order, each with the resource that has it. Nearly each is of one resource, so to go along the texts and
-- to find what has each by its hash cost 75 us a text; here the index tells. search_sort_text has no new texts of identifiers since,
-- so a write costs what it did (docs/adr/0006); those that are there stay, and nothing reads them.
-- What was written before is not in here. A reindex is ordered, which the server does in the background; until it is done, what is
-- sorted by identifiers is read and sorted at once, and searches by other codes and references go other ways, too.
-- +goose Up
CREATE TABLE search_identifier (
  param integer NOT NULL,
  value text COLLATE "C" NOT NULL,     -- the first 500 characters, as they are written
  rk bigint NOT NULL);
CREATE INDEX search_identifier_order ON search_identifier (param, value, rk);
CREATE INDEX search_identifier_rk ON search_identifier (rk, param);
ALTER TABLE search_identifier SET (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_scale_factor = 0.05);
CREATE VIEW visible.search_identifier AS SELECT x.* FROM public.search_identifier x WHERE (SELECT nullif(current_setting('kiln.caller', true), '')) IS NOT NULL;
GRANT SELECT ON visible.search_identifier TO kiln_access;

UPDATE search_parameter_set SET generation = generation + 1, changed = changed + 1, incomplete = generation + 1 WHERE EXISTS (SELECT FROM search_index);
INSERT INTO reindex_job (generation, types)
  SELECT incomplete, (SELECT array_agg(DISTINCT type) FROM search_index) FROM search_parameter_set WHERE incomplete = generation AND EXISTS (SELECT FROM search_index);

-- +goose Down
DROP VIEW visible.search_identifier;
DROP TABLE search_identifier;
