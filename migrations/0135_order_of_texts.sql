-- How far the server has come in writing the texts of search_string_value down in their order, which it does by itself in the
-- background: those with the same part mostly begin alike, and lie on a few pages then. In the order that resources came in each
-- text lies on a page of its own.
-- +goose Up
CREATE TABLE search_string_order (
  param integer,                        -- the last text that lies in its order; NULL: none is under way
  value text COLLATE "C",
  texts bigint NOT NULL);               -- how many there were when all of them were last put in order
INSERT INTO search_string_order (texts) VALUES (0);

-- +goose Down
DROP TABLE search_string_order;
