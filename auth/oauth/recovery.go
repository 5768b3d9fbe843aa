package oauth

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"strings"

	"kiln/storage/identity"
)

// recoveryCodes is how many codes somebody has who has lost the device that shows one-time codes. Each is 80 random bits, so
// that a plain hash of it tells nothing.
const recoveryCodes = 10

// newRecoveryCodes makes codes as people are shown them, and their hashes.
func newRecoveryCodes() (codes []string, hashes [][]byte) {
	for range recoveryCodes {
		random := make([]byte, 10)
		rand.Read(random)
		code := base32.StdEncoding.EncodeToString(random)
		codes = append(codes, strings.Join([]string{code[:4], code[4:8], code[8:12], code[12:]}, "-"))
		hashes = append(hashes, identity.Hash(code))
	}
	return codes, hashes
}

// useRecoveryCode checks a code, however it is spaced, uses it up and notes that.
func (s *Server) useRecoveryCode(ctx context.Context, account *identity.Account, code string) (bool, error) {
	code = strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(code))
	err := s.noted(ctx, &Event{Principal: s.self(account), Action: ActCredential, Detail: "recovery code used"}, func(ctx context.Context) error {
		return s.store.UseRecoveryCode(ctx, account.ID, identity.Hash(code))
	})
	if errors.Is(err, identity.ErrUsed) {
		return false, nil
	}
	return err == nil, err
}
