// Command kiln-protobuf turns the NDJSON of kiln export into Google's FHIR protocol buffers, for pipelines with typed
// access: each resource is a google.fhir.r4.core.ContainedResource with its length, as a varint, in front.
//
//	kiln export --out - | kiln-protobuf > all.pb
//
// It is a program of its own since its library is a third of kiln's size: docs/adr/0011-json-schema-and-protos.md.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/google/fhir/go/fhirversion"
	"github.com/google/fhir/go/jsonformat"
	"google.golang.org/protobuf/encoding/protodelim"

	"kiln/fhir"
)

// maxLine is the longest line that is read: KILN_MAX_RESOURCE_BYTES can be larger, but not by default.
const maxLine = 64 << 20

func main() {
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "usage: kiln export --out - | kiln-protobuf > FILE")
		os.Exit(80)
	}
	out := bufio.NewWriter(os.Stdout)
	c, err := convert(os.Stdin, out, os.Stderr)
	if flush := out.Flush(); err == nil {
		err = flush
	}
	fmt.Fprintf(os.Stderr, "%d resources, %d of them not told exactly by the protocol buffers, %d left out\n", c.written, c.inexact, c.failed)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kiln-protobuf:", err)
	}
	if err != nil || c.failed > 0 {
		os.Exit(1)
	}
}

// counts tells what became of the lines.
type counts struct {
	written int
	// inexact are those that come back from the protocol buffers as other JSON: with another precision, or without what
	// they do not know. They are written all the same.
	inexact int
	failed  int
}

// convert writes the lines of in to out. Of a line that cannot be converted it tells log the number and the type: the
// library's own message could repeat what is in the resource.
func convert(in io.Reader, out, log io.Writer) (c counts, err error) {
	// Kiln has checked what it exports.
	from, err := jsonformat.NewUnmarshallerWithoutValidation("UTC", fhirversion.R4)
	if err != nil {
		return c, err
	}
	from.MaxNestingDepth = fhir.MaxDepth
	back, err := jsonformat.NewMarshaller(false, "", "", fhirversion.R4)
	if err != nil {
		return c, err
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		node, err := fhir.ParseJSON(line) // the library reads what is no FHIR, such as a name twice
		if err != nil {
			c.failed++
			fmt.Fprintf(log, "line %d is not the JSON of a resource\n", n)
			continue
		}
		resource, err := from.UnmarshalR4(line)
		if err != nil {
			c.failed++
			fmt.Fprintf(log, "line %d: a %.64q cannot be told by protocol buffers\n", n, node.ResourceType())
			continue
		}
		if text, err := back.Marshal(resource); err != nil || !same(node, text) {
			c.inexact++
		}
		if _, err := protodelim.MarshalTo(out, resource); err != nil {
			return c, err
		}
		c.written++
	}
	if err := lines.Err(); err != nil {
		return c, fmt.Errorf("read the lines: %w", err)
	}
	return c, nil
}

func same(n *fhir.Node, text []byte) bool {
	other, err := fhir.ParseJSON(text)
	return err == nil && n.Equal(other)
}
