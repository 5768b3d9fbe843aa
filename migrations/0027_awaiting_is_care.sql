-- A practitioner whom a patient asks for a visit has to see it to answer. A hold is no such question (storage/membership.go).
-- +goose Up
UPDATE relationship SET statuses = '{pending,booked,arrived,checked-in,fulfilled}', note = 'takes part in a visit that the patient or the practice asked for, made or accepted' WHERE kind = 1;

-- +goose Down
UPDATE relationship SET statuses = '{booked,arrived,checked-in,fulfilled}', note = 'takes part in a visit that the patient or the practice made or accepted' WHERE kind = 1;
