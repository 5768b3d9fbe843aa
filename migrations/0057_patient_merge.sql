-- Which Patients turned out to be one person: the record of the one was moved to the other.
-- +goose Up

CREATE TABLE patient_merge (
  source text COLLATE "C" PRIMARY KEY,  -- the id that is out of use
  target text COLLATE "C" NOT NULL,     -- the id in use; never a source itself
  merged timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT patient_merge_differs CHECK (source <> target));
CREATE INDEX patient_merge_target ON patient_merge (target);
-- Servers keep the list in memory, beside the rules of access, since whose a record is follows from it.
CREATE TRIGGER patient_merge_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON patient_merge FOR EACH STATEMENT EXECUTE FUNCTION access_changed();

-- +goose Down
DROP TABLE patient_merge;
