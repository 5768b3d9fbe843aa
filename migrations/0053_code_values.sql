-- Resources of one code by their value: a search such as code and value-quantity that finds little among the newest collected
-- all of that code (docs/adr/0006).
-- +goose Up

-- The value-quantity of an Observation; NaN where it is a range or one of several, NULL where there is none.
ALTER TABLE search_code ADD value double precision;
-- 1883905425 is the number of that parameter (conformance.SearchParameter.Key).
UPDATE search_code c SET value = n.value FROM (
  SELECT rk, CASE WHEN count(*) = 1 AND min(low) = max(high) AND abs(min(low)) < 1e300 THEN min(low)::double precision ELSE 'NaN' END AS value
  FROM search_number WHERE param = 1883905425 GROUP BY rk) n WHERE n.rk = c.rk;
CREATE INDEX search_code_value ON search_code (term, value, rk) WHERE value IS NOT NULL;

-- +goose Down
DROP INDEX search_code_value;
ALTER TABLE search_code DROP value;
