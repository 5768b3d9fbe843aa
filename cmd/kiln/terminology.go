package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/internal/config"
	"kiln/internal/publisher"
	"kiln/storage/terminology"
)

type terminologyCmd struct {
	Load terminologyLoadCmd `cmd:"" help:"Load a code system from its publisher's files, or FHIR packages; safe to repeat."`
}

type terminologyLoadCmd struct {
	config.Common   `embed:""`
	config.Database `embed:"" group:"Database"`
	System          string   `name:"system" required:"" enum:"loinc,snomed,rxnorm,icd10cm,fhir" help:"What the files are of: loinc, snomed (RF2 snapshot), rxnorm (RRF), icd10cm (order file, tabular list), or fhir (CodeSystem, ValueSet, ConceptMap and Bundle as JSON, packages)."`
	Version         string   `name:"version" placeholder:"VERSION" help:"Version of the release, where its files do not say."`
	Paths           []string `arg:"" name:"file" type:"existingpath" help:"Files, zips and folders, as the publisher gives them out."`
}

// Run loads the files and tells how much it was.
func (c *terminologyLoadCmd) Run(ctx context.Context, stdout io.Writer) error {
	log := c.Logger()
	database, err := openMigrated(ctx, c.Database, true, log)
	if err != nil {
		return err
	}
	defer database.close(log)
	conn, err := pgx.Connect(ctx, database.url)
	if err != nil {
		return fmt.Errorf("terminology load: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if c.System == "fhir" {
		return c.loadFHIR(ctx, conn, stdout)
	}
	release, err := publisher.Open(c.System, c.Version, c.Paths...)
	if err != nil {
		return fmt.Errorf("terminology load: %w", err)
	}
	defer release.Close()
	return loadSystem(ctx, conn, release, stdout)
}

// loadSystem loads one code system and says so.
func loadSystem(ctx context.Context, conn *pgx.Conn, source terminology.Source, stdout io.Writer) error {
	about := source.About()
	name := about.GetText("url") + " " + about.GetText("version")
	began, told := time.Now(), time.Now()
	count, already, err := terminology.Load(ctx, conn, source, func(concepts int) {
		if time.Since(told) > 5*time.Second {
			told = time.Now()
			fmt.Fprintf(os.Stderr, "%s: %d concepts\n", name, concepts)
		}
	})
	switch {
	case err != nil:
		return fmt.Errorf("terminology load: %s: %w; nothing of it was kept, the same command begins again", name, err)
	case already:
		fmt.Fprintf(stdout, "%s is loaded already\n", name)
	default:
		fmt.Fprintf(stdout, "loaded %s: %d concepts in %.1f s\n", name, count, time.Since(began).Seconds())
	}
	return nil
}

// loadFHIR loads what FHIR files and packages hold. Supplements and code systems without concepts load too: the server
// can then say what it has not.
func (c *terminologyLoadCmd) loadFHIR(ctx context.Context, conn *pgx.Conn, stdout io.Writer) error {
	sets, maps := 0, 0
	err := publisher.EachResource(ctx, c.Paths, func(n *fhir.Node, sum []byte) error {
		switch n.ResourceType() {
		case "CodeSystem":
			if n.GetText("url") == "" {
				return fmt.Errorf("CodeSystem/%s has no url", n.ID())
			}
			return loadSystem(ctx, conn, terminology.Whole{Node: n, Digest: sum}, stdout)
		case "ValueSet":
			sets++
		default:
			maps++
		}
		return terminology.LoadDefinition(ctx, conn, n)
	})
	if err != nil {
		return fmt.Errorf("terminology load: %w", err)
	}
	fmt.Fprintf(stdout, "loaded %d value sets and %d concept maps\n", sets, maps)
	return nil
}
