-- Of several capacities of an actor the least counts. Visits take on what the Schedules by whose Slots they were booked allow now, and
-- Slots over time of another capacity are looked at anew, in the background. The updates look at every row once.
-- +goose Up
UPDATE allocation a SET capacity = now.capacity FROM (
  SELECT b.appointment, s.actor, min(s.capacity) AS capacity
  FROM booking b JOIN slot_time t ON t.slot = ANY (b.slots) JOIN schedule_actor s ON s.schedule = t.schedule
  GROUP BY b.appointment, s.actor) AS now
WHERE a.owner = now.appointment AND a.actor = now.actor AND a.capacity < now.capacity;

-- NULL: nobody has looked yet (storage.Store.UnsettledSlots).
UPDATE slot_time t SET overbooked = NULL FROM schedule_actor s, allocation a
WHERE s.schedule = t.schedule AND a.actor = s.actor AND a.during && t.during AND a.capacity <> s.capacity;

-- +goose Down
SELECT 1;
