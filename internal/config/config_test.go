package config

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite docs/settings.md")

type commands struct {
	Serve struct {
		Config `embed:""`
	} `cmd:""`
}

func parser(c *commands) (*kong.Kong, error) {
	return kong.New(c, append(Options(), kong.Name("kiln"))...)
}

func parse(args ...string) (*Config, error) {
	var c commands
	p, err := parser(&c)
	if err == nil {
		_, err = p.Parse(append([]string{"serve"}, args...))
	}
	return &c.Serve.Config, err
}

func settings(t *testing.T) []*kong.Flag {
	p, err := parser(&commands{})
	if err != nil {
		t.Fatal(err)
	}
	var flags []*kong.Flag
	for _, f := range p.Model.Leaves(false)[0].Flags {
		if f.Name != "config" {
			flags = append(flags, f)
		}
	}
	return flags
}

func TestSettings_have_a_variable_and_a_help_text(t *testing.T) {
	for _, f := range settings(t) {
		if want := "KILN_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")); len(f.Envs) != 1 || f.Envs[0] != want {
			t.Errorf("--%s: environment %v, want %s", f.Name, f.Envs, want)
		}
		if f.Help == "" || f.Group == nil && !strings.HasPrefix(f.Name, "log-") {
			t.Errorf("--%s: help %q, group %v", f.Name, f.Help, f.Group)
		}
	}
}

func TestSettings_page_lists_every_setting(t *testing.T) {
	var table strings.Builder
	table.WriteString("| variable | flag | default | meaning |\n|---|---|---|---|\n")
	for _, f := range settings(t) {
		value := "(empty)"
		switch {
		case f.HasDefault:
			value = "`" + f.Default + "`"
		case f.IsBool():
			value = "`false`"
		}
		fmt.Fprintf(&table, "| `%s` | `--%s` | %s | %s |\n", f.Envs[0], f.Name, value, f.Help)
	}
	path := filepath.Join("..", "..", "docs", "settings.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- settings: go test ./internal/config -update -->\n", "<!-- end of settings -->"
	before, rest, ok1 := strings.Cut(string(page), begin)
	have, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the settings", path)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+table.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(table.String(), have); diff != "" {
		t.Errorf("docs/settings.md is out of date; run go test ./internal/config -update\n%s", diff)
	}
}

// TestStatement_timeout_ends_first makes a search that costs too much end with that word (422), and not as a request that
// took too long (503), which clients try again.
func TestStatement_timeout_ends_first(t *testing.T) {
	defaults := map[string]time.Duration{}
	for _, f := range settings(t) {
		if d, err := time.ParseDuration(f.Default); err == nil {
			defaults[f.Name] = d
		}
	}
	if s, r := defaults["statement-timeout"], defaults["request-timeout"]; s == 0 || s >= r {
		t.Errorf("a statement may take %s, a request %s", s, r)
	}
}

func TestPrecedence(t *testing.T) {
	t.Chdir(t.TempDir())
	other := filepath.Join(t.TempDir(), "other.json")
	write(t, other, `{"pool-size": 40, "postgres-fetch": false}`)
	for _, c := range []struct {
		name, file, env string
		args            []string
		want            int
	}{
		{"default", "", "", nil, 10},
		{"file_over_default", `{"pool-size": 20}`, "", nil, 20},
		{"named_file_over_file", `{"pool-size": 20}`, "", []string{"--config", other}, 40},
		{"environment_over_file", `{"pool-size": 20}`, "30", nil, 30},
		{"flag_over_environment", `{"pool-size": 20}`, "30", []string{"--pool-size=50"}, 50},
		{"empty_environment_is_none", `{"pool-size": 20}`, "", nil, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			os.Remove("kiln.json")
			if c.file != "" {
				write(t, "kiln.json", c.file)
			}
			t.Setenv("KILN_POOL_SIZE", c.env)
			DropEmpty()
			config, err := parse(c.args...)
			if err != nil {
				t.Fatal(err)
			}
			if config.PoolSize != c.want || config.PostgresFetch == (c.want == 40) {
				t.Errorf("pool size %d, want %d; fetch %v", config.PoolSize, c.want, config.PostgresFetch)
			}
		})
	}
}

