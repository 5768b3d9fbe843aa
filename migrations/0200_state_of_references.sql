-- A practitioner's appointments of a month and a status: the index of what refers to somebody, in the order of time, tells the status,
-- so that the rows of the others need not be looked at (docs/adr/0006).
-- It makes an index anew and fills the column, which takes a minute or less for a million resources; writes wait meanwhile.
-- +goose Up

-- Of rows for references: the code in the element "status" of the resource, in lower case; NULL: not known.
ALTER TABLE search_code ADD state text COLLATE "C";
UPDATE search_code c SET state = s.state FROM (
  SELECT i.rk, i.refs, lower(r.content ->> 'status') AS state FROM search_index i JOIN resource r USING (rk)
  WHERE r.content ->> 'status' ~ '^[A-Za-z-]{1,64}$') s
WHERE c.rk = s.rk AND c.value IS NULL AND c.patient IS NULL AND c.term = ANY(s.refs);
DROP INDEX search_code_order;
CREATE INDEX search_code_order ON search_code (term, date_low DESC, rk) INCLUDE (value, state);

-- +goose Down
DROP INDEX search_code_order;
ALTER TABLE search_code DROP state;
CREATE INDEX search_code_order ON search_code (term, date_low DESC, rk) INCLUDE (value);
