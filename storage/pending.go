package storage

import (
	"context"
	"time"
)

// pendingEvery is how often the pending lists of the GIN indexes are merged into them.
const pendingEvery = time.Minute

// sqlMergePending merges them, as far as the tables are the server's own, and returns how many pages they had.
const sqlMergePending = `
SELECT coalesce(sum(gin_clean_pending_list(i.indexrelid)), 0) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
WHERE i.indrelid IN ('search_index'::regclass, 'search_composite'::regclass, 'search_text'::regclass, 'search_contained'::regclass, 'search_string_value'::regclass)
  AND m.amname = 'gin' AND pg_has_role(c.relowner, 'USAGE')`

// MergePending leaves the pending lists of the GIN indexes empty, and returns how many pages they had. Each search by a term reads the list
// to its end, so what the last writes left there costs all searches until so much is written that PostgreSQL merges it, or
// vacuums the table, which among many resources is far off.
func (s *Store) MergePending(ctx context.Context) (pages int64, err error) {
	err = s.pool.QueryRow(ctx, sqlMergePending).Scan(&pages)
	return pages, err
}
