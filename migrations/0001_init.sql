-- The whole of version 1. docs/adr/0002 says why there are two tables for all resource types and not two for each.
-- +goose Up

-- Trusted extensions: no superuser needed.
CREATE EXTENSION IF NOT EXISTS pg_trgm;

-- One row: the secret that keys the 64-bit hashes below and the paging cursors. It never leaves the database's owner.
CREATE TABLE instance (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  hash_key bytea NOT NULL CHECK (length(hash_key) = 16),
  cursor_key bytea NOT NULL CHECK (length(cursor_key) = 32),
  created timestamptz NOT NULL DEFAULT now());

-- The current version of every resource, deleted ones included (content NULL).
CREATE TABLE resource (
  rk bigint PRIMARY KEY,                -- SipHash of 'Type/id' under hash_key; references store the same number
  type text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,         -- compared on every read: a hash alone decides nothing
  version integer NOT NULL CHECK (version > 0),
  last_updated timestamptz NOT NULL,
  method "char" NOT NULL,               -- C(reate), U(pdate), P(atch), D(elete)
  content jsonb,
  literal text,                         -- the exact JSON, only where jsonb would lose something (1e2, -0)
  CONSTRAINT resource_deleted CHECK ((method = 'D') = (content IS NULL)));
ALTER TABLE resource ALTER content SET COMPRESSION pglz;

-- Superseded versions. Append-only.
CREATE TABLE resource_history (
  rk bigint NOT NULL,
  version integer NOT NULL,
  last_updated timestamptz NOT NULL,
  method "char" NOT NULL,
  content jsonb,
  literal text,
  PRIMARY KEY (rk, version));

-- One narrow row per version, for the history of types and of the system. Append-only.
CREATE TABLE resource_change (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  last_updated timestamptz NOT NULL,
  type smallint NOT NULL,               -- conformance.Registry.TypeNumber
  rk bigint NOT NULL,
  version integer NOT NULL);
CREATE INDEX resource_change_type ON resource_change (type, last_updated, seq);
CREATE INDEX resource_change_time ON resource_change (last_updated, seq);

-- The time, in milliseconds since 1970, up to which a history of a type or of the system has been shown. What has been
-- shown is settled: begin_write keeps later commits from slipping in below, where a client that asks for what is new
-- (_since) would never see them. It is a sequence since it must not wait for transactions, nor go back with one.
CREATE SEQUENCE history_shown MINVALUE 0 START 0;

-- show_history settles the versions there are now, and returns the time of the newest.
-- +goose StatementBegin
CREATE FUNCTION show_history() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE newest bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(7263, 0); -- one after the other, so that the time never goes back
  SELECT coalesce(floor(extract(epoch FROM max(last_updated)) * 1000), 0) INTO newest FROM resource_change;
  IF newest > (SELECT last_value FROM history_shown) THEN
    PERFORM setval('history_shown', newest);
  END IF;
  RETURN newest;
END $$;
-- +goose StatementEnd

-- One narrow row per live resource: everything a search needs to find and order it, and nothing else.
CREATE TABLE search_index (
  rk bigint PRIMARY KEY,
  type smallint NOT NULL,
  last_updated timestamptz NOT NULL,
  patient bigint,                       -- rk of the patient it is about, where the type has one at most
  date_low timestamptz NOT NULL,        -- the type's main date, half-open; '-infinity' twice = it has none
  date_high timestamptz NOT NULL,
  tokens bigint[] NOT NULL,             -- hashes of few different values: codes, markers
  refs bigint[] NOT NULL,               -- hashes of many different values: references, identifiers, exact strings
  generation integer NOT NULL DEFAULT 1); -- which set of search parameters it was built for: search_parameter_set.generation then
CREATE INDEX search_index_hashes ON search_index USING gin (tokens, refs) WITH (fastupdate = on, gin_pending_list_limit = 256);
CREATE INDEX search_index_patient ON search_index (patient, type, date_low DESC, rk) WHERE patient IS NOT NULL;
CREATE INDEX search_index_date ON search_index (type, date_low DESC, rk);
CREATE INDEX search_index_updated ON search_index (type, last_updated, rk);

