-- Whoever writes a Consent makes the patient's rows of treatment unclear. PostgreSQL took the index of 0260 for that, which begins with the practitioner,
-- and read all of it for each Consent: with 100,000 clear rows, 3 ms. One that begins with the patient serves that and reads alike. Reads and writes
-- of who treats whom wait meanwhile, a second or less for a million clear rows.
-- +goose Up
DROP INDEX treatment_clear;
CREATE UNIQUE INDEX treatment_clear ON treatment (patient, actor) WHERE clear;

-- +goose Down
DROP INDEX treatment_clear;
CREATE UNIQUE INDEX treatment_clear ON treatment (actor, patient) WHERE clear;
