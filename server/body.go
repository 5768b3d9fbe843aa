package server

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"kiln/fhir"
)

// buffers are reused for bodies and answers. What grew beyond keepBuffer is left to the garbage collector.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const keepBuffer = 1 << 20

func getBuffer() *bytes.Buffer { return buffers.Get().(*bytes.Buffer) }

func putBuffer(b *bytes.Buffer) {
	if b.Cap() <= keepBuffer {
		b.Reset()
		buffers.Put(b)
	}
}

// readBody reads the whole body into buf, unpacked. It refuses early what is too large, and waits for no slow client
// longer than the limits allow.
//
// Errors: TooLarge, UnsupportedMedia, Invalid; errSlowBody beneath one that came too slowly.
func (x *exchange) readBody(buf *bytes.Buffer, limit int64) error {
	if x.r.ContentLength > limit {
		return tooLarge(limit)
	}
	paced := &pacedReader{
		from:        http.MaxBytesReader(x.w, x.r.Body, limit),
		started:     time.Now(),
		grace:       x.s.limits.BodyGrace,
		rate:        x.s.limits.MinRate,
		setDeadline: x.limitReading,
	}
	var from io.Reader = paced
	total := x.r.ContentLength
	switch coding := strings.ToLower(strings.TrimSpace(x.r.Header.Get("Content-Encoding"))); coding {
	case "", "identity":
	case "gzip", "x-gzip":
		unpack, err := gzip.NewReader(paced)
		if err != nil {
			return bodyError(err, limit)
		}
		from, total = &cappedReader{from: unpack, left: limit}, -1
	default:
		x.header.Set("Accept-Encoding", "gzip")
		return fhir.NewError(fhir.UnsupportedMedia, fhir.CodeNotSupported,
			"The Content-Encoding "+quoteInput(coding)+" is not taken; send the body plain or as gzip")
	}
	if err := readAll(buf, from, total); err != nil {
		return bodyError(err, limit)
	}
	x.owed = false
	x.limitReading(time.Time{}) // from now on the client waits for us
	return nil
}

// readAll reads from into buf. Once the first part of a large body is really here it makes room for all of it: neither
// a copy at each doubling, nor memory on the strength of a Content-Length alone.
func readAll(buf *bytes.Buffer, from io.Reader, total int64) error {
	const firstPart = 64 << 10
	for {
		switch missing := total - int64(buf.Len()); {
		case missing > 0 && (total <= firstPart || buf.Len() >= firstPart):
			buf.Grow(int(missing) + 1) // one more byte, for the read that finds the end
		default:
			buf.Grow(bytes.MinRead)
		}
		free := buf.AvailableBuffer()
		n, err := from.Read(free[:cap(free)])
		buf.Write(free[:n])
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

var errTooLarge = errors.New("server: body unpacks to more than the limit")

// cappedReader fails once more than left bytes have come, which keeps a small gzip body from filling the memory.
type cappedReader struct {
	from io.Reader
	left int64
}

func (c *cappedReader) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return n, errTooLarge
	}
	return n, err
}

// pacedReader moves the connection's read deadline along with the bytes that come: a grace period, then a second for
// each rate bytes.
type pacedReader struct {
	from        io.Reader
	setDeadline func(time.Time)
	started     time.Time
	grace       time.Duration
	rate        int64
	read, armed int64
}

func (p *pacedReader) Read(b []byte) (int, error) {
	if p.armed == 0 || p.read-p.armed >= p.rate {
		p.armed = max(p.read, 1)
		p.setDeadline(p.started.Add(p.grace + time.Duration(p.read/p.rate)*time.Second))
	}
	n, err := p.from.Read(b)
	p.read += int64(n)
	return n, err
}

func bodyError(err error, limit int64) error {
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over), errors.Is(err, errTooLarge):
		return tooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fhir.NewError(fhir.Invalid, "timeout", "The body did not arrive in time").
			Because(fmt.Errorf("%w: %w", errSlowBody, err))
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		return fhir.NewError(fhir.Invalid, fhir.CodeStructure, "The body is not the gzip that its Content-Encoding says").Because(err)
	}
	return fhir.NewError(fhir.Invalid, fhir.CodeStructure,
		"The body could not be read to its end; it is cut off or damaged").Because(err)
}

func tooLarge(limit int64) *fhir.Error {
	return fhir.NewError(fhir.TooLarge, fhir.CodeTooLong, "The body is larger than the limit of "+sizeText(limit)+
		" that holds here; send less at once").Coded("body-too-large")
}

func sizeText(n int64) string {
	if n >= 1<<20 && n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}
