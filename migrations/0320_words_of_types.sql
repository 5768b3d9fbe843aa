-- The words of a resource have terms in search_index.tokens, one for the type and the word: so what has a word is found as what has a
-- code is, and a word that is common among another type costs nothing. The index of words knew neither the type nor the narrative.
-- hashed says of a row of search_text that its resource has those terms. A reindex is ordered for what was written before, which the
-- server does in the background; until it is done, and where an older server has written since, texts are searched for as before. Then
-- the server drops the index search_text_words (storage/words.go). In a database that has nothing yet it is dropped at once.
-- search_text and search_index are read once; what looks for words, and writes, wait meanwhile: some seconds for a million resources.
-- +goose Up
ALTER TABLE search_text ADD hashed boolean NOT NULL DEFAULT false;
CREATE INDEX search_text_unhashed ON search_text (rk) WHERE NOT hashed;

UPDATE search_parameter_set SET generation = generation + 1, changed = changed + 1 WHERE EXISTS (SELECT FROM search_text);
INSERT INTO reindex_job (generation, types)
  SELECT generation, (SELECT array_agg(DISTINCT type) FROM search_index) FROM search_parameter_set WHERE EXISTS (SELECT FROM search_text);
-- +goose StatementBegin
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM search_text) THEN
    DROP INDEX search_text_words;
  END IF;
END $$;
-- +goose StatementEnd

-- +goose Down
ALTER TABLE search_text DROP hashed;
CREATE INDEX IF NOT EXISTS search_text_words ON search_text USING gin (words) WITH (fastupdate = on, gin_pending_list_limit = 512);
