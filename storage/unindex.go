package storage

import "bytes"

const sqlUnindexSides = `
WITH a AS (DELETE FROM public.search_string WHERE rk = $1), b AS (DELETE FROM public.search_date WHERE rk = $1),
c AS (DELETE FROM public.search_number WHERE rk = $1), d AS (DELETE FROM public.search_text WHERE rk = $1),
e AS (DELETE FROM public.search_position WHERE rk = $1), f AS (DELETE FROM public.search_code WHERE rk = $1),
g AS (DELETE FROM public.search_identifier WHERE rk = $1)
DELETE FROM public.search_composite WHERE rk = $1`

// sqlUnindexContained is for a resource that had others inside.
const sqlUnindexContained = `
WITH gone AS (DELETE FROM public.search_contained WHERE container = $1 RETURNING rk),
a AS (DELETE FROM public.search_string s USING gone WHERE s.rk = gone.rk), b AS (DELETE FROM public.search_date s USING gone WHERE s.rk = gone.rk),
c AS (DELETE FROM public.search_number s USING gone WHERE s.rk = gone.rk), d AS (DELETE FROM public.search_text s USING gone WHERE s.rk = gone.rk),
e AS (DELETE FROM public.search_position s USING gone WHERE s.rk = gone.rk)
DELETE FROM public.search_composite s USING gone WHERE s.rk = gone.rk`

// unindexSides queues the end of the rows of values of a version.
func (tx *Tx) unindexSides(rk int64, old *Version) {
	tx.exec(sqlUnindexSides, rk)
	if bytes.Contains(old.Content, []byte(`"contained"`)) { // the others, nearly all, are spared the look
		tx.exec(sqlUnindexContained, rk)
	}
}

const sqlUnindex = `DELETE FROM public.search_index WHERE rk = $1`
