-- What unselective searches need to stop at the end of a page: docs/adr/0006. Rows written before have no entry here;
-- there are none in a released version.
-- +goose Up

-- Which resources have a code, newest first: one row for each coding of the type's parameter "code".
CREATE TABLE search_code (
  term bigint NOT NULL,                 -- the hash of system|code that search_index.tokens has too
  date_low timestamptz NOT NULL,        -- that of search_index
  rk bigint NOT NULL);
CREATE INDEX search_code_order ON search_code (term, date_low DESC, rk);
CREATE INDEX search_code_rk ON search_code (rk);

-- Long periods. What is not long and ends after a moment began no more than 31 days before it, which bounds a range of
-- search_index_date.
CREATE INDEX search_index_long ON search_index (type, date_high)
  WHERE date_high AT TIME ZONE 'UTC' > (date_low AT TIME ZONE 'UTC') + interval '31 days';

-- +goose Down
DROP INDEX search_index_long;
DROP TABLE search_code;
