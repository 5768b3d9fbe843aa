package load

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// file is one file to import.
type file struct {
	path string
	// named says that the user named this file and did not find it in a folder: then it must be FHIR.
	named bool
	hash  [sha256.Size]byte
	size  int64 // decompressed
	phase phase
	// group is the folder whose prerequisites come before this file; "" for none.
	group string
	lines bool // NDJSON
	fhir  bool // it has a resourceType at all
}

// phase is when a file goes in: what others refer to comes first.
type phase int

const (
	hospitals phase = iota
	practitioners
	actors // files of nothing but organizations, locations and the people who work there
	everything
	visits // files of nothing but appointments, which look at patients and Coverages
	times  // files of nothing but Slots: those that appointments keep busy are no longer free for them
)

// find lists the files below the paths.
func find(paths []string) ([]*file, error) {
	var files []*file
	seen := map[string]bool{}
	add := func(path string, named bool) {
		if !seen[path] {
			seen[path] = true
			files = append(files, &file{path: path, named: named})
		}
	}
	for _, root := range paths {
		root = filepath.Clean(root)
		info, err := os.Stat(root)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			add(root, true)
			continue
		}
		err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && format(path) != "" {
				add(path, false)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, errors.New("there are no .json, .ndjson or .gz files of these")
	}
	return files, nil
}

// format is json or ndjson by the name of a file, or "".
func format(path string) string {
	switch filepath.Ext(strings.TrimSuffix(strings.ToLower(path), ".gz")) {
	case ".json":
		return "json"
	case ".ndjson", ".jsonl":
		return "ndjson"
	}
	return ""
}

// open reads a file decompressed, whatever its name says.
func (f *file) open() (io.ReadCloser, error) {
	in, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	var magic [2]byte
	n, err := in.ReadAt(magic[:], 0)
	if err != nil && err != io.EOF {
		in.Close()
		return nil, err
	}
	if n < 2 || magic != [2]byte{0x1f, 0x8b} {
		return in, nil
	}
	unzip, err := gzip.NewReader(in)
	if err != nil {
		in.Close()
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{unzip, in}, nil
}

// inspect reads a file once: its hash, its size and the types in it.
func (f *file) inspect(ctx context.Context) error {
	in, err := f.open()
	if err != nil {
		return err
	}
	defer in.Close()
	sum := sha256.New()
	types := typeScanner{found: map[string]bool{}}
	buf := make([]byte, 256<<10)
	for err == nil {
		var n int
		n, err = in.Read(buf)
		sum.Write(buf[:n])
		types.write(buf[:n])
		f.size += int64(n)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if err != io.EOF {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	sum.Sum(f.hash[:0])
	f.lines = format(f.path) == "ndjson"
	f.fhir = len(types.found) > 0
	f.phase = phaseOf(filepath.Base(f.path), types.found)
	return nil
}

var actorTypes = []string{"Bundle", "Organization", "Location", "Practitioner", "PractitionerRole", "HealthcareService", "Endpoint"}

var visitTypes = []string{"Appointment", "AppointmentResponse"}

func phaseOf(name string, types map[string]bool) phase {
	switch lower := strings.ToLower(name); {
	case strings.Contains(lower, "hospitalinformation"):
		return hospitals
	case strings.Contains(lower, "practitionerinformation"):
		return practitioners
	}
	only := func(list []string) bool {
		for typ := range types {
			if !slices.Contains(list, typ) {
				return false
			}
		}
		return true
	}
	switch {
	case only(actorTypes):
		return actors
	case only(visitTypes):
		return visits
	case only([]string{"Slot"}):
		return times
	}
	return everything
}

// typeScanner looks for "resourceType":"X" in a stream, without parsing it.
type typeScanner struct {
	found map[string]bool
	// data is what the last write looked at; of it the end is looked at again.
	data []byte
}

var typeMember = []byte(`"resourceType"`)

const typeWindow = 128 // longer than the member with any type's name

func (s *typeScanner) write(p []byte) {
	tail := copy(s.data, s.data[max(0, len(s.data)-typeWindow-len(typeMember)):])
	s.data = append(s.data[:tail], p...)
	for rest := s.data; ; {
		i := bytes.Index(rest, typeMember)
		if i < 0 {
			break
		}
		rest = rest[i+len(typeMember):]
		value := bytes.TrimLeft(rest[:min(len(rest), typeWindow)], " \t\r\n:")
		if len(value) > 0 && value[0] == '"' {
			if end := bytes.IndexByte(value[1:], '"'); end > 0 && !s.found[string(value[1:1+end])] {
				s.found[string(value[1:1+end])] = true
			}
		}
	}
}

// stages sorts the files into stages: all of one are in before the next begins. A folder with prerequisites of its own
// is loaded as a whole before the next one, so that two data sets side by side do not mix; files that belong to no such
// folder go in around them.
func stages(files []*file) [][]*file {
	own := map[string]bool{}
	for _, f := range files {
		if f.phase <= practitioners {
			own[filepath.Dir(f.path)] = true
		}
	}
	for _, f := range files {
		for dir := filepath.Dir(f.path); ; dir = filepath.Dir(dir) {
			if own[dir] {
				f.group = dir
				break
			}
			if dir == filepath.Dir(dir) || dir == "." {
				break
			}
		}
	}
	key := func(f *file) (string, phase) {
		if f.group == "" && f.phase >= everything {
			return "\U0010FFFF", f.phase
		}
		return f.group, f.phase
	}
	slices.SortFunc(files, func(a, b *file) int {
		ga, pa := key(a)
		gb, pb := key(b)
		if c := strings.Compare(ga, gb); c != 0 {
			return c
		}
		if pa != pb {
			return int(pa - pb)
		}
		return strings.Compare(a.path, b.path)
	})
	var list [][]*file
	for i, f := range files {
		if i > 0 {
			ga, pa := key(files[i-1])
			if gb, pb := key(f); ga == gb && pa == pb {
				list[len(list)-1] = append(list[len(list)-1], f)
				continue
			}
		}
		list = append(list, []*file{f})
	}
	return list
}
