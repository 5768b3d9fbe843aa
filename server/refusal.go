package server

import (
	"bytes"
	"net"
	"strconv"

	"kiln/fhir"
)

// Refusing wraps a listener so that what net/http refuses by itself, before any handler sees it, comes as an
// OperationOutcome too and never as a 5xx: a request line or header that cannot be read, a head that is too large, a
// transfer coding or version of HTTP that does not exist.
func Refusing(l net.Listener) net.Listener { return refusing{l} }

type refusing struct{ net.Listener }

func (l refusing) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &refusingConn{c}, nil
}

type refusingConn struct{ net.Conn }

// CloseWrite lets net/http end an answer and still give the client the time to read it.
func (c *refusingConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// These begin what net/http writes in one piece without a handler. No answer of ours has just these headers, nor the
// status 417.
var (
	statusPrefix    = []byte("HTTP/1.1 ")
	refusalHeaders  = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")
	badExpectStatus = []byte("417 ")
)

func (c *refusingConn) Write(p []byte) (int, error) {
	rest, answer := bytes.CutPrefix(p, statusPrefix)
	if !answer {
		return c.Conn.Write(p)
	}
	line := bytes.IndexByte(rest, '\r')
	if line < 0 || !bytes.HasPrefix(rest[line:], refusalHeaders) && !bytes.HasPrefix(rest, badExpectStatus) {
		return c.Conn.Write(p)
	}
	if _, err := c.Conn.Write(refusal(string(rest[:min(line, 3)]))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// refusal is the whole answer in place of one of net/http's with the status code given.
func refusal(code string) []byte {
	status, issue, text := "400 Bad Request", fhir.CodeStructure, "This is not a request that HTTP/1.1 knows: its first line or a header is malformed"
	switch code {
	case "431":
		status, issue, text = "431 Request Header Fields Too Large", fhir.CodeTooLong, "The address and the headers together are larger than "+sizeText(maxHeaderBytes)+
			"; send search parameters by POST to _search"
	case "417":
		status, issue, text = "417 Expectation Failed", fhir.CodeNotSupported, "Of Expect only 100-continue is known here"
	case "501":
		issue, text = fhir.CodeNotSupported, "This Transfer-Encoding is not known here; send the body plain or chunked"
	case "505":
		issue, text = fhir.CodeNotSupported, "This version of HTTP is not known here; send HTTP/1.1"
	}
	outcome := fhir.OperationOutcome(fhir.Issue{Severity: fhir.SeverityError, Code: issue, Text: text})
	body := outcome.JSON()
	head := "HTTP/1.1 " + status + "\r\nContent-Type: " + jsonFormat.contentType[0] + "\r\nContent-Length: " + strconv.Itoa(len(body)) +
		"\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Request-Id: " + randomID() + "\r\nConnection: close\r\n\r\n"
	return append([]byte(head), body...)
}
