-- Who waits for an appointment may have a less convenient one meanwhile.
-- +goose Up

-- 'Appointment/…' that is cancelled when this one is booked; of those only that wait, or have come from the waitlist.
ALTER TABLE booking ADD replaces text COLLATE "C";

-- +goose Down
ALTER TABLE booking DROP replaces;
