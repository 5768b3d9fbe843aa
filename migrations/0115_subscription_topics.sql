-- A Subscription of a topic can be about several types, and its events are. Both tables are small: they are locked for a moment.
-- +goose Up
ALTER TABLE subscription ADD COLUMN types smallint[];          -- of the resources that it is about
UPDATE subscription SET types = ARRAY[type];
ALTER TABLE subscription ALTER COLUMN types SET NOT NULL, ADD CHECK (cardinality(types) > 0), DROP COLUMN type;

ALTER TABLE subscription_event ADD COLUMN type smallint;       -- of the resource
UPDATE subscription_event e SET type = s.types[1] FROM subscription s WHERE s.id = e.subscription;
ALTER TABLE subscription_event ALTER COLUMN type SET NOT NULL;

-- +goose Down
ALTER TABLE subscription_event DROP COLUMN type;
ALTER TABLE subscription ADD COLUMN type smallint;
UPDATE subscription SET type = types[1];
ALTER TABLE subscription ALTER COLUMN type SET NOT NULL, DROP COLUMN types;
