-- RelatedPersons that were written before 0070 and have a period: their rows of proxy are made in the background, with all that
-- is indexed of them. When they act is looked at with each request.
-- +goose Up
UPDATE search_parameter_set SET generation = generation + 1, changed = changed + 1
WHERE EXISTS (SELECT FROM resource r WHERE r.type = 'RelatedPerson' AND r.content -> 'period' IS NOT NULL AND NOT EXISTS (SELECT FROM proxy p WHERE p.source = r.rk));
INSERT INTO reindex_job (generation, types)
SELECT s.generation, ARRAY[n.type_number] FROM search_parameter_set s, (SELECT r.type_number FROM resource r
  WHERE r.type = 'RelatedPerson' AND r.content -> 'period' IS NOT NULL AND NOT EXISTS (SELECT FROM proxy p WHERE p.source = r.rk) LIMIT 1) n;

-- +goose Down
SELECT 1;
