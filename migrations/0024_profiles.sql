-- Profiles: which StructureDefinition resources writes are checked by.
-- +goose Up

-- The profiles and extension definitions that clients have stored. Retired ones have no row, nor have FHIR's own, which
-- the server has built in, nor those with security labels: what they ask could not be told to everybody who writes.
CREATE TABLE profile_definition (
  rk bigint PRIMARY KEY,                -- the StructureDefinition resource, which holds the definition
  url text COLLATE "C" NOT NULL,
  version text COLLATE "C" NOT NULL);   -- the business version, '' for none

-- One row: servers look at changed to learn that they must read the table anew.
CREATE TABLE profile_set (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  changed bigint NOT NULL DEFAULT 1);
INSERT INTO profile_set DEFAULT VALUES;

-- The packages that kiln package install has stored the conformance resources of.
CREATE TABLE package (
  name text COLLATE "C" NOT NULL,
  version text COLLATE "C" NOT NULL,
  resources integer NOT NULL,           -- how many of it are stored
  installed timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (name, version));

-- +goose Down
DROP TABLE package;
DROP TABLE profile_set;
DROP TABLE profile_definition;
