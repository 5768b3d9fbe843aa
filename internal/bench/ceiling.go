package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kiln/conformance"
	"kiln/storage"
)

// ServeCeiling is the bare handler that Kiln is compared with: the row work of each scenario, with rows made
// beforehand, and nothing else. It serves until ctx ends.
func ServeCeiling(ctx context.Context, databaseURL, addr string) error {
	c := &ceiling{}
	if err := c.open(ctx, databaseURL); err != nil {
		return err
	}
	defer c.pool.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	for pattern, handle := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /read": c.read, "POST /create": c.create, "PUT /update": c.update, "GET /search": c.search, "GET /identifier": c.identifier,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := handle(w, r); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: mux}
	context.AfterFunc(ctx, func() { srv.Close() })
	if err := srv.Serve(listener); err != http.ErrServerClosed {
		return err
	}
	return nil
}

type ceiling struct {
	pool     *pgxpool.Pool
	hash     storage.Hasher
	registry *conformance.Registry
	content  []byte
	number   int16
	inserts  []prebuilt
}

// prebuilt is a row of the template resource; its columns are text, but for rk.
type prebuilt struct {
	table, sql string
	values     []any
}

// indexTables are where the rows of a resource go, beside resource and resource_change.
var indexTables = []string{"search_index", "search_string", "search_date", "search_number", "search_composite", "search_text"}

const sqlColumns = `
SELECT array_agg(attname::text ORDER BY attnum), array_agg(format_type(atttypid, atttypmod) ORDER BY attnum) FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'rk'`

func (c *ceiling) open(ctx context.Context, databaseURL string) (err error) {
	if c.registry, err = conformance.R4(); err != nil {
		return err
	}
	store, err := storage.Open(ctx, storage.Options{URL: databaseURL, Registry: c.registry, PoolSize: 1, Unrestricted: true})
	if err != nil {
		return err
	}
	c.hash = store.Hasher()
	store.Close()
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return err
	}
	config.MaxConns = 10 // as Kiln has
	if c.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	c.number = c.registry.TypeNumber("Observation")
	var rk int64
	err = c.pool.QueryRow(ctx, `SELECT rk, content FROM resource WHERE type = 'Observation' AND content #>> '{valueQuantity,value}' IS NOT NULL LIMIT 1`).
		Scan(&rk, &c.content)
	if err != nil {
		return err
	}
	for _, table := range indexTables {
		if err := c.prebuild(ctx, table, rk); err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
	}
	return nil
}

func (c *ceiling) prebuild(ctx context.Context, table string, rk int64) error {
	var columns, types []string
	if err := c.pool.QueryRow(ctx, sqlColumns, table).Scan(&columns, &types); err != nil {
		return err
	}
	read, write := make([]string, len(columns)), make([]string, len(columns))
	for i, column := range columns {
		read[i], write[i] = column+"::text", fmt.Sprintf("$%d::text::%s", i+2, types[i])
	}
	sql := fmt.Sprintf("INSERT INTO %s (rk, %s) VALUES ($1, %s)", table, strings.Join(columns, ", "), strings.Join(write, ", "))
	rows, err := c.pool.Query(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE rk = $1", strings.Join(read, ", "), table), rk)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return err
		}
		c.inserts = append(c.inserts, prebuilt{table, sql, values})
	}
	return rows.Err()
}

const (
	ceilingRead   = `SELECT content FROM resource WHERE rk = $1 AND type = $2 AND id = $3`
	ceilingInsert = `INSERT INTO resource (rk, type, id, version, last_updated, method, content) VALUES ($1, 'Observation', $2, 1, now(), 'C', $3)`
	ceilingChange = `INSERT INTO resource_change (last_updated, type, rk, version) VALUES (now(), $1, $2, $3)`
	ceilingLock   = `SELECT version FROM resource WHERE rk = $1 FOR UPDATE`
	ceilingKeep   = `INSERT INTO resource_history (rk, version, last_updated, method, content) SELECT rk, version, last_updated, method, content FROM resource WHERE rk = $1`
	ceilingWrite  = `UPDATE resource SET version = version + 1, last_updated = now(), method = 'U', content = $2 WHERE rk = $1`
	ceilingSearch = `SELECT r.content FROM (SELECT rk, date_low FROM search_index WHERE patient = $1 AND type = $2 AND tokens @> $3
  ORDER BY date_low DESC, rk LIMIT 20) x JOIN resource r USING (rk) ORDER BY x.date_low DESC, rk`
	ceilingIdentifier = `SELECT r.content FROM search_index x JOIN resource r USING (rk) WHERE x.type = $1 AND x.refs @> $2 LIMIT 20`
)

