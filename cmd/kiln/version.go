package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// version is set by make build (-ldflags -X main.version=...).
var version string

// versionText is version or, in a binary built otherwise, what Go knows of the commit.
func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	if revision == "" {
		return info.Main.Version
	}
	return revision + dirty
}

type versionCmd struct{}

// Run prints the version of Kiln, of FHIR and of Go.
func (versionCmd) Run(stdout io.Writer) error {
	_, err := fmt.Fprintf(stdout, "kiln %s (FHIR 4.0.1, %s %s/%s)\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
