-- Records of patients in the order of time: what lies in one compartment alone, which nearly all does, by the compartment. A page of
-- $everything reads its 200 rows there, and not all of the record to sort it (docs/adr/0006). What lies in several compartments
-- stands in an index of its own, which is small. They take some seconds for a million resources; writes wait meanwhile.
-- +goose Up
CREATE INDEX search_index_record ON search_index ((compartments[1]), date_low DESC, rk) WHERE cardinality(compartments) = 1;
CREATE INDEX search_index_shared ON search_index USING gin (compartments) WHERE cardinality(compartments) > 1;

-- +goose Down
DROP INDEX search_index_shared;
DROP INDEX search_index_record;