func TestFile_mistakes(t *testing.T) {
	t.Chdir(t.TempDir())
	for content, want := range map[string]string{
		`{"pool-sise": 1}`:            `no setting "pool-sise"`,
		`{"pool-size": [1]}`:          `"pool-size" must be`,
		`pool-size: 1`:                "settings file",
		`{"max-body-bytes": "1 cup"}`: "not a size",
	} {
		write(t, "kiln.json", content)
		if _, err := parse(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", content, err, want)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestValidate(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct {
		args string
		want string // "" for accepted
	}{
		{"", ""},
		{"--addr=[::1]:0", ""},
		{"--addr=localhost:80", ""},
		{"--addr=127.1.2.3:80", ""},
		{"--auth=off --addr=:8080", "KILN_AUTH=off is refused"},
		{"--auth=off --addr=0.0.0.0:8080", "KILN_AUTH=off is refused"},
		{"--auth=off --addr=[::]:8080", "KILN_AUTH=off is refused"},
		{"--auth=off --addr=ehr.example.org:8080", "KILN_AUTH=off is refused"},
		{"--auth=off --addr=127.0.0.1:8080", ""},
		{"--addr=0.0.0.0:8080", ""}, // smart is the default
		{"--addr=8080", "KILN_ADDR"},
		{"--auth=none", "KILN_AUTH"},
		{"--base-url=https://ehr.example.org/", ""},
		{"--base-url=https://ehr.example.org/fhir", "KILN_BASE_URL"},
		{"--base-url=ehr.example.org", "KILN_BASE_URL"},
		{"--pool-size=0", "KILN_POOL_SIZE"},
		{"--max-page-size=10", "KILN_DEFAULT_PAGE_SIZE"},
		{"--max-body-bytes=0", "KILN_MAX_BODY_BYTES"},
		{"--time-zone=Mars/Base", "KILN_TIME_ZONE"},
		{"--database-url=host=db", "KILN_DATABASE_URL"},
	} {
		_, err := parse(strings.Fields(c.args)...)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.args, err, c.want)
		}
	}
}

func TestOrigin(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:8080": "http://localhost:8080",
		"[::1]:8080":     "http://[::1]:8080",
		"0.0.0.0:80":     "http://localhost",
		"10.1.2.3:8080":  "http://10.1.2.3:8080",
	} {
		tcp, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := (&HTTP{}).Origin(tcp); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	if got := (&HTTP{BaseURL: "https://ehr.example.org/"}).Origin(nil); got != "https://ehr.example.org" {
		t.Error(got)
	}
}

func TestDatabaseURL_hides_the_password(t *testing.T) {
	t.Chdir(t.TempDir())
	const secret = "hunter2"
	for _, text := range []string{
		"postgres://kiln:" + secret + "@db/kiln",
		"postgres://db/kiln?user=kiln&password=" + secret,
		"postgres://kiln:" + secret + "%zz@db/kiln",
		"mysql://kiln:" + secret + "@db/kiln",
	} {
		u := DatabaseURL(text)
		asJSON, _ := json.Marshal(u)
		var logged strings.Builder
		slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "url", u, "all", Database{DatabaseURL: u})
		t.Setenv("KILN_DATABASE_URL", text)
		config, err := parse()
		printed := fmt.Sprintln(u, errors.Join(err, errors.New("")), string(asJSON), logged.String()) +
			fmt.Sprintf("%v %+v %#v %s %q", config, *config, config, u, u)
		var help strings.Builder
		p, perr := parser(&commands{})
		if perr != nil {
			t.Fatal(perr)
		}
		p.Stdout, p.Exit = &help, func(int) { panic("exit") }
		func() {
			defer func() { recover() }()
			p.Parse([]string{"serve", "--help"})
		}()
		if help.Len() == 0 {
			t.Error("no help")
		}
		if strings.Contains(printed+help.String(), secret) {
			t.Errorf("the password shows in: %s%s", printed, help.String())
		}
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "64MiB": 64 << 20, "60 mb": 60e6, "16KiB": 16 << 10, "2GiB": 2 << 30, "12b": 12} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || int64(b) != want {
			t.Errorf("%s: %d, %v, want %d", text, b, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "9999999999GiB", "1 cup"} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%s: %d", text, b)
		}
	}
}

func TestProxies(t *testing.T) {
	h := HTTP{Proxies: []string{"10.0.3.9", "2001:db8::/32", "10.1.2.3/8"}}
	list, err := h.ProxyNetworks()
	if got := fmt.Sprint(list); err != nil || got != "[10.0.3.9/32 2001:db8::/32 10.0.0.0/8]" {
		t.Errorf("%s %v", got, err)
	}
	for _, wrong := range []string{"proxy.example.org", "10.0.3.0/33", ""} {
		h := HTTP{Addr: "127.0.0.1:8080", Auth: "smart", Proxies: []string{wrong}}
		if err := h.Validate(); err == nil || !strings.Contains(err.Error(), "KILN_PROXIES") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}
