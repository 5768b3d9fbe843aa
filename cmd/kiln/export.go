package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"kiln/auth"
	"kiln/internal/config"
	"kiln/internal/load"
	"kiln/resources"
	"kiln/storage"
)

type exportCmd struct {
	config.Config `embed:""`
	Types         []string `name:"type" sep:"," placeholder:"TYPE" help:"Resource types, such as Patient,Observation. None: all."`
	Out           string   `name:"out" required:"" placeholder:"DIR" help:"Folder for one file of each type, or - for standard output."`
}

// Run exports. The counts go to standard error where the resources go to standard output.
func (c *exportCmd) Run(ctx context.Context, stdout io.Writer) error {
	return offline(ctx, c.Config, func(store *storage.Store, _ *resources.Service) (err error) {
		what := "all types"
		if len(c.Types) > 0 {
			what = strings.Join(c.Types, ",")
		}
		if err := store.Audit(ctx, resources.NewAct(time.Now(), auth.Operator("kiln command"), resources.ActExport, what)); err != nil {
			return fmt.Errorf("export: %w", err)
		}
		var counts map[string]int
		report := stdout
		if c.Out == "-" {
			report = os.Stderr
			counts, err = load.ExportTo(ctx, store, c.Types, stdout)
		} else {
			counts, err = load.Export(ctx, store, c.Types, c.Out)
		}
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		for _, typ := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(report, "%7d %s\n", counts[typ], typ)
		}
		return nil
	})
}
