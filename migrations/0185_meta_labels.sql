-- The profiles, tags and security labels that resources of a type have, or had, each once: what $meta of a type or of the server asks
-- about. Whether somebody may know of one, a search for it says: the row itself tells of nobody's resource.
-- For a million resources this takes some seconds.
-- +goose Up
CREATE TABLE meta_label (
  digest bytea PRIMARY KEY,             -- SHA-256 of type, kind, system and code, with U+001F between: texts may be too long for an index
  type smallint NOT NULL,
  kind text COLLATE "C" NOT NULL CHECK (kind IN ('profile', 'security', 'tag')),
  system text COLLATE "C" NOT NULL,     -- '' for none, and of profiles
  code text COLLATE "C" NOT NULL);      -- of a profile its canonical URL
CREATE INDEX meta_label_type ON meta_label (type);

INSERT INTO meta_label (digest, type, kind, system, code)
SELECT DISTINCT sha256(convert_to(concat_ws(E'\x1f', l.type, l.kind, l.system, l.code), 'UTF8')), l.type, l.kind, l.system, l.code FROM (
  SELECT r.type_number AS type, k.kind, coalesce(v.value->>'system', '') AS system, v.value->>'code' AS code
  FROM resource r, unnest('{security,tag}'::text[]) AS k(kind), jsonb_array_elements(r.content->'meta'->k.kind) AS v
  WHERE jsonb_typeof(r.content->'meta'->k.kind) = 'array'
  UNION ALL
  SELECT r.type_number, 'profile', '', v.value #>> '{}' FROM resource r, jsonb_array_elements(r.content->'meta'->'profile') AS v
  WHERE jsonb_typeof(r.content->'meta'->'profile') = 'array') l
WHERE l.code <> '';

-- +goose Down
DROP TABLE meta_label;
