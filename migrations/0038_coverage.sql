-- What payers have answered, and what that means for the visits that are booked. Clients see neither table: what they may
-- see are the CoverageEligibilityRequests and -Responses.
-- +goose Up

-- One row for each CoverageEligibilityRequest that was put to a payer, written with it. Only responses that a row names count:
-- the server wrote them, or an adapter did. Without a response, or with one that is queued, the payer is asked again at due.
CREATE TABLE coverage_answer (
  request text COLLATE "C" PRIMARY KEY,      -- 'CoverageEligibilityRequest/…'
  response text COLLATE "C",                 -- 'CoverageEligibilityResponse/…'
  coverage text COLLATE "C",                 -- 'Coverage/…' where a booking asked, with the version that it asked about
  coverage_version integer,
  question text COLLATE "C",                 -- date, service and practitioner: the same question has the same answer
  outcome text NOT NULL CHECK (outcome IN ('queued', 'complete', 'partial', 'error')),
  asked timestamptz NOT NULL,
  tries smallint NOT NULL DEFAULT 0,
  due timestamptz,
  benefit text COLLATE "C",                  -- what visits are counted for
  recorded integer NOT NULL DEFAULT 0,       -- how much of what is used is no visit that is booked here
  since date);                               -- visits from this date on are to be added to it
CREATE INDEX coverage_answer_question ON coverage_answer (coverage, question, asked DESC) WHERE coverage IS NOT NULL;
CREATE INDEX coverage_answer_response ON coverage_answer (response);
CREATE INDEX coverage_answer_due ON coverage_answer (due) WHERE due IS NOT NULL;

-- What the gate has made of a visit. It goes with the booking.
CREATE TABLE coverage_check (
  appointment text COLLATE "C" PRIMARY KEY REFERENCES booking ON DELETE CASCADE,
  coverage text COLLATE "C",                 -- 'Coverage/…', NULL for none
  response text COLLATE "C",
  benefit text COLLATE "C",
  visit date NOT NULL,                       -- by the clocks of the place
  state text NOT NULL CHECK (state IN ('passed', 'self-pay', 'open', 'failed')),
  codes text[] NOT NULL DEFAULT '{}',        -- what was found
  cleared boolean NOT NULL DEFAULT false,    -- staff have settled what was open
  task text COLLATE "C",                     -- 'Task/…' that asks them to
  next timestamptz);                         -- when to look again
CREATE INDEX coverage_check_use ON coverage_check (coverage, benefit, visit) WHERE coverage IS NOT NULL;
CREATE INDEX coverage_check_response ON coverage_check (response) WHERE response IS NOT NULL;
CREATE INDEX coverage_check_task ON coverage_check (task) WHERE task IS NOT NULL;
CREATE INDEX coverage_check_next ON coverage_check (next) WHERE next IS NOT NULL;

-- Whose visits are looked at when a coverage changes.
CREATE INDEX booking_patient ON booking (patient) WHERE patient IS NOT NULL;

-- +goose Down
DROP INDEX booking_patient;
DROP TABLE coverage_check, coverage_answer;
