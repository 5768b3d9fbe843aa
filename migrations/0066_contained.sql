-- Resources inside others (contained), so that searches find them: _contained, and chains that lead into them. What was
-- written before has no rows here until it is written or reindexed.
-- +goose Up

CREATE TABLE search_contained (
  rk bigint PRIMARY KEY,                -- SipHash of 'Type/…#id', with type and id of the container: the key of its rows of values
  container bigint NOT NULL,            -- rk of the resource that it is in, whose visibility it shares
  id text COLLATE "C" NOT NULL,
  type smallint NOT NULL,               -- what follows is as in search_index
  last_updated timestamptz NOT NULL,
  patient bigint,
  date_low timestamptz NOT NULL,
  date_high timestamptz NOT NULL,
  tokens bigint[] NOT NULL,
  refs bigint[] NOT NULL);
CREATE INDEX search_contained_container ON search_contained (container);
CREATE INDEX search_contained_hashes ON search_contained USING gin (tokens, refs) WITH (fastupdate = on, gin_pending_list_limit = 256);
CREATE INDEX search_contained_date ON search_contained (type, date_low DESC, rk);

CREATE VIEW visible.search_contained AS SELECT x.* FROM public.search_contained x
WHERE EXISTS (SELECT FROM visible.search_index i WHERE i.rk = x.container);
GRANT SELECT ON visible.search_contained TO kiln_access;

-- +goose Down
DROP VIEW visible.search_contained;
DROP TABLE search_contained;
