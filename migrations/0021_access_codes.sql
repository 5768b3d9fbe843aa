-- What callers see of search_code (0020): the terms of the resources that they see.
-- +goose Up
CREATE VIEW visible.search_code AS SELECT x.* FROM public.search_code x
WHERE EXISTS (SELECT FROM visible.search_index i WHERE i.rk = x.rk);
GRANT SELECT ON visible.search_code TO kiln_access;

-- +goose Down
DROP VIEW visible.search_code;
