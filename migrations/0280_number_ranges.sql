-- Numbers that are ranges, or have a comparator, end elsewhere than they begin. They are few, and to look for an end among them alone
-- and for a beginning among the others takes the place of reading every number of a parameter that ends somewhere above a value.
-- Reads search_number twice, and locks it against writes meanwhile: a second for a million resources.
-- +goose Up
CREATE INDEX search_number_range ON search_number (param, high, rk) WHERE high > low;
CREATE INDEX search_number_canonical_range ON search_number (param, canonical, canonical_high, rk) WHERE canonical_high > canonical_low;

-- +goose Down
DROP INDEX search_number_range, search_number_canonical_range;
