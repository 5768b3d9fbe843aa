-- A Provenance of a Patient and of something else has the labels of that, too: those that were written before are found out in
-- the background.
-- +goose Up
CREATE TEMPORARY TABLE borrowers ON COMMIT DROP AS
  SELECT DISTINCT type_number AS type FROM resource WHERE type = 'Provenance' AND content IS NOT NULL;
UPDATE search_parameter_set SET generation = generation + 1, changed = changed + 1 WHERE EXISTS (SELECT FROM borrowers);
INSERT INTO reindex_job (generation, types)
  SELECT s.generation, ARRAY[b.type] FROM search_parameter_set s, borrowers b;

-- +goose Down
SELECT 1; -- labels that a reindex would find again harm nobody
