-- Which service a Slot is for, where the rule that made it is for one alone.
-- +goose Up
ALTER TABLE slot_time ADD service text COLLATE "C"; -- 'HealthcareService/…' or a code; NULL for any
CREATE INDEX slot_time_service ON slot_time (service, schedule) WHERE service IS NOT NULL;

-- +goose Down
DROP INDEX slot_time_service;
ALTER TABLE slot_time DROP service;
