-- What callers see of search_code has the columns that it got since (0053, 0065): so what a patient has with a code, and who has
-- something with it, they find in one step too (docs/adr/0006). The rule is that of 0021: each row by its resource.
-- +goose Up
CREATE OR REPLACE VIEW visible.search_code AS SELECT x.* FROM public.search_code x
WHERE EXISTS (SELECT FROM visible.search_index i WHERE i.rk = x.rk);

-- +goose Down
DROP VIEW visible.search_code;
CREATE VIEW visible.search_code AS SELECT x.term, x.date_low, x.rk FROM public.search_code x
WHERE EXISTS (SELECT FROM visible.search_index i WHERE i.rk = x.rk);
GRANT SELECT ON visible.search_code TO kiln_access;
