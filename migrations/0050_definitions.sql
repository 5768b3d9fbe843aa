-- The definitions that the server has built in, as resources that clients can read and search for.
-- +goose Up

-- One row: which of them are in the tables of resources. Theirs have the method O (for official) and no row in
-- resource_change: nobody has written them, so no history of types tells of them.
CREATE TABLE definition_set (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  loaded bytea NOT NULL);               -- hash of the definitions and of the form they are kept in

-- +goose Down
WITH gone AS (DELETE FROM resource WHERE method = 'O' RETURNING rk), a AS (DELETE FROM search_string s USING gone WHERE s.rk = gone.rk),
b AS (DELETE FROM search_date s USING gone WHERE s.rk = gone.rk), c AS (DELETE FROM search_number s USING gone WHERE s.rk = gone.rk),
d AS (DELETE FROM search_composite s USING gone WHERE s.rk = gone.rk), e AS (DELETE FROM search_text s USING gone WHERE s.rk = gone.rk),
f AS (DELETE FROM search_code s USING gone WHERE s.rk = gone.rk)
DELETE FROM search_index s USING gone WHERE s.rk = gone.rk;
DROP TABLE definition_set;