-- Values that need order or substring. param is conformance.SearchParameter.Key: one parameter of one type.
CREATE TABLE search_string (
  param integer NOT NULL,
  value text COLLATE "C" NOT NULL,      -- folded: lower case, no accents; of a uri parameter: as it is
  rk bigint NOT NULL);
CREATE INDEX search_string_prefix ON search_string (param, value, rk);
CREATE INDEX search_string_substring ON search_string USING gin (value gin_trgm_ops) WITH (gin_pending_list_limit = 256);
CREATE INDEX search_string_rk ON search_string (rk, param);

CREATE TABLE search_date (
  param integer NOT NULL,
  low timestamptz NOT NULL,
  high timestamptz NOT NULL,
  rk bigint NOT NULL);
CREATE INDEX search_date_low ON search_date (param, low, rk);
CREATE INDEX search_date_high ON search_date (param, high, rk);
CREATE INDEX search_date_rk ON search_date (rk, param);

-- Numbers and quantities. A plain number has low = high and no unit.
CREATE TABLE search_number (
  param integer NOT NULL,
  low numeric NOT NULL,
  high numeric NOT NULL,
  units bigint[],                       -- hashes of system|code, code and unit text
  canonical bigint,                     -- hash of the UCUM base unit, where there is one
  canonical_low double precision,
  canonical_high double precision,
  rk bigint NOT NULL);
CREATE INDEX search_number_value ON search_number (param, low, rk);
CREATE INDEX search_number_canonical ON search_number (param, canonical, canonical_low, rk) WHERE canonical IS NOT NULL;
CREATE INDEX search_number_rk ON search_number (rk, param);

-- One row per tuple of a composite parameter: the components of one row belong together.
CREATE TABLE search_composite (
  param integer NOT NULL,
  tokens bigint[] NOT NULL,             -- hashes of token, reference and unit components
  value text COLLATE "C",               -- a string component
  date_low timestamptz, date_high timestamptz,
  low numeric, high numeric,            -- the first number or quantity component
  canonical_low double precision, canonical_high double precision,
  low2 numeric, high2 numeric,          -- the second
  rk bigint NOT NULL);
CREATE INDEX search_composite_rk ON search_composite (rk, param);
CREATE INDEX search_composite_tokens ON search_composite USING gin (tokens) WITH (fastupdate = on, gin_pending_list_limit = 256);

-- The words of a resource, for _text (weight A: the narrative) and _content (all). Made by the server, not by a
-- dictionary of PostgreSQL.
CREATE TABLE search_text (
  rk bigint PRIMARY KEY,
  words tsvector NOT NULL);
CREATE INDEX search_text_words ON search_text USING gin (words) WITH (fastupdate = on, gin_pending_list_limit = 512);

-- Where a Location is, in degrees.
CREATE TABLE search_position (
  rk bigint PRIMARY KEY,
  latitude double precision NOT NULL,
  longitude double precision NOT NULL);
CREATE INDEX search_position_place ON search_position (latitude, longitude);

-- The texts of coded values, each once: resources with it have marker among their hashes. It answers token:text.
CREATE TABLE search_display (
  marker bigint PRIMARY KEY,
  param integer NOT NULL,
  value text COLLATE "C" NOT NULL);     -- folded like search_string.value
CREATE INDEX search_display_value ON search_display (param, value);

-- Which parameters of a type have a value: resources of one shape share one row here and one hash in tokens, which is
-- how :missing is answered without a marker for every absent parameter of every resource.
CREATE TABLE search_shape (
  marker bigint PRIMARY KEY,
  type smallint NOT NULL,
  params integer[] NOT NULL);
CREATE INDEX search_shape_type ON search_shape (type);

-- One row: which set of search parameters holds. Servers look at changed to learn that they must read the set anew.
CREATE TABLE search_parameter_set (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  generation integer NOT NULL DEFAULT 1,  -- goes up with whatever makes older rows of search_index incomplete
  changed bigint NOT NULL DEFAULT 1);     -- goes up with everything
INSERT INTO search_parameter_set DEFAULT VALUES;

