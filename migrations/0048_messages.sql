-- Messages of a server that has no mail server: administrators read them on its page.
-- +goose Up
CREATE TABLE kept_message (
  id uuid PRIMARY KEY,                  -- that of its Communication
  made timestamptz NOT NULL,
  about text NOT NULL,                  -- 'Appointment/…'
  recipient text NOT NULL,              -- 'Patient/…'
  address text NOT NULL,                -- where it would have gone; '' for nowhere
  language text NOT NULL,
  title text NOT NULL,
  body text NOT NULL);
CREATE INDEX kept_message_made ON kept_message (made, id);

-- +goose Down
DROP TABLE kept_message;
