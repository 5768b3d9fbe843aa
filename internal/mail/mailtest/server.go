// Package mailtest is a mail server for tests, which fails, hangs and lies as it is told to.
package mailtest

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Server is a mail server that answers as it is told to.
type Server struct {
	listener net.Listener
	TLS      *tls.Config
	Implicit bool
	// Answers replaces the answer to a command, by its first word; "hang" answers nothing, "drop" closes.
	Answers map[string]string
	NoTLS   bool
	down    atomic.Bool

	mu    sync.Mutex
	mails []string
	lines []string
}

// Serve starts one, which ends with the test.
func Serve(t testing.TB, change func(*Server)) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{listener: l, TLS: certificate(t), Answers: map[string]string{}}
	if change != nil {
		change(s)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				stop := context.AfterFunc(t.Context(), func() { c.Close() })
				defer stop()
				s.talk(c)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return s
}

// Port is where it listens, on 127.0.0.1.
func (s *Server) Port() int { return s.listener.Addr().(*net.TCPAddr).Port }

// Down makes it drop each new connection, or take mail again.
func (s *Server) Down(down bool) { s.down.Store(down) }

// Mails are those that it has taken, as they came.
func (s *Server) Mails() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

// Lines are the commands that it was given.
func (s *Server) Lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

func (s *Server) talk(c net.Conn) {
	if s.down.Load() {
		return
	}
	if s.Implicit {
		c = tls.Server(c, s.TLS)
	}
	r := bufio.NewReader(c)
	// say answers a command; it is false where the connection is over.
	say := func(command, answer string) bool {
		if other, ok := s.Answers[command]; ok {
			answer = other
		}
		switch answer {
		case "hang":
			io.Copy(io.Discard, r)
			return false
		case "drop":
			return false
		}
		fmt.Fprintf(c, "%s\r\n", answer)
		return true
	}
	if !say("connect", "220 here") {
		return
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		s.mu.Lock()
		s.lines = append(s.lines, line)
		s.mu.Unlock()
		word, _, _ := strings.Cut(strings.ToUpper(line), " ")
		ok := true
		switch word {
		case "EHLO":
			extensions := "250-ENHANCEDSTATUSCODES\r\n250-AUTH PLAIN\r\n250 8BITMIME"
			if !s.NoTLS && !s.Implicit {
				extensions = "250-STARTTLS\r\n" + extensions
			}
			ok = say(word, "250-here\r\n"+extensions)
		case "STARTTLS":
			if ok = say(word, "220 go"); ok {
				c = tls.Server(c, s.TLS)
				r = bufio.NewReader(c)
			}
		case "AUTH":
			ok = say(word, "235 2.7.0 welcome")
		case "DATA":
			if ok = say(word, "354 go"); ok {
				var b strings.Builder
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					if line == ".\r\n" {
						break
					}
					b.WriteString(line)
				}
				s.mu.Lock()
				s.mails = append(s.mails, b.String())
				s.mu.Unlock()
				ok = say("data", "250 2.0.0 taken")
			}
		case "QUIT":
			say(word, "221 bye")
			return
		default:
			ok = say(word, "250 2.0.0 fine")
		}
		if !ok {
			return
		}
	}
}

func certificate(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: pool}
}
