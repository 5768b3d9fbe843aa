package main

import (
	"log/slog"

	"kiln/internal/config"
	"kiln/internal/hook"
	"kiln/internal/mail"
	"kiln/resources"
	"kiln/storage"
)

// openMessages says how people are told of things, as the settings want it.
func openMessages(c config.Config, log *slog.Logger) (*resources.Messages, error) {
	m := &resources.Messages{Quiet: c.Quiet(), Zone: c.Zone(), Portal: c.PortalURL, Logger: log,
		Limit: storage.MessageLimit{Hour: c.MessagesPerHour, Day: c.MessagesPerDay}}
	hooks, err := hook.New(hook.Options{Allow: c.Webhooks})
	if err != nil {
		return nil, err
	}
	if hooks.Any() {
		m.Hooks = hooks
	}
	if c.SMTPHost == "" {
		return m, nil
	}
	sender, err := mail.New(mail.Options{Host: c.SMTPHost, Port: c.SMTPPort, TLS: c.SMTPTLS, User: c.SMTPUser, Password: string(c.SMTPPassword), From: c.SMTPFrom})
	if err != nil {
		return nil, err
	}
	m.Mailer = sender
	return m, nil
}
