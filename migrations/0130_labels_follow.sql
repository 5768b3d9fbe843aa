-- Whom a version belongs to, and what keeps it from others, follows what it takes them from: resource.compartments and labels
-- already did at a reindex, resource_change did not, so that a history left out what a read shows. Of resource_change these two
-- columns may be written from now on, and nothing else.
-- Here all rows are brought in line with the versions that they tell of, which reads those three tables once. That of Binaries
-- and Provenances that were written before is found out in the background.
-- +goose Up
DROP TRIGGER resource_change_append_only ON resource_change;
CREATE TRIGGER resource_change_append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF seq, last_updated, type, rk, version, xid ON resource_change
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

UPDATE resource_change c SET compartments = v.compartments, labels = v.labels
FROM (SELECT rk, version, compartments, labels FROM resource UNION ALL SELECT rk, version, compartments, labels FROM resource_history) v
WHERE v.rk = c.rk AND v.version = c.version AND (c.compartments, c.labels) IS DISTINCT FROM (v.compartments, v.labels);

-- Resources from which others borrow whom they belong to (storage/lending.go): ready ones are to be looked at by the worker, the
-- others are not there yet. seen is when the worker saw it first.
CREATE TABLE lending_due (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  target bigint NOT NULL,
  ready boolean NOT NULL DEFAULT true,
  seen timestamptz);
CREATE INDEX lending_due_target ON lending_due (target);
CREATE INDEX lending_due_ready ON lending_due (target) WHERE ready;

CREATE TEMPORARY TABLE borrowers ON COMMIT DROP AS
  SELECT DISTINCT type_number AS type FROM resource WHERE type IN ('Binary', 'Provenance') AND content IS NOT NULL;
UPDATE search_parameter_set SET generation = generation + 1, changed = changed + 1 WHERE EXISTS (SELECT FROM borrowers);
INSERT INTO reindex_job (generation, types)
  SELECT s.generation, (SELECT array_agg(type ORDER BY type) FROM borrowers) FROM search_parameter_set s WHERE EXISTS (SELECT FROM borrowers);

-- +goose Down
DROP TABLE lending_due;
DROP TRIGGER resource_change_append_only ON resource_change;
CREATE TRIGGER resource_change_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON resource_change
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
