-- Versions longer than some 2 kB are compressed by lz4, where PostgreSQL was built with it: that takes a fraction of pglz's time. It
-- changes the catalog only: what is stored stays as it is, and is read either way.
-- +goose Up
-- +goose StatementBegin
DO $$
BEGIN
  ALTER TABLE resource ALTER content SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
  NULL; -- it goes on with pglz
END $$;
-- +goose StatementEnd

-- +goose Down
ALTER TABLE resource ALTER content SET COMPRESSION pglz;
