-- What the server knows of Subscriptions beside what their resources say.
-- +goose Up
CREATE TABLE subscription (
  id text COLLATE "C" PRIMARY KEY,      -- of the Subscription
  type smallint NOT NULL,               -- of the resources that it is about
  status text NOT NULL CHECK (status IN ('requested', 'active', 'error', 'off')),
  owner jsonb NOT NULL,                 -- who asked for it, with rights that are looked up again each time
  secret text NOT NULL,                 -- that the client wants to check signatures with; '' for none
  looked_time timestamptz NOT NULL,     -- up to which change of resource_change it has been looked for events
  looked_seq bigint NOT NULL DEFAULT 0,
  events bigint NOT NULL DEFAULT 0,     -- the number of its newest event
  delivered bigint NOT NULL DEFAULT 0,  -- of the newest that was delivered
  called timestamptz,                   -- when the endpoint has last answered well
  beat interval);                       -- how long it may go without being called; null for as long as it likes

CREATE TABLE subscription_event (
  subscription text COLLATE "C" NOT NULL REFERENCES subscription ON DELETE CASCADE,
  number bigint NOT NULL,
  id text NOT NULL,                     -- of the resource
  at timestamptz NOT NULL,              -- of the version that made the event
  PRIMARY KEY (subscription, number));

-- +goose Down
DROP TABLE subscription_event, subscription;
