package config

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// Options are what a kong parser needs to read the settings the way this package promises.
func Options() []kong.Option {
	return []kong.Option{kong.Configuration(load, "kiln.json"), kong.ValueFormatter(helpText)}
}

// helpText adds the default and the environment variable to a flag's help.
func helpText(v *kong.Value) string {
	var notes []string
	if v.HasDefault {
		notes = append(notes, "default "+v.Default)
	}
	for _, name := range v.Tag.Envs {
		notes = append(notes, "$"+name)
	}
	if len(notes) == 0 {
		return v.Help
	}
	return v.Help + " [" + strings.Join(notes, ", ") + "]"
}

// DropEmpty removes environment variables of Kiln that are set to nothing, so that they mean the same as absent ones.
func DropEmpty() {
	for _, pair := range os.Environ() {
		if name, value, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "KILN_") && value == "" {
			os.Unsetenv(name)
		}
	}
}

// load reads a settings file: one JSON object whose members are flags without their dashes, such as "log-level".
func load(r io.Reader) (kong.Resolver, error) {
	values := map[string]any{}
	decoder := json.NewDecoder(r)
	decoder.UseNumber()
	if err := decoder.Decode(&values); err != nil {
		return nil, fmt.Errorf("settings file: %w", err)
	}
	for name, value := range values {
		switch v := value.(type) {
		case string, bool:
		case json.Number:
			values[name] = v.String()
		default:
			return nil, fmt.Errorf("settings file: %q must be a string, a number, true or false", name)
		}
	}
	return file(values), nil
}

// file is the content of a settings file.
type file map[string]any

// Validate refuses names that no command has: they are spelling mistakes.
func (f file) Validate(app *kong.Application) error {
	known := map[string]bool{}
	for _, leaf := range app.Leaves(false) {
		for _, group := range leaf.AllFlags(false) {
			for _, flag := range group {
				known[flag.Name] = true
			}
		}
	}
	for name := range f {
		if !known[name] {
			return fmt.Errorf("settings file: there is no setting %q", name)
		}
	}
	return nil
}

// Resolve gives kong the value of a flag, unless the environment has one.
func (f file) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return nil, nil
		}
	}
	return f[flag.Name], nil
}
