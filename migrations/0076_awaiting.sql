-- The search parameter awaiting of Appointment: those that are stored already are indexed anew, in the background.
-- Type 5 is Appointment.
-- +goose Up
UPDATE search_parameter_set SET generation = generation + 1, changed = changed + 1
WHERE EXISTS (SELECT FROM resource WHERE type_number = 5);
INSERT INTO reindex_job (generation, types)
SELECT generation, ARRAY[5]::smallint[] FROM search_parameter_set WHERE EXISTS (SELECT FROM resource WHERE type_number = 5);

-- +goose Down
SELECT 1;
