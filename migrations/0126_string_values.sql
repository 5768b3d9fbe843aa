-- Each text of a parameter once. A part of a text is looked for here, and what has the text then by the order of search_string:
-- names and addresses repeat, so there are few texts where there are many rows, and a text that is there already costs its
-- writer no trigrams. A text stays when the last row that had it goes; the history of resources has it, too.
-- For a million resources this takes some seconds; writes wait meanwhile.
-- +goose Up
CREATE EXTENSION IF NOT EXISTS btree_gin;
DROP INDEX search_string_substring;
CREATE TABLE search_string_value (
  param integer NOT NULL,
  value text COLLATE "C" NOT NULL);     -- like search_string.value; the same may be there twice
INSERT INTO search_string_value SELECT DISTINCT param, value FROM search_string;
CREATE INDEX search_string_value_order ON search_string_value (param, value);
CREATE INDEX search_string_value_substring ON search_string_value USING gin (param, value gin_trgm_ops) WITH (gin_pending_list_limit = 256);

-- The table has no constraint: two transactions with the same new text would wait for one another. Each that does not see it
-- adds it.
-- +goose StatementBegin
CREATE FUNCTION keep_string_values() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $f$
BEGIN
  INSERT INTO search_string_value SELECT DISTINCT n.param, n.value FROM fresh n
    WHERE NOT EXISTS (SELECT FROM search_string_value v WHERE v.param = n.param AND v.value = n.value);
  RETURN NULL;
END $f$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION keep_string_values() FROM PUBLIC;
CREATE TRIGGER keep_values AFTER INSERT ON search_string REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION keep_string_values();

CREATE VIEW visible.search_string_value AS SELECT x.* FROM public.search_string_value x WHERE (SELECT nullif(current_setting('kiln.caller', true), '')) IS NOT NULL;
GRANT SELECT ON visible.search_string_value TO kiln_access;

-- +goose Down
DROP VIEW visible.search_string_value;
DROP TRIGGER keep_values ON search_string;
DROP FUNCTION keep_string_values();
DROP TABLE search_string_value;
CREATE INDEX search_string_substring ON search_string USING gin (value gin_trgm_ops) WITH (gin_pending_list_limit = 256);
