package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"kiln/internal/bench"
	"kiln/internal/config"
	"kiln/internal/embedpg"
)

type benchCmd struct {
	config.Common `embed:""`
	DatabaseURL   config.DatabaseURL `name:"database-url" env:"KILN_BENCH_DATABASE_URL" placeholder:"URL" help:"Database of a role that may create others; the ones measured are named kiln_bench_N and kept for the next run. None: a PostgreSQL of its own."`
	DataDir       string             `name:"data-dir" placeholder:"DIR" help:"Folder of that PostgreSQL, to keep it. None: a temporary one."`
	PostgresDir   string             `name:"postgres-dir" env:"KILN_POSTGRES_DIR" placeholder:"DIR" help:"Folder with the programs postgres and initdb."`
	Scale         []int              `name:"scale" sep:"," default:"10000" placeholder:"N" help:"Resources that are there before measuring. Several: searches are compared between the first and the last."`
	Synthea       string             `name:"synthea" default:"../shared/data/synthea" placeholder:"DIR" help:"Synthea bundles to make resources of. Absent: the demo data."`
	Only          []string           `name:"only" sep:"," enum:"read,auth,write,transaction,search,import,validation" placeholder:"GROUP" help:"Measure only these: read, auth, write, transaction, search, import, validation."`
	Match         string             `name:"match" placeholder:"TEXT" help:"Of these, measure only what has this in its name."`
	Clients       []int              `name:"clients" sep:"," default:"1,8,32" placeholder:"N" help:"Numbers of parallel clients."`
	Slice         time.Duration      `name:"slice" default:"500ms" placeholder:"TIME" help:"How long one server is measured before it is the other's turn."`
	Turns         int                `name:"turns" default:"6" placeholder:"N" help:"Turns of each."`
	Ceiling       bool               `name:"ceiling" hidden:"" help:"Be the server to compare with."`
	Addr          string             `name:"addr" hidden:""`
}

// Run measures and writes a report in markdown to standard output.
func (c *benchCmd) Run(ctx context.Context, stdout io.Writer) error {
	if c.Ceiling {
		return bench.ServeCeiling(ctx, string(c.DatabaseURL), c.Addr)
	}
	defer suitCollector(importing)() // it imports in this process
	command := "kiln " + strings.Join(os.Args[1:], " ")
	url := string(c.DatabaseURL)
	if url != "" {
		command = strings.ReplaceAll(command, url, c.DatabaseURL.String())
	} else {
		dir := c.DataDir
		if dir == "" {
			var err error
			if dir, err = os.MkdirTemp("", "kiln-bench-"); err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			if err := os.Chmod(dir, 0o711); err != nil { // the account of the database must get to its folder
				return err
			}
		}
		own, err := embedpg.Start(ctx, embedpg.Options{DataDir: dir, BinDir: c.PostgresDir, Fetch: true, Logger: c.Logger()})
		if err != nil {
			return err
		}
		defer func() {
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			own.Stop(end)
		}()
		url = own.URL()
	}
	err := bench.Run(ctx, bench.Options{
		DatabaseURL: url, Scales: c.Scale, Synthea: c.Synthea, Only: c.Only, Match: c.Match, Workers: c.Clients, Slice: c.Slice, Turns: c.Turns,
		Command: command, Out: stdout, Progress: os.Stderr,
	})
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}
