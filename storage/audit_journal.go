package storage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// auditBatch is one file of the journal: entries that are on their way to the database, as auditLines. Its name says whose it is and which of that owner's batches, OWNER-BATCH.log.
// The owner holds a lock on it for as long as it lives, so a file without a lock is what somebody left behind.
type auditBatch struct {
	folder, owner string
	number        int64
	file          *os.File
	size          int64
}

const (
	auditSuffix = ".log"
	// unnamedSuffix is that of a file that is not locked yet.
	unnamedSuffix = ".new"
)

func (b *auditBatch) path() string {
	return filepath.Join(b.folder, b.owner+"-"+strconv.FormatInt(b.number, 10)+auditSuffix)
}

// newAuditBatch makes an empty file and locks it. It has its name only once it is locked.
func newAuditBatch(folder, owner string, number int64) (*auditBatch, error) {
	b := &auditBatch{folder: folder, owner: owner, number: number}
	unnamed := b.path() + unnamedSuffix
	file, err := os.OpenFile(unnamed, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err = lockFile(file); err == nil {
		err = os.Rename(unnamed, b.path())
	}
	if err != nil {
		file.Close()
		os.Remove(unnamed)
		return nil, err
	}
	b.file = file
	return b, nil
}

func lockFile(file *os.File) (err error) {
	for {
		if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// append writes lines behind the others. They are there once it returns, whatever becomes of this process. What could
// not be written whole is taken out again.
func (b *auditBatch) append(lines []byte) error {
	n, err := b.file.WriteAt(lines, b.size)
	if err == nil {
		b.size += int64(n)
		return nil
	}
	return errors.Join(err, b.file.Truncate(b.size))
}

// renew empties the file, whose entries are in the database, and makes another batch of it.
func (b *auditBatch) renew(number int64) error {
	if err := b.file.Truncate(0); err != nil {
		return err
	}
	before := b.path()
	b.number, b.size = number, 0
	return os.Rename(before, b.path())
}

// remove takes the file away.
func (b *auditBatch) remove() error { return errors.Join(os.Remove(b.path()), b.file.Close()) }

// entries reads a file. The end of a last line may be missing: whoever wrote that had not told anybody that it was there.
func (b *auditBatch) entries() (*auditLines, error) {
	data, err := os.ReadFile(b.path())
	if err != nil {
		return nil, err
	}
	l := &auditLines{}
	for {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			return l, nil
		}
		data = rest
		recorded, _, err := parseAuditLine(string(line))
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, b.path())
		}
		begin := len(l.text)
		l.text = append(append(l.text, line...), '\n')
		l.note(begin, recorded, 1)
	}
}

// leftBatches locks the files that nobody holds and that have a batch's name, by owner in the order of their batches.
func leftBatches(folder string) (list []*auditBatch, err error) {
	found, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, entry := range found {
		name, is := strings.CutSuffix(entry.Name(), auditSuffix)
		owner, digits, _ := strings.Cut(name, "-")
		number, err := strconv.ParseInt(digits, 10, 64)
		if !is || err != nil {
			continue
		}
		b := &auditBatch{folder: folder, owner: owner, number: number}
		if b.file, err = os.OpenFile(b.path(), os.O_RDWR, 0); err != nil {
			continue // the owner has just renewed it, or taken it away
		}
		// A file may have got another name before it was locked: then it is somebody's.
		named, err := os.Stat(b.path())
		if err == nil {
			err = lockFile(b.file)
		}
		if mine, fault := b.file.Stat(); err != nil || fault != nil || !os.SameFile(named, mine) {
			b.file.Close()
			continue
		}
		list = append(list, b)
	}
	slices.SortFunc(list, func(x, y *auditBatch) int {
		if x.owner != y.owner {
			return strings.Compare(x.owner, y.owner)
		}
		return int(x.number - y.number)
	})
	return list, nil
}