func (c *ceiling) read(w http.ResponseWriter, r *http.Request) error {
	id := r.FormValue("id")
	var content []byte
	err := c.pool.QueryRow(r.Context(), ceilingRead, c.hash.Resource("Observation", id), "Observation", id).Scan(&content)
	if err == nil {
		_, err = w.Write(content)
	}
	return err
}

// create stores n resources in one transaction, in one round trip.
func (c *ceiling) create(w http.ResponseWriter, r *http.Request) error {
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	for range n {
		rk := rand.Int64()
		batch.Queue(ceilingInsert, rk, fmt.Sprintf("c%d", rk), c.content)
		batch.Queue(ceilingChange, c.number, rk, 1)
		for _, row := range c.inserts {
			batch.Queue(row.sql, append([]any{rk}, row.values...)...)
		}
	}
	if err := c.pool.SendBatch(r.Context(), batch).Close(); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	_, err := fmt.Fprintf(w, "made %d\n%s", n, c.content)
	return err
}

func (c *ceiling) update(w http.ResponseWriter, r *http.Request) error {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return err
	}
	rk := c.hash.Resource("Observation", r.URL.Query().Get("id"))
	return pgx.BeginFunc(r.Context(), c.pool, func(tx pgx.Tx) error {
		var version int
		if err := tx.QueryRow(r.Context(), ceilingLock, rk).Scan(&version); err != nil {
			return err
		}
		batch := &pgx.Batch{}
		batch.Queue(ceilingKeep, rk)
		batch.Queue(ceilingWrite, rk, c.content)
		batch.Queue(ceilingChange, c.number, rk, version+1)
		for _, table := range indexTables {
			batch.Queue("DELETE FROM "+table+" WHERE rk = $1", rk)
		}
		for _, row := range c.inserts {
			batch.Queue(row.sql, append([]any{rk}, row.values...)...)
		}
		if err := tx.SendBatch(r.Context(), batch).Close(); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "updated\n%s", c.content)
		return err
	})
}

func (c *ceiling) search(w http.ResponseWriter, r *http.Request) error {
	system, code := r.FormValue("system"), r.FormValue("code")
	folded := storage.FoldCode(code)
	if sensitive, known := c.registry.CaseSensitive(system); known && sensitive {
		folded = "=" + code
	}
	term := c.hash.Term(c.registry.SearchParameter("Observation", "code").Key, 's', system, folded)
	return c.rows(w, r, ceilingSearch, c.hash.Resource("Patient", r.FormValue("patient")), c.number, []int64{term})
}

func (c *ceiling) identifier(w http.ResponseWriter, r *http.Request) error {
	term := c.hash.Term(c.registry.SearchParameter("Patient", "identifier").Key, 's', r.FormValue("system"), storage.FoldCode(r.FormValue("value")))
	return c.rows(w, r, ceilingIdentifier, c.registry.TypeNumber("Patient"), []int64{term})
}

func (c *ceiling) rows(w http.ResponseWriter, r *http.Request, sql string, args ...any) error {
	rows, err := c.pool.Query(r.Context(), sql, args...)
	if err != nil {
		return err
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[json.RawMessage])
	if err != nil {
		return err
	}
	answer := []byte(`{"resourceType":"Bundle","type":"searchset","entry":[`)
	for i, content := range list {
		if i > 0 {
			answer = append(answer, ',')
		}
		answer = append(append(append(answer, `{"resource":`...), content...), '}')
	}
	_, err = w.Write(append(answer, "]}"...))
	return err
}
