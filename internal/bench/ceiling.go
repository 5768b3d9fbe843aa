package bench

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"kiln/conformance"
	"kiln/storage"
)

// ServeCeiling is the bare handler that Kiln is compared with: the row work of each scenario and nothing else, in as
// few round trips as it takes, with rows and statements made beforehand. A write does not read its body further than
// to store it. It serves until ctx ends.
func ServeCeiling(ctx context.Context, databaseURL, addr string) error {
	c := &ceiling{}
	if err := c.open(ctx, databaseURL); err != nil {
		return err
	}
	defer c.pool.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	for pattern, handle := range c.handlers() {
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

type handler = func(http.ResponseWriter, *http.Request) error

func (c *ceiling) handlers() map[string]handler {
	return map[string]handler{
		"GET /read": c.read, "POST /create": c.create, "PUT /update": c.update, "GET /search": c.search, "GET /identifier": c.identifier,
	}
}

type ceiling struct {
	pool     *pgxpool.Pool
	hash     storage.Hasher
	registry *conformance.Registry
	number   int16
	mu       sync.Mutex
	made     map[string]*template
}

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
	config.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	if c.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	c.number, c.made = c.registry.TypeNumber("Observation"), map[string]*template{}
	return nil
}

// template gives the rows of the Observation that the request says to make more of.
func (c *ceiling) template(r *http.Request) (*template, error) {
	like := r.URL.Query().Get("like")
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.made[like]
	if t == nil {
		var err error
		if t, err = readTemplate(r.Context(), c.pool, c.hash.Resource("Observation", like)); err != nil {
			return nil, err
		}
		c.made[like] = t
	}
	return t, nil
}

// bare says whether only the rows of the resource itself are to be written, and not those of its index.
func bare(r *http.Request) bool { return r.URL.Query().Get("rows") == "bare" }

const (
	ceilingRead   = `SELECT content FROM resource WHERE rk = $1 AND type = $2 AND id = $3`
	ceilingLock   = `SELECT FROM resource WHERE rk = $1 FOR UPDATE`
	ceilingChange = `
WITH h AS (
  INSERT INTO resource_history (rk, version, last_updated, method, content, type_number, compartments, labels)
  SELECT rk, version, last_updated, method, content, type_number, compartments, labels FROM resource WHERE rk = $1),
u AS (
  UPDATE resource SET version = version + 1, last_updated = now(), method = 'U', content = $2 WHERE rk = $1
  RETURNING last_updated, version)
INSERT INTO resource_change (last_updated, type, rk, version) SELECT last_updated, $3, $1, version FROM u`
	ceilingUnindex = `
WITH a AS (DELETE FROM search_string WHERE rk = $1), b AS (DELETE FROM search_date WHERE rk = $1),
c AS (DELETE FROM search_number WHERE rk = $1), d AS (DELETE FROM search_composite WHERE rk = $1),
e AS (DELETE FROM search_text WHERE rk = $1), f AS (DELETE FROM search_code WHERE rk = $1),
g AS (DELETE FROM search_identifier WHERE rk = $1), h AS (DELETE FROM search_position WHERE rk = $1)
DELETE FROM search_index WHERE rk = $1`
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

// pipeline sends statements at once, as one transaction, with values in PostgreSQL's own form.
type pipeline struct {
	conn  *pgx.Conn
	batch pgconn.Batch
}

func (p *pipeline) add(ctx context.Context, sql string, values ...[]byte) error {
	statement, err := p.conn.Prepare(ctx, sql, sql)
	if err == nil {
		p.batch.ExecPrepared(statement.Name, values, allBinary, allBinary)
	}
	return err
}

func (p *pipeline) run(ctx context.Context) error {
	return p.conn.PgConn().ExecBatch(ctx, &p.batch).Close()
}

// create stores one resource as it was sent in one statement, or n copies of the template by COPY in one transaction.
func (c *ceiling) create(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	t, err := c.template(r)
	if err != nil {
		return err
	}
	set := &t.all
	if bare(r) {
		set = &t.bare
	}
	conn, err := c.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if n == 1 {
		p := pipeline{conn: conn.Conn()}
		if err := p.add(ctx, set.insert, set.values(rand.Int64(), body)...); err != nil {
			return err
		}
		err = p.run(ctx)
	} else {
		keys := make([]int64, n)
		for i := range keys {
			keys[i] = rand.Int64()
		}
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return set.copy(ctx, tx.Conn().PgConn(), keys) })
		body = t.content
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, "made %d\n", n)
	for range n {
		w.Write(body)
	}
	return nil
}

// update stores the next version of a resource as it was sent, all in one round trip.
func (c *ceiling) update(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	t, err := c.template(r)
	if err != nil {
		return err
	}
	conn, err := c.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	rk := c.hash.Resource("Observation", r.URL.Query().Get("id"))
	key := binary.BigEndian.AppendUint64(nil, uint64(rk))
	p := pipeline{conn: conn.Conn()}
	err = p.add(ctx, ceilingLock, key)
	if err == nil {
		err = p.add(ctx, ceilingChange, key, append([]byte{1}, body...), binary.BigEndian.AppendUint16(nil, uint16(c.number)))
	}
	if err == nil && !bare(r) {
		if err = p.add(ctx, ceilingUnindex, key); err == nil {
			err = p.add(ctx, t.index.insert, t.index.values(rk, nil)...)
		}
	}
	if err == nil {
		err = p.run(ctx)
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "updated\n%s", body)
	}
	return err
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

// rows answers with a searchset that has no more than a client needs.
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
		answer = append(append(append(answer, `{"search":{"mode":"match"},"resource":`...), content...), '}')
	}
	_, err = w.Write(append(answer, "]}"...))
	return err
}
