-- Resources by the record that they lie in alone. A page of $everything looks up 200 of one record: in the index of keys, which are hashes, each lies on a page of
-- its own, here they share some ten (docs/adr/0006). rk + 0 keeps the planner from it where the key alone is asked for. It takes some seconds for a million
-- resources; writes wait meanwhile.
-- +goose Up
CREATE INDEX resource_record ON resource ((compartments[1]), (rk + 0)) WHERE cardinality(compartments) = 1;

-- +goose Down
DROP INDEX resource_record;
