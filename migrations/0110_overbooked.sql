-- Which Slots and appointments lie beyond the capacity of those whose time they take. The updates look at every row once.
-- Type 127 is Slot, which has a new search parameter: those that are stored already are indexed anew, in the background.
-- +goose Up

-- How many the actor serves at a time, as it was when the time was taken; NULL of closed time. A lane from it on is beyond.
ALTER TABLE allocation ADD capacity smallint CHECK (capacity >= 1);
UPDATE allocation a SET capacity = coalesce((SELECT max(s.capacity) FROM schedule_actor s WHERE s.actor = a.actor), 1) WHERE kind <> 'block';

ALTER TABLE booking ADD overbooked boolean NOT NULL DEFAULT false; -- it takes time in such a lane of somebody else than its patient
UPDATE booking b SET overbooked = true FROM allocation a WHERE a.owner = b.appointment AND a.lane >= a.capacity AND a.actor NOT LIKE 'Patient/%';

-- NULL: nobody has looked yet (storage.Store.UnsettledSlots).
ALTER TABLE slot_time ADD overbooked boolean DEFAULT false;
UPDATE slot_time t SET overbooked = NULL FROM schedule_actor s, allocation a
WHERE s.schedule = t.schedule AND a.actor = s.actor AND a.during && t.during AND a.lane >= a.capacity;
CREATE INDEX slot_time_unsettled ON slot_time (slot) WHERE overbooked IS NULL;

UPDATE search_parameter_set SET generation = generation + 1, changed = changed + 1
WHERE EXISTS (SELECT FROM resource WHERE type_number = 127);
INSERT INTO reindex_job (generation, types)
SELECT generation, ARRAY[127]::smallint[] FROM search_parameter_set WHERE EXISTS (SELECT FROM resource WHERE type_number = 127);

-- +goose Down
DROP INDEX slot_time_unsettled;
ALTER TABLE slot_time DROP overbooked;
ALTER TABLE booking DROP overbooked;
ALTER TABLE allocation DROP capacity;
