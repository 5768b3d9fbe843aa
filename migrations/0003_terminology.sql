-- Terminology: code systems, value sets and concept maps in the form that questions about codes need.
-- +goose Up

-- One row: which official definitions are loaded.
CREATE TABLE terminology (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  official bytea NOT NULL);             -- hash of the definitions and of the form they are kept in

-- Every code system: official (O), a CodeSystem resource (R, key is its rk), or loaded from its publisher's files (L).
CREATE TABLE code_system (
  key bigint PRIMARY KEY,
  source "char" NOT NULL CHECK (source IN ('O', 'R', 'L')),
  id text COLLATE "C" NOT NULL,
  url text COLLATE "C" NOT NULL,
  version text COLLATE "C" NOT NULL DEFAULT '',
  content text NOT NULL,                -- CodeSystem.content
  case_sensitive boolean NOT NULL,
  value_set text COLLATE "C",           -- CodeSystem.valueSet: the value set of all its codes
  concepts integer NOT NULL,            -- how many rows of concept it has
  hash bytea NOT NULL,                  -- of what it was made from
  stored timestamptz NOT NULL DEFAULT now(),
  definition jsonb NOT NULL);           -- the CodeSystem without its concepts
CREATE INDEX code_system_url ON code_system (url, version);
CREATE INDEX code_system_value_set ON code_system (value_set) WHERE value_set IS NOT NULL;

-- number is the place of a concept in its system, counted from an offset of the system's own, so that the numbers of
-- two systems are seldom the same: the GIN index on ancestors has no system in it.
CREATE TABLE concept (
  system bigint NOT NULL,
  number integer NOT NULL,
  code text COLLATE "C" NOT NULL,
  display text,
  definition text,
  inactive boolean NOT NULL,
  abstract boolean NOT NULL,            -- not for selection
  parents integer[] NOT NULL,
  ancestors integer[] NOT NULL,         -- all of them, without the concept itself
  words tsvector NOT NULL,              -- of code, display and designations, made by the server
  PRIMARY KEY (system, number));
CREATE UNIQUE INDEX concept_code ON concept (system, code);
CREATE INDEX concept_folded ON concept (system, lower(code));
CREATE INDEX concept_parents ON concept USING gin (parents) WITH (fastupdate = on, gin_pending_list_limit = 256);
CREATE INDEX concept_ancestors ON concept USING gin (ancestors) WITH (fastupdate = on, gin_pending_list_limit = 256);
CREATE INDEX concept_words ON concept USING gin (words) WITH (fastupdate = on, gin_pending_list_limit = 256);

CREATE TABLE concept_property (
  system bigint NOT NULL,
  number integer NOT NULL,
  position integer NOT NULL,
  code text COLLATE "C" NOT NULL,
  type text NOT NULL,                   -- code, Coding, string, integer, boolean, dateTime, decimal
  value text COLLATE "C" NOT NULL,      -- of a Coding: its code
  coding jsonb,                         -- the whole of a Coding
  PRIMARY KEY (system, number, position));
-- Long values are found by their beginning; an index entry has little room.
CREATE INDEX concept_property_value ON concept_property (system, code, left(value, 200), number);

CREATE TABLE concept_designation (
  system bigint NOT NULL,
  number integer NOT NULL,
  position integer NOT NULL,
  language text COLLATE "C",
  use jsonb,
  value text NOT NULL,
  PRIMARY KEY (system, number, position));

-- definition is NULL for a resource (key is its rk): that has it already.
CREATE TABLE value_set (
  key bigint PRIMARY KEY,
  source "char" NOT NULL CHECK (source IN ('O', 'R', 'L')),
  id text COLLATE "C" NOT NULL,
  url text COLLATE "C" NOT NULL,
  version text COLLATE "C" NOT NULL DEFAULT '',
  stored timestamptz NOT NULL DEFAULT now(),
  definition jsonb);
CREATE INDEX value_set_url ON value_set (url, version);
CREATE INDEX value_set_id ON value_set (id);

CREATE TABLE concept_map (
  key bigint PRIMARY KEY,
  source "char" NOT NULL CHECK (source IN ('O', 'R', 'L')),
  id text COLLATE "C" NOT NULL,
  url text COLLATE "C" NOT NULL,
  version text COLLATE "C" NOT NULL DEFAULT '',
  source_scope text COLLATE "C",        -- the value sets that it maps from and to, where it says so
  target_scope text COLLATE "C",
  stored timestamptz NOT NULL DEFAULT now());
CREATE INDEX concept_map_url ON concept_map (url, version);
CREATE INDEX concept_map_id ON concept_map (id);

-- One row for each target of each element. target_code is NULL for an element that has no target, and in the one row
-- of a group that says what becomes of codes that it does not map (unmapped).
CREATE TABLE concept_map_element (
  map bigint NOT NULL,
  position integer NOT NULL,
  source_system text COLLATE "C" NOT NULL,
  source_code text COLLATE "C" NOT NULL,
  target_system text COLLATE "C" NOT NULL,
  target_version text NOT NULL,
  target_code text COLLATE "C",
  target_display text,
  equivalence text NOT NULL,
  comment text,
  depends_on jsonb,
  product jsonb,
  unmapped jsonb,
  PRIMARY KEY (map, position));
CREATE INDEX concept_map_element_source ON concept_map_element (source_code, source_system);
CREATE INDEX concept_map_element_target ON concept_map_element (target_code, target_system);

-- +goose Down
DROP TABLE concept_map_element, concept_map, value_set, concept_designation, concept_property, concept, code_system, terminology;
