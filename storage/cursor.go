package storage

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
)

// Seal makes an opaque token of payload: what clients carry from page to page and can neither read nor change. purpose
// says what the token is for and what it belongs to; a token opens only under the same purpose. It holds for every
// server on the same database.
func (s *Store) Seal(purpose string, payload []byte) string {
	gcm := s.cursorCipher()
	token := make([]byte, gcm.NonceSize(), gcm.NonceSize()+len(payload)+gcm.Overhead())
	rand.Read(token)
	return base64.RawURLEncoding.EncodeToString(gcm.Seal(token, token, payload, []byte(purpose)))
}

// Open gives back the payload of a token that Seal made for purpose, or false for anything else.
func (s *Store) Open(purpose, token string) ([]byte, bool) {
	gcm := s.cursorCipher()
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(sealed) < gcm.NonceSize() {
		return nil, false
	}
	payload, err := gcm.Open(nil, sealed[:gcm.NonceSize()], sealed[gcm.NonceSize():], []byte(purpose))
	return payload, err == nil
}

func (s *Store) cursorCipher() cipher.AEAD {
	block, err := aes.NewCipher(s.cursor)
	if err != nil {
		panic("storage: the cursor key has the wrong length, which its table forbids")
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("storage: AES has the block size of GCM")
	}
	return gcm
}
