-- Codes that sign in once each instead of a one-time code, for who has lost the device. Of each the SHA-256 is kept; a code that
-- was used is gone.
-- +goose Up
CREATE TABLE recovery_code (
  account uuid NOT NULL REFERENCES account ON DELETE CASCADE,
  hash bytea NOT NULL,
  PRIMARY KEY (account, hash));

-- +goose Down
DROP TABLE recovery_code;
