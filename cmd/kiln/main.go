// Command kiln is a FHIR R4 server on PostgreSQL, with the tools to fill and keep it. Each command has its own file;
// docs/settings.md lists the settings.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"kiln/internal/config"
)

// cli is the command line. A command is a struct with a Run method; it embeds the sections of the settings it uses.
type cli struct {
	Serve          serveCmd          `cmd:"" help:"Serve FHIR R4 over HTTP."`
	Migrate        migrateCmd        `cmd:"" help:"Look after the database schema."`
	Import         importCmd         `cmd:"" help:"Import bundles, NDJSON and single resources from files; safe to repeat."`
	Export         exportCmd         `cmd:"" help:"Export the current resources as NDJSON."`
	Seed           seedCmd           `cmd:"" help:"Load demo data: three patients with their stories, and a clinic at work."`
	VerifySchedule verifyScheduleCmd `cmd:"" help:"Recompute who is busy when, and say what is written otherwise."`
	VerifyAccess   verifyAccessCmd   `cmd:"" help:"Ask the questions of hostile clients, and say where an answer tells more than a read. Changes no resource; asks with a token of its own, which it revokes."`
	Client         clientCmd         `cmd:"" help:"Look after the apps and backend systems that may ask for access."`
	User           userCmd           `cmd:"" help:"Look after the people who may sign in."`
	Launch         launchCmd         `cmd:"" help:"Make a launch value, to launch an app from a script."`
	Token          tokenCmd          `cmd:"" help:"Print an access token for an operator."`
	Key            keyCmd            `cmd:"" help:"Look after the keys that sign id_tokens."`
	Audit          auditCmd          `cmd:"" help:"Look after the audit log."`
	Terminology    terminologyCmd    `cmd:"" help:"Load code systems of others: LOINC, SNOMED CT, RxNorm, ICD-10-CM."`
	Package        packageCmd        `cmd:"" help:"Install FHIR packages: profiles, extensions and terminology."`
	Bench          benchCmd          `cmd:"" help:"Measure this machine: Kiln beside a bare handler on the same PostgreSQL."`
	Version        versionCmd        `cmd:"" help:"Print the version."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for a clean end; from then on the next one ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run carries out one command line and returns the exit code: 0, 1 when the command failed, 80 when it was not
// understood.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	config.DropEmpty()
	exit := -1
	parser, err := kong.New(&cli{}, append(config.Options(),
		kong.Name("kiln"),
		kong.Description("A FHIR R4 server on PostgreSQL. Without settings it runs a PostgreSQL of its own in ./data."),
		kong.UsageOnError(),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exit = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindTo(stdout, (*io.Writer)(nil)),
	)...)
	if err != nil {
		fmt.Fprintln(stderr, "kiln:", err)
		return 1
	}
	command, err := parser.Parse(args)
	if exit >= 0 { // --help
		return exit
	}
	if err != nil {
		fmt.Fprintf(stderr, "kiln: %v\nkiln --help lists the commands and kiln COMMAND --help the settings.\n", err)
		return 80
	}
	if err := command.Run(); err != nil {
		fmt.Fprintln(stderr, "kiln:", err)
		return 1
	}
	return 0
}
