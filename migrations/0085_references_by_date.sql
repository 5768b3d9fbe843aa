-- What people list by who does it, where or with what, and by time (a practitioner's appointments of a month), in the order
-- of the time: search_code has a row for each reference to a Practitioner, PractitionerRole, Organization, Location,
-- HealthcareService, Device or Schedule, beside those for codes (docs/adr/0006). Their term is the key of the target, salted
-- as in search_index.refs, value and patient are NULL.
-- What was written before lacks these rows, and those of contained resources if it is from before version 66. Here a reindex is
-- ordered, which the server does in the background; until it is done, searches go other ways.
-- It makes three indexes anew, which takes a minute or two for a million resources; writes wait meanwhile.
-- +goose Up

ALTER TABLE search_parameter_set ADD incomplete integer; -- rows of search_index from before this generation lack something; NULL: none does
UPDATE search_parameter_set SET generation = generation + 1, changed = changed + 1, incomplete = generation + 1 WHERE EXISTS (SELECT FROM search_index);
INSERT INTO reindex_job (generation, types)
  SELECT incomplete, (SELECT array_agg(DISTINCT type) FROM search_index) FROM search_parameter_set WHERE incomplete IS NOT NULL;

-- A walk along a code reads the value beside it in the index, and one along values the date.
DROP INDEX search_code_order, search_code_value;
CREATE INDEX search_code_order ON search_code (term, date_low DESC, rk) INCLUDE (value);
CREATE INDEX search_code_value ON search_code (term, value, rk) INCLUDE (date_low) WHERE value IS NOT NULL;
-- Both this table and that of texts are read by their indexes alone, where vacuum has been.
ALTER TABLE search_code SET (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE search_string SET (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_scale_factor = 0.05);

-- The order of _sort=_id.
CREATE INDEX resource_id ON resource (type_number, id, rk);

-- +goose Down
DROP INDEX resource_id;
ALTER TABLE search_string RESET (autovacuum_vacuum_insert_scale_factor, autovacuum_vacuum_scale_factor);
ALTER TABLE search_code RESET (autovacuum_vacuum_insert_scale_factor, autovacuum_vacuum_scale_factor);
DROP INDEX search_code_order, search_code_value;
-- References go: without value and patient, and with no term among the codes of their resource.
DELETE FROM search_code c USING search_index i WHERE i.rk = c.rk AND i.refs @> ARRAY[c.term];
CREATE INDEX search_code_order ON search_code (term, date_low DESC, rk);
CREATE INDEX search_code_value ON search_code (term, value, rk) WHERE value IS NOT NULL;
ALTER TABLE search_parameter_set DROP incomplete;
