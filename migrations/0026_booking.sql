-- Where each appointment stands, and what keeps the states of Slots in step with it.
-- +goose Up

-- One row for each appointment, written with it. The state tells apart what FHIR calls pending: a hold, which expires,
-- and a visit that awaits an answer.
CREATE TABLE booking (
  appointment text COLLATE "C" PRIMARY KEY,  -- 'Appointment/…'
  state text COLLATE "C" NOT NULL CHECK (state IN ('proposed', 'hold', 'awaiting', 'booked', 'arrived', 'checked-in',
    'fulfilled', 'cancelled', 'noshow', 'waitlist', 'entered-in-error')),
  during tstzrange,                          -- of the visit, without buffers
  due timestamptz,                           -- when a hold ends; until when an answer is awaited
  moves smallint NOT NULL DEFAULT 0,         -- how often the patient has moved it
  patient text COLLATE "C",                  -- 'Patient/…', for limits
  slots text[] COLLATE "C" NOT NULL DEFAULT '{}', -- 'Slot/…' that it was booked by
  actors text[] COLLATE "C" NOT NULL DEFAULT '{}', -- whose time it takes: what verify-schedule compares with allocation
  zone text,                                 -- the wall time is kept where clocks or rules change: IANA zone and
  local_start text,                          -- 2026-11-30T09:00:00 as clocks there show it
  CONSTRAINT booking_hold_due CHECK (state <> 'hold' OR due IS NOT NULL),
  CONSTRAINT booking_during CHECK (during IS NOT NULL OR state IN ('proposed', 'cancelled', 'waitlist', 'entered-in-error')),
  CONSTRAINT booking_not_empty CHECK (NOT isempty(during)));
CREATE INDEX booking_due ON booking (due) WHERE due IS NOT NULL;
CREATE INDEX booking_patient_holds ON booking (patient) WHERE state = 'hold';
CREATE INDEX booking_waitlist ON booking (appointment) WHERE state = 'waitlist';
CREATE INDEX booking_slots ON booking USING gin (slots);

-- How many visits an actor of a schedule serves at a time, as its policy says.
ALTER TABLE schedule_actor ADD capacity smallint NOT NULL DEFAULT 1 CHECK (capacity >= 1);

-- A Slot that a client keeps busy: what it wrote. Without, the status follows from allocation.
ALTER TABLE slot_time ADD kept text COLLATE "C";
CREATE INDEX slot_time_schedule ON slot_time (schedule, lower(during));

-- Time that is closed. Where a visit lies in it, allocation holds the rest; when the visit goes, its part is closed too.
CREATE TABLE closing (
  owner text COLLATE "C" NOT NULL,           -- 'Slot/…' of a Slot that a client keeps busy or that $block made
  actor text COLLATE "C" NOT NULL,
  during tstzrange NOT NULL CHECK (NOT isempty(during)),
  lanes smallint NOT NULL CHECK (lanes >= 1),
  PRIMARY KEY (owner, actor));
CREATE INDEX closing_time ON closing USING gist (actor, during);

-- +goose Down
DROP TABLE closing, booking;
DROP INDEX slot_time_schedule;
ALTER TABLE slot_time DROP kept;
ALTER TABLE schedule_actor DROP capacity;
