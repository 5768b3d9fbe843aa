-- Who is busy when. The exclusion constraint is what makes double booking impossible, whatever way it is tried.
-- +goose Up

-- A trusted extension: no superuser needed.
CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE TABLE allocation (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  actor text COLLATE "C" NOT NULL,      -- 'Practitioner/…', 'Location/…', 'Patient/…'
  lane smallint NOT NULL DEFAULT 0 CHECK (lane >= 0), -- 0 to capacity-1; beyond it only by an override
  during tstzrange NOT NULL,
  kind text COLLATE "C" NOT NULL CHECK (kind IN ('hold', 'busy', 'buffer', 'block')),
  owner text COLLATE "C" NOT NULL,      -- what takes the time: 'Appointment/…', or 'Slot/…' and 'Schedule/…' of a block
  expires timestamptz,                  -- of a hold: free for others from then on, whether or not the row is still here
  CONSTRAINT allocation_finite CHECK (NOT isempty(during) AND lower_inc(during) AND NOT upper_inc(during)
    AND lower(during) IS NOT NULL AND upper(during) IS NOT NULL AND isfinite(lower(during)) AND isfinite(upper(during))),
  CONSTRAINT allocation_hold_expires CHECK (kind IN ('hold', 'buffer') OR expires IS NULL),
  CONSTRAINT allocation_no_overlap EXCLUDE USING gist (actor WITH =, lane WITH =, during WITH &&));
CREATE INDEX allocation_owner ON allocation (owner);
CREATE INDEX allocation_expires ON allocation (expires) WHERE expires IS NOT NULL;

-- Whose time a Schedule offers: Schedule.actor, in its order.
CREATE TABLE schedule_actor (
  schedule text COLLATE "C" NOT NULL,   -- 'Schedule/…'
  actor text COLLATE "C" NOT NULL,
  PRIMARY KEY (schedule, actor));
CREATE INDEX schedule_actor_actor ON schedule_actor (actor);

-- The time of every Slot that is not entered in error, so that those a booking touches are found by overlap: FHIR has a
-- search parameter for the start only.
CREATE TABLE slot_time (
  slot text COLLATE "C" PRIMARY KEY,    -- 'Slot/…'
  schedule text COLLATE "C" NOT NULL,
  during tstzrange NOT NULL CHECK (NOT isempty(during)),
  status text COLLATE "C" NOT NULL);
CREATE INDEX slot_time_during ON slot_time USING gist (schedule, during);

-- +goose Down
DROP TABLE slot_time, schedule_actor, allocation;
