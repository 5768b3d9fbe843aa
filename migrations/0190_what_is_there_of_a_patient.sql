-- Which patients have anything of a type. A search for what patients of a name have asks it of each, and most may have nothing: that is
-- told here by few pages, since what one patient has of one type shares an entry, where search_index_patient has one for each
-- resource (docs/adr/0006). It takes a second for a million resources; writes wait meanwhile.
-- +goose Up
CREATE INDEX search_index_has ON search_index (type, patient) WHERE patient <> rk;

-- +goose Down
DROP INDEX search_index_has;
