package publisher

import (
	"archive/zip"
	"bufio"
	"crypto/sha256"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// MaxFile is how many bytes one file may unpack to.
const MaxFile = 8 << 30

// maxLine is the longest line of a table.
const maxLine = 4 << 20

// file is a file somewhere: in a folder, in a zip, or by itself.
type file struct {
	name string
	open func() (io.ReadCloser, error)
}

// files are the files of a release.
type files struct {
	list   []file
	closer []io.Closer
}

// openFiles lists what the paths hold: files, zips and folders.
func openFiles(paths []string) (*files, error) {
	f := &files{}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		switch {
		case info.IsDir():
			err = filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				return f.add(p)
			})
		default:
			err = f.add(path)
		}
		if err != nil {
			f.close()
			return nil, err
		}
	}
	slices.SortFunc(f.list, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return f, nil
}

func (f *files) add(path string) error {
	if strings.EqualFold(filepath.Ext(path), ".zip") {
		z, err := zip.OpenReader(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		f.closer = append(f.closer, z)
		for _, e := range z.File {
			if !e.FileInfo().IsDir() {
				f.list = append(f.list, file{filepath.ToSlash(filepath.Base(path)) + "/" + e.Name, e.Open})
			}
		}
		return nil
	}
	f.list = append(f.list, file{filepath.ToSlash(path), func() (io.ReadCloser, error) { return os.Open(path) }})
	return nil
}

func (f *files) close() {
	for _, c := range f.closer {
		c.Close()
	}
}

// find returns the files whose paths match.
func (f *files) find(pattern *regexp.Regexp) []file {
	var list []file
	for _, one := range f.list {
		if pattern.MatchString(one.name) {
			list = append(list, one)
		}
	}
	return list
}

// hash reads files and returns the hash of their names' ends and contents.
func hashOf(list ...file) ([]byte, error) {
	sum := sha256.New()
	for _, one := range list {
		err := one.read(func(r io.Reader) error {
			fmt.Fprintf(sum, "%s\x00", filepath.Base(one.name))
			_, err := io.Copy(sum, r)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return sum.Sum(nil), nil
}

var errTooLong = errors.New("it unpacks to more than it may")

// bounded fails when more than MaxFile bytes are read.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n, errTooLong
	}
	return n, err
}

func (f file) read(do func(io.Reader) error) error {
	r, err := f.open()
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	defer r.Close()
	if err := do(&bounded{r, MaxFile}); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	return nil
}

// lines calls do with every line of a file and its number.
func (f file) lines(do func(n int, line string) error) error {
	return f.read(func(r io.Reader) error {
		s := bufio.NewScanner(r)
		s.Buffer(make([]byte, 64<<10), maxLine)
		for n := 1; s.Scan(); n++ {
			line := strings.TrimSuffix(s.Text(), "\r")
			if n == 1 {
				line = strings.TrimPrefix(line, "\ufeff")
			}
			if err := do(n, line); err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
		}
		return s.Err()
	})
}

// row is a row of a table with named columns.
type row struct {
	columns map[string]int
	fields  []string
}

func (r *row) get(name string) string {
	if i, ok := r.columns[strings.ToLower(name)]; ok && i < len(r.fields) {
		return r.fields[i]
	}
	return ""
}

// need says which of the columns the table has not.
func (r *row) need(names ...string) error {
	for _, name := range names {
		if _, ok := r.columns[strings.ToLower(name)]; !ok {
			return fmt.Errorf("the column %s is missing", name)
		}
	}
	return nil
}

func header(fields []string) map[string]int {
	columns := map[string]int{}
	for i, f := range fields {
		columns[strings.ToLower(strings.TrimSpace(strings.TrimPrefix(f, "\ufeff")))] = i
	}
	return columns
}

// csv calls do with every row of a comma-separated table with a header. It must have the columns named.
func (f file) csv(need []string, do func(*row) error) error {
	return f.read(func(r io.Reader) error {
		b := bufio.NewReader(r)
		if mark, _ := b.Peek(3); string(mark) == "\ufeff" {
			b.Discard(3)
		}
		c := csv.NewReader(b)
		c.ReuseRecord, c.FieldsPerRecord, c.LazyQuotes = true, -1, true
		first, err := c.Read()
		if err != nil {
			return err
		}
		one := &row{columns: header(first)}
		if err := one.need(need...); err != nil {
			return err
		}
		for {
			if one.fields, err = c.Read(); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			if err := do(one); err != nil {
				line, _ := c.FieldPos(0)
				return fmt.Errorf("line %d: %w", line, err)
			}
		}
	})
}

// tsv is csv for tab-separated tables without quotes (RF2).
func (f file) tsv(need []string, do func(*row) error) error {
	one := &row{}
	return f.lines(func(n int, line string) error {
		if n == 1 {
			one.columns = header(strings.Split(line, "\t"))
			return one.need(need...)
		}
		if line == "" {
			return nil
		}
		one.fields = strings.Split(line, "\t")
		if len(one.fields) != len(one.columns) {
			return fmt.Errorf("it has %d fields, the header has %d", len(one.fields), len(one.columns))
		}
		return do(one)
	})
}
