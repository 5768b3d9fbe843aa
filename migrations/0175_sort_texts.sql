-- Each text that resources are sorted by which no other table has in order, once for a parameter: of codes, identifiers and
-- references. A search sorted by such a parameter goes from text to text, and finds what has each by its hash in search_index
-- (docs/adr/0006). Texts stay when the last resource that had them goes; the history of resources has them, too.
-- What was written before lacks its texts. Here a reindex is ordered, which the server does in the background; until it is done,
-- searches go other ways.
-- +goose Up
CREATE TABLE search_sort_text (
  param integer NOT NULL,
  value text COLLATE "C" NOT NULL);     -- the first 500 characters, as they are written; the same may be there twice
CREATE INDEX search_sort_text_order ON search_sort_text (param, value);
ALTER TABLE search_sort_text SET (autovacuum_vacuum_insert_scale_factor = 0.05);
CREATE VIEW visible.search_sort_text AS SELECT x.* FROM public.search_sort_text x WHERE (SELECT nullif(current_setting('kiln.caller', true), '')) IS NOT NULL;
GRANT SELECT ON visible.search_sort_text TO kiln_access;

UPDATE search_parameter_set SET generation = generation + 1, changed = changed + 1, incomplete = generation + 1 WHERE EXISTS (SELECT FROM search_index);
INSERT INTO reindex_job (generation, types)
  SELECT incomplete, (SELECT array_agg(DISTINCT type) FROM search_index) FROM search_parameter_set WHERE incomplete = generation AND EXISTS (SELECT FROM search_index);

-- +goose Down
DROP VIEW visible.search_sort_text;
DROP TABLE search_sort_text;
