-- How many messages an address was sent within a day, so that nobody's mailbox is flooded.
-- +goose Up
CREATE TABLE message_sent (
  id uuid PRIMARY KEY,                  -- that of the message: tried again it counts once
  address bytea NOT NULL,               -- SHA-256
  at timestamptz NOT NULL);
CREATE INDEX message_sent_address ON message_sent (address, at);

-- +goose Down
DROP TABLE message_sent;
