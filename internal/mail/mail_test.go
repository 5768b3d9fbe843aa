package mail_test

import (
	"crypto/tls"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	netmail "net/mail"
	"strings"
	"testing"
	"time"

	"kiln/internal/mail"
	"kiln/internal/mail/mailtest"
	"kiln/resources"
)

func sender(t *testing.T, s *mailtest.Server, change func(*mail.Options)) *mail.Sender {
	t.Helper()
	o := mail.Options{Host: "127.0.0.1", Port: s.Port(), TLS: "starttls", From: "Clinic <no-reply@clinic.example>", User: "kiln", Password: "s3cret", Timeout: time.Minute,
		TLSConfig: &tls.Config{RootCAs: s.TLS.RootCAs, ServerName: "localhost"}}
	if change != nil {
		change(&o)
	}
	sender, err := mail.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return sender
}

var letter = resources.Mail{ID: "0198c5f0-0000-5000-8000-000000000001", To: "ada@example.org", Language: "fr", Subject: "Rendez-vous confirmé",
	Body: "Le rendez-vous est confirmé.\n.\nFin\n"}

func TestSend_what_arrives_is_what_was_sent(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"starttls", "tls", "off"} {
		s := mailtest.Serve(t, func(s *mailtest.Server) { s.Implicit, s.NoTLS = mode == "tls", mode == "off" })
		if err := sender(t, s, func(o *mail.Options) {
			if o.TLS = mode; mode == "off" {
				o.User = ""
			}
		}).Send(t.Context(), letter); err != nil {
			t.Fatal(mode, err)
		}
		if len(s.Mails()) != 1 {
			t.Fatalf("%s: %d mails", mode, len(s.Mails()))
		}
		m, err := netmail.ReadMessage(strings.NewReader(s.Mails()[0]))
		if err != nil {
			t.Fatal(err)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
		body, readErr := io.ReadAll(quotedprintable.NewReader(m.Body))
		text := strings.ReplaceAll(strings.ReplaceAll(string(body), "\r\n", "\n"), "\n..\n", "\n.\n")
		if err != nil || readErr != nil || subject != letter.Subject || strings.TrimSpace(text) != strings.TrimSpace(letter.Body) {
			t.Fatalf("%q %q %v %v", subject, text, err, readErr)
		}
		if m.Header.Get("Message-ID") != "<"+letter.ID+"@clinic.example>" || m.Header.Get("Auto-Submitted") != "auto-generated" {
			t.Fatalf("%v", m.Header)
		}
	}
}

func TestSend_never_without_the_encryption_that_was_asked_for(t *testing.T) {
	t.Parallel()
	s := mailtest.Serve(t, func(s *mailtest.Server) { s.NoTLS = true })
	err := sender(t, s, nil).Send(t.Context(), letter)
	for _, line := range s.Lines() {
		if strings.HasPrefix(line, "AUTH") || strings.HasPrefix(line, "MAIL") {
			t.Errorf("said %q in the clear", line)
		}
	}
	if err == nil || len(s.Mails()) != 0 {
		t.Fatal("sent in the clear")
	}
	// A server with the wrong certificate is another server.
	s = mailtest.Serve(t, nil)
	if err := sender(t, s, func(o *mail.Options) { o.TLSConfig = &tls.Config{ServerName: "localhost"} }).Send(t.Context(), letter); err == nil || len(s.Mails()) != 0 {
		t.Fatal("sent to somebody else")
	}
}

func TestSend_faults_of_the_server(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers map[string]string
		refused bool
		taken   bool // no error: the mail was taken
	}{
		"down":                             {map[string]string{"connect": "drop"}, false, false},
		"hangs_at_once":                    {map[string]string{"connect": "hang"}, false, false},
		"hangs_with_the_mail":              {map[string]string{"data": "hang"}, false, false},
		"breaks_off_with_the_mail":         {map[string]string{"data": "drop"}, false, false},
		"busy":                             {map[string]string{"MAIL": "421 4.3.2 later"}, false, false},
		"wants_another_password":           {map[string]string{"AUTH": "535 5.7.8 no"}, false, false},
		"relays_for_others_only":           {map[string]string{"RCPT": "550 5.7.1 ada@example.org: relaying denied"}, false, false},
		"mailbox_full":                     {map[string]string{"RCPT": "452 4.2.2 full"}, false, false},
		"no_such_address":                  {map[string]string{"RCPT": "550 5.1.1 ada@example.org is unknown"}, true, false},
		"refuses_the_content":              {map[string]string{"data": "554 5.6.0 ada@example.org no"}, false, false},
		"lies_that_it_failed_to_say_bye":   {map[string]string{"QUIT": "500 what"}, false, true},
		"hangs_at_the_end":                 {map[string]string{"QUIT": "hang"}, false, true},
		"breaks_off_after_it_had_taken_it": {map[string]string{"QUIT": "drop"}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mailtest.Serve(t, func(s *mailtest.Server) { s.Answers = c.answers })
			err := sender(t, s, func(o *mail.Options) {
				switch hangs := strings.HasPrefix(name, "hangs"); {
				case hangs && c.taken: // all before the goodbye takes its time on a busy machine
					o.Timeout = 8 * time.Second
				case hangs:
					o.Timeout = 500 * time.Millisecond
				default:
					o.Timeout = time.Minute
				}
			}).Send(t.Context(), letter)
			_, refused := errors.AsType[*resources.Refused](err)
			if (err == nil) != c.taken || refused != c.refused {
				t.Fatalf("%v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "ada") || strings.Contains(err.Error(), "s3cret")) {
				t.Errorf("%q tells too much", err)
			}
		})
	}
}

func TestSend_addresses_add_no_headers_and_no_recipients(t *testing.T) {
	t.Parallel()
	s := mailtest.Serve(t, nil)
	for _, to := range []string{"", "ada", "a@x.example, b@x.example", "a@x.example\r\nBcc: b@x.example", "Ada <a@x.example>", "a@x.example> SIZE=1"} {
		m := letter
		m.To = to
		_, refused := errors.AsType[*resources.Refused](sender(t, s, nil).Send(t.Context(), m))
		if !refused {
			t.Errorf("%q was taken", to)
		}
	}
	if len(s.Mails()) != 0 {
		t.Errorf("%d mails", len(s.Mails()))
	}
}
