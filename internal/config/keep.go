package config

import (
	"errors"
	"time"
)

// Keep says how long rows are kept that only the server itself needs.
type Keep struct {
	KeepCoverageAnswers time.Duration `name:"keep-coverage-answers" env:"KILN_KEEP_COVERAGE_ANSWERS" default:"720h" placeholder:"TIME" help:"How long the server notes what it made of a payer's answer. The CoverageEligibilityResponse stays; visits to come keep theirs."`
	KeepMessages        time.Duration `name:"keep-messages" env:"KILN_KEEP_MESSAGES" default:"720h" placeholder:"TIME" help:"How long messages are kept that went to nobody for want of a mail server."`
}

// leastKept is longer than an answer of a payer is used for new bookings, and than a request can be sent again.
const leastKept = 8 * 24 * time.Hour

// Validate checks the times. kong calls it.
func (k *Keep) Validate() error {
	if k.KeepCoverageAnswers < leastKept {
		return errors.New("KILN_KEEP_COVERAGE_ANSWERS: want 192h at least: until then answers are used, and requests sent again")
	}
	return positive("KILN_KEEP_MESSAGES", k.KeepMessages)
}
