-- A Group is not for its members to read, since it names others; what is written about it, its Provenance or a Binary in its
-- context, was. Those rows leave the compartments; one that has other targets too comes back to theirs with its next version.
-- It reads all rows of these two types, and changes few.
-- +goose Up
CREATE TEMPORARY TABLE of_groups ON COMMIT DROP AS
  SELECT rk FROM resource WHERE compartments <> '{}' AND (
    type = 'Provenance' AND EXISTS (SELECT FROM jsonb_path_query(content, '$.target[*].reference') t WHERE t #>> '{}' ~ '(^|/)Group/')
    OR type = 'Binary' AND content #>> '{securityContext,reference}' ~ '(^|/)Group/');
UPDATE resource r SET compartments = '{}' FROM of_groups g WHERE r.rk = g.rk;
UPDATE search_index i SET compartments = '{}' FROM of_groups g WHERE i.rk = g.rk;

-- +goose Down
SELECT 1; -- who reads less needs nothing back
