package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"kiln/internal/config"
	"kiln/internal/fhirpackage"
	"kiln/resources"
	"kiln/storage"
)

type packageCmd struct {
	Install packageInstallCmd `cmd:"" help:"Install the profiles, extensions, terminology and search parameters of FHIR packages; safe to repeat."`
	List    packageListCmd    `cmd:"" help:"List the packages that are installed."`
}

type packageInstallCmd struct {
	config.Config `embed:""`
	Paths         []string `arg:"" name:"file" type:"existingfile" help:"FHIR packages (.tgz), such as hl7.fhir.us.core-6.1.0.tgz."`
}

// Run installs the packages in the order given. A server that runs on the database checks by them within seconds.
func (c *packageInstallCmd) Run(ctx context.Context, stdout io.Writer) error {
	c.Validation = "lenient" // what its publisher got wrong beside the rules themselves keeps no package out
	return offline(ctx, c.Config, func(store *storage.Store, service *resources.Service) error {
		for _, path := range c.Paths {
			if err := installPackage(ctx, store, service, path, stdout); err != nil {
				return fmt.Errorf("package install: %s: %w", path, err)
			}
		}
		return nil
	})
}

func installPackage(ctx context.Context, store *storage.Store, service *resources.Service, path string, stdout io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := fhirpackage.Read(f)
	if err != nil {
		return err
	}
	result, err := fhirpackage.Install(ctx, service, store, p)
	if err != nil {
		return fmt.Errorf("%w; what is stored stays, and the same command goes on where it stopped", err)
	}
	fmt.Fprintf(stdout, "installed %s %s: %d resources stored, %d were here\n", p.Name, p.Version, result.Stored, result.Unchanged)
	if result.BuiltIn > 0 {
		fmt.Fprintf(stdout, "  built in already: %d SearchParameter\n", result.BuiltIn)
	}
	if len(result.Reindexed) > 0 {
		fmt.Fprintf(stdout, "  a server builds the index of what is stored: %s (GET [base]/$reindex-status)\n", strings.Join(result.Reindexed, ", "))
	}
	for _, r := range result.Refused {
		fmt.Fprintf(stdout, "  not installed: %s: %s\n", r.File, r.Reason)
	}
	var types []string
	for typ := range p.Skipped {
		types = append(types, typ)
	}
	slices.Sort(types)
	for _, typ := range types {
		fmt.Fprintf(stdout, "  not installed: %d %s\n", p.Skipped[typ], typ)
	}
	return nil
}

type packageListCmd struct {
	config.Config `embed:""`
}

// Run prints a line a package.
func (c *packageListCmd) Run(ctx context.Context, stdout io.Writer) error {
	return offline(ctx, c.Config, func(store *storage.Store, _ *resources.Service) error {
		list, err := store.Packages(ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		for _, p := range list {
			fmt.Fprintf(w, "%s\t%s\t%d resources\t%s\n", p.Name, p.Version, p.Resources, p.Installed.UTC().Format(time.RFC3339))
		}
		return w.Flush()
	})
}
