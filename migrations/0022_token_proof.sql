-- A read for a caller asks in the same round trip whether the caller's access token still holds (storage/proof.go), on
-- the connection that sees nothing but the views. That a token exists tells nothing to somebody who does not have it.
-- +goose Up
CREATE VIEW visible.access_token AS SELECT hash, expires FROM oauth_token WHERE kind = 'A';
GRANT SELECT ON visible.access_token TO kiln_access;

-- +goose Down
DROP VIEW visible.access_token;
