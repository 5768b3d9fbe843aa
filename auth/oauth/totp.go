package oauth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"html/template"
	"net/url"
	"strings"

	"kiln/storage/identity"
)

// One-time codes by RFC 6238, as every authenticator app makes them: SHA-1, 30 seconds, six digits. A code of the step
// before or after counts too.
const (
	totpStep    = 30
	totpPurpose = "totp seed"
)

func newTOTPSeed() []byte {
	seed := make([]byte, 20)
	rand.Read(seed)
	return seed
}

func totpCode(seed []byte, step int64) string {
	mac := hmac.New(sha1.New, seed)
	binary.Write(mac, binary.BigEndian, uint64(step))
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[at:])&0x7fffffff)%1_000_000)
}

// totpFits returns the step that a code is of, or false.
func (s *Server) totpFits(seed []byte, code string) (int64, bool) {
	now := s.now().Unix() / totpStep
	code = strings.ReplaceAll(code, " ", "")
	for _, step := range []int64{now, now - 1, now + 1} {
		if subtle.ConstantTimeCompare([]byte(totpCode(seed, step)), []byte(code)) == 1 {
			return step, true
		}
	}
	return 0, false
}

// useTOTP checks a code and uses it up.
func (s *Server) useTOTP(ctx context.Context, account *identity.Account, code string) (bool, error) {
	seed, err := s.seal.open(totpPurpose+account.ID, account.TOTP)
	if err != nil {
		return false, err
	}
	step, ok := s.totpFits(seed, code)
	if !ok {
		return false, nil
	}
	switch err := s.store.UseTOTPStep(ctx, account.ID, step); {
	case errors.Is(err, identity.ErrUsed):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, nil
}

func totpText(seed []byte) string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(seed)
}

// totpURI is what authenticator apps read.
func (s *Server) totpURI(username string, seed []byte) template.URL {
	label := url.PathEscape("Kiln:" + username)
	return template.URL("otpauth://totp/" + label + "?" + url.Values{"secret": {totpText(seed)}, "issuer": {"Kiln"}}.Encode())
}

func sealedText(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func unsealedText(text string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	return b
}
