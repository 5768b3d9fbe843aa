package config

import (
	"errors"
	"fmt"
	"net/mail"
	"net/url"

	"kiln/resources/message"
)

// Messages are the settings of what is sent to people and to other systems.
type Messages struct {
	SMTPHost        string   `name:"smtp-host" env:"KILN_SMTP_HOST" placeholder:"HOST" help:"Mail server. Empty: messages are kept on the server, where administrators read them at /admin/messages."`
	SMTPPort        int      `name:"smtp-port" env:"KILN_SMTP_PORT" default:"587" placeholder:"PORT" help:"Port of the mail server."`
	SMTPTLS         string   `name:"smtp-tls" env:"KILN_SMTP_TLS" default:"starttls" enum:"starttls,tls,off" help:"starttls: the connection is encrypted before anything is said, or nothing is; tls: it is from its first byte; off."`
	SMTPUser        string   `name:"smtp-user" env:"KILN_SMTP_USER" placeholder:"NAME" help:"Account at the mail server. Empty: none is needed."`
	SMTPPassword    Secret   `name:"smtp-password" env:"KILN_SMTP_PASSWORD" placeholder:"TEXT" help:"Its password."`
	SMTPFrom        string   `name:"smtp-from" env:"KILN_SMTP_FROM" placeholder:"ADDRESS" help:"Sender, such as Clinic <no-reply@example.org>."`
	QuietHours      string   `name:"quiet-hours" env:"KILN_QUIET_HOURS" default:"21:00-07:00" placeholder:"HH:MM-HH:MM" help:"When nobody is sent an e-mail, in the recipient's zone; off for never."`
	MessagesPerHour int      `name:"messages-per-hour" env:"KILN_MESSAGES_PER_HOUR" default:"20" placeholder:"N" help:"Most e-mails that one address is sent within an hour; further ones wait, and are dropped if there is nothing to tell any more."`
	MessagesPerDay  int      `name:"messages-per-day" env:"KILN_MESSAGES_PER_DAY" default:"60" placeholder:"N" help:"The same within 24 hours."`
	PortalURL       string   `name:"portal-url" env:"KILN_PORTAL_URL" placeholder:"URL" help:"Page that messages point to. Empty: they point to none."`
	Webhooks        []string `name:"webhooks" env:"KILN_WEBHOOKS" placeholder:"NAMES" help:"Endpoints that Subscriptions may call, separated by commas: names such as hooks.example.org or *.example.org, or *, called by https at public addresses only; and origins such as http://10.0.0.5:9000, called as they are. Empty: no Subscriptions."`
}

// Validate checks that what belongs together is there. kong calls it.
func (m *Messages) Validate() error {
	if _, err := message.ParseQuiet(m.QuietHours); err != nil {
		return fmt.Errorf("KILN_QUIET_HOURS: %w", err)
	}
	if u, err := url.Parse(m.PortalURL); m.PortalURL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
		return errors.New("KILN_PORTAL_URL: want a URL such as https://portal.example.org/")
	}
	if err := errors.Join(positive("KILN_MESSAGES_PER_HOUR", m.MessagesPerHour), positive("KILN_MESSAGES_PER_DAY", m.MessagesPerDay)); err != nil {
		return err
	}
	if m.SMTPHost == "" {
		return nil
	}
	if _, err := mail.ParseAddress(m.SMTPFrom); err != nil {
		return errors.New("KILN_SMTP_HOST needs KILN_SMTP_FROM, an address such as Clinic <no-reply@example.org>")
	}
	if m.SMTPTLS == "off" && m.SMTPUser != "" && !IsLoopback(m.SMTPHost) {
		return errors.New("KILN_SMTP_TLS=off is refused with KILN_SMTP_USER: the password would cross the network in the clear")
	}
	if m.SMTPPort < 1 || m.SMTPPort > 65535 {
		return errors.New("KILN_SMTP_PORT is a number from 1 to 65535")
	}
	return nil
}

// Quiet are the hours of QuietHours.
func (m *Messages) Quiet() message.Quiet {
	q, err := message.ParseQuiet(m.QuietHours)
	if err != nil {
		return message.Quiet{} // Validate has refused it
	}
	return q
}
