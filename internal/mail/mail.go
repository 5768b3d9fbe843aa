// Package mail sends e-mail through a mail server (SMTP).
package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"kiln/resources"
)

// Options say which mail server to use.
type Options struct {
	Host string
	Port int
	// TLS is how the connection is encrypted: starttls (an upgrade that must succeed), tls from the first byte, or off.
	TLS            string
	User, Password string
	// From is the sender, such as Clinic <no-reply@example.org>.
	From string
	// Timeout is how long one mail may take; zero is 20 s.
	Timeout time.Duration
	// TLSConfig is for tests; nil trusts what the machine trusts.
	TLSConfig *tls.Config
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Sender sends mails, one connection each. It is safe for concurrent use.
type Sender struct {
	options Options
	from    *netmail.Address
	domain  string
}

// New checks the settings; it does not ask the server.
func New(o Options) (*Sender, error) {
	from, err := netmail.ParseAddress(o.From)
	if err != nil {
		return nil, errors.New("KILN_SMTP_FROM: want an address such as Clinic <no-reply@example.org>")
	}
	if o.Timeout == 0 {
		o.Timeout = 20 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	_, domain, _ := strings.Cut(from.Address, "@")
	s := &Sender{options: o, from: from, domain: domain}
	_, err = s.client()
	return s, err
}

func (s *Sender) client() (*mail.Client, error) {
	o := s.options
	list := []mail.Option{mail.WithPort(o.Port), mail.WithTimeout(o.Timeout), mail.WithoutNoop(), mail.WithoutRset()}
	switch o.TLS {
	case "tls":
		list = append(list, mail.WithSSL())
	case "off":
		list = append(list, mail.WithTLSPolicy(mail.NoTLS))
	default:
		list = append(list, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if o.TLSConfig != nil {
		list = append(list, mail.WithTLSConfig(o.TLSConfig))
	}
	if o.User != "" {
		list = append(list, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(o.User), mail.WithPassword(o.Password))
	}
	client, err := mail.NewClient(o.Host, list...)
	if err != nil {
		return nil, fmt.Errorf("KILN_SMTP: %w", err)
	}
	return client, nil
}

// Send sends one mail. What errors say tells nothing of the mail: the answers of mail servers repeat addresses.
//
// Errors: *resources.Refused where the server knows that there is no such address.
func (s *Sender) Send(ctx context.Context, m resources.Mail) error {
	msg, err := s.message(m)
	if err != nil {
		return err
	}
	client, err := s.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	connection, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return told("cannot be reached, or refuses to talk", err)
	}
	err = client.SendWithSMTPClient(connection, msg)
	// Whatever it answers to the goodbye, it has taken the mail or it has not.
	_ = client.CloseWithSMTPClient(connection)
	var failed *mail.SendError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failed) && failed.Reason == mail.ErrSMTPRcptTo && failed.ErrorCode() >= 550 && failed.ErrorCode() <= 553 &&
		!strings.HasPrefix(failed.EnhancedStatusCode(), "5.7."): // 5.7 is policy: what to change is here
		return &resources.Refused{Why: fmt.Sprintf("the mail server refuses the address (%d)", failed.ErrorCode())}
	case errors.As(err, &failed) && failed.ErrorCode() > 0:
		return fmt.Errorf("the mail server did not take it (%d %s)", failed.ErrorCode(), failed.EnhancedStatusCode())
	}
	return told("broke off", err)
}

// told says what went wrong with the mail server without what it answered.
func told(what string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		what = "does not answer in time"
	}
	return errors.New("the mail server " + what)
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (s *Sender) message(m resources.Mail) (*mail.Msg, error) {
	msg := mail.NewMsg()
	msg.FromMailAddress(s.from)
	// ParseAddress refuses what would add a header or a second recipient.
	to, err := netmail.ParseAddress(m.To)
	if err != nil || to.Address != strings.TrimSpace(m.To) {
		return nil, &resources.Refused{Why: "the address is none"}
	}
	msg.ToMailAddress(to)
	msg.Subject(m.Subject)
	msg.SetMessageIDWithValue(m.ID + "@" + s.domain)
	msg.SetDateWithValue(s.options.Now())
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader("Content-Language", m.Language)
	msg.SetBodyString(mail.TypeTextPlain, m.Body)
	return msg, nil
}
