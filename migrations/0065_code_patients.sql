-- What a patient has with a code, newest first, and which patients have something with it, each found in one step. A search
-- for the one read all that the patient has, a search for the other (_has) all resources of the code (docs/adr/0006).
-- +goose Up

ALTER TABLE search_code ADD patient bigint; -- that of search_index
UPDATE search_code c SET patient = i.patient FROM search_index i WHERE i.rk = c.rk AND i.patient IS NOT NULL;
CREATE INDEX search_code_patient ON search_code (term, patient, date_low DESC, rk) WHERE patient IS NOT NULL;

-- +goose Down
DROP INDEX search_code_patient;
ALTER TABLE search_code DROP patient;