-- The search parameters that clients have defined, one row for each base of an active SearchParameter resource.
CREATE TABLE search_parameter (
  base text COLLATE "C" NOT NULL,
  code text COLLATE "C" NOT NULL,
  url text NOT NULL,
  rk bigint NOT NULL,                   -- the SearchParameter resource, which holds the definition
  generation integer NOT NULL,          -- rows of search_index from before this one lack its values
  state text NOT NULL DEFAULT 'building' CHECK (state IN ('building', 'ready')),
  CONSTRAINT search_parameter_code PRIMARY KEY (base, code));
CREATE INDEX search_parameter_rk ON search_parameter (rk);

-- Every transaction that writes index rows asks this first. A server that has not heard of a new parameter yet is
-- refused, learns, and tries again; so once the transactions that ran when the parameter came have ended, no row from
-- before it can appear any more.
-- +goose StatementBegin
CREATE FUNCTION check_generation(used integer) RETURNS void LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF used < (SELECT generation FROM search_parameter_set) THEN
    RAISE EXCEPTION 'the search parameters have changed' USING ERRCODE = 'KN001';
  END IF;
END $$;
-- +goose StatementEnd

-- Every transaction that writes versions asks this first. moment is the lastUpdated of its oldest one, in milliseconds
-- since 1970. Whoever shows a history first calls show_history and then looks at these locks; a writer first takes its
-- lock and then looks at history_shown. So one of the two always notices the other.
-- +goose StatementBegin
CREATE FUNCTION begin_write(used integer, moment bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(moment);
  IF moment < (SELECT last_value FROM history_shown) THEN
    RAISE EXCEPTION 'the history has been shown up to a later time' USING ERRCODE = 'KN002';
  END IF;
  IF used < (SELECT generation FROM search_parameter_set) THEN
    RAISE EXCEPTION 'the search parameters have changed' USING ERRCODE = 'KN001';
  END IF;
END $$;
-- +goose StatementEnd

-- The rebuilding of index rows, in the background. One is under way at a time; its place is in the row, so that any
-- server can go on with it.
CREATE TABLE reindex_job (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  generation integer NOT NULL,          -- rows older than this are rebuilt
  types smallint[] NOT NULL,
  status text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'completed')),
  total bigint NOT NULL DEFAULT 0,      -- counted when it starts
  done bigint NOT NULL DEFAULT 0,
  failed bigint NOT NULL DEFAULT 0,     -- resources whose values could not be extracted; they keep their old rows
  place smallint,                       -- the type that the walk is at; NULL: before the first
  place_updated timestamptz, place_rk bigint,
  problem text,                         -- what the last try ended with
  created timestamptz NOT NULL DEFAULT now(),
  started timestamptz,
  finished timestamptz);

-- Answers to POSTs that carried an Idempotency-Key.
CREATE TABLE idempotency (
  key bytea PRIMARY KEY,                -- SHA-256 of client, user and key
  request bytea NOT NULL,               -- SHA-256 of the request
  status smallint NOT NULL,
  answer bytea NOT NULL,
  created timestamptz NOT NULL DEFAULT now());
CREATE INDEX idempotency_created ON idempotency (created);

-- Files that kiln import has worked on, so that importing one again or going on after an interruption doubles nothing.
CREATE TABLE import_file (
  hash bytea PRIMARY KEY,               -- SHA-256 of the content, decompressed
  path text NOT NULL,                   -- where it was found last
  done integer[] NOT NULL DEFAULT '{}', -- n: the chunk that begins at entry n, counted from 1; -n: entry n by itself
  split integer[] NOT NULL DEFAULT '{}',-- chunks that failed as a whole and go in entry by entry
  started timestamptz NOT NULL DEFAULT now(),
  finished timestamptz);

ALTER TABLE resource SET (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE search_index SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- History cannot be rewritten by accident or by an injected statement.
-- +goose StatementBegin
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% on % is not allowed: it is append-only', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd
CREATE TRIGGER resource_history_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON resource_history
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER resource_change_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON resource_change
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- +goose Down
DROP TABLE reindex_job, search_parameter, search_parameter_set, import_file, idempotency, search_shape, search_display, search_position, search_text, search_composite, search_number, search_date, search_string, search_index,
  resource_change, resource_history, resource, instance;
DROP FUNCTION refuse_change();
DROP FUNCTION check_generation(integer);
DROP FUNCTION begin_write(integer, bigint);
DROP FUNCTION show_history();
DROP SEQUENCE history_shown;
