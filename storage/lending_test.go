package storage_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"kiln/internal/kilntest"
	"kiln/storage"
)

// A Provenance that is written while its target moves, or appears, is the new patient's in the end, in all three tables.
func TestLending_at_the_same_time(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	url := kilntest.DB(t)
	s := openOn(t, url)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	put(t, s, `{"resourceType":"Device","id":"moves","patient":{"reference":"Patient/old"}}`)
	for target, now := range map[string]string{
		"Device/moves":   `{"resourceType":"Device","id":"moves","patient":{"reference":"Patient/new"}}`,
		"Device/appears": `{"resourceType":"Device","id":"appears","patient":{"reference":"Patient/new"}}`,
	} {
		p := prepare(t, s, `{"resourceType":"Provenance","id":"of-`+target[7:]+`","target":[{"reference":"`+target+`"}]}`)
		if err := s.Write(ctx, func(tx *storage.Tx) error {
			if err := tx.Inherit(ctx, p); err != nil {
				return err
			}
			tx.Insert(p, storage.MethodCreate)
			if err := tx.Flush(ctx); err != nil {
				return err
			}
			put(t, s, now) // by another transaction, which is over first
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	working, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); s.Work(working, func(err error) { t.Error(err) }) }()
	defer func() { stop(); <-done }()
	until(t, "nothing is due", func() (none bool) {
		if err := conn.QueryRow(ctx, "SELECT NOT EXISTS (SELECT FROM lending_due)").Scan(&none); err != nil {
			t.Fatal(err)
		}
		return none
	})
	for _, table := range []string{"resource", "search_index", "resource_change"} {
		var right int
		if err := conn.QueryRow(ctx, `SELECT count(*) FROM `+table+` x WHERE x.rk IN (SELECT rk FROM resource WHERE type = 'Provenance')
			AND x.compartments = (SELECT compartments FROM resource WHERE type = 'Device' AND id = 'appears')`).Scan(&right); err != nil || right != 2 {
			t.Errorf("%s: %d of 2 Provenances are the patient's: %v", table, right, err)
		}
	}
}

// Of what tells of versions nothing can be changed but whom they belong to and what keeps them from others.
func TestHistory_is_append_only(t *testing.T) {
	t.Parallel()
	url := kilntest.DB(t)
	put(t, openOn(t, url), `{"resourceType":"Patient","id":"a"}`)
	put(t, openOn(t, url), `{"resourceType":"Patient","id":"a","active":true}`)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	refused := func(sql string) bool {
		t.Helper()
		_, err := conn.Exec(t.Context(), sql)
		var pg *pgconn.PgError
		if err != nil && !errors.As(err, &pg) {
			t.Fatal(err)
		}
		return err != nil && pg.Code == "42501"
	}
	for _, table := range []string{"resource_change", "resource_history"} {
		rows, err := conn.Query(t.Context(), `SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped`, table)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(columns) < 8 {
			t.Fatalf("%v %v", columns, err)
		}
		for _, c := range columns {
			value := c
			if c == "seq" {
				value = "DEFAULT"
			}
			free := table == "resource_change" && slices.Contains([]string{"compartments", "labels"}, c)
			if got := refused("UPDATE " + table + " SET " + c + " = " + value); got == free {
				t.Errorf("%s.%s can be changed: %v", table, c, !got)
			}
		}
		for _, sql := range []string{"DELETE FROM " + table, "TRUNCATE " + table} {
			if !refused(sql) {
				t.Errorf("done: %s", sql)
			}
		}
	}
}
