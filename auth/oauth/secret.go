package oauth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// sealer encrypts what the database must not know in clear: signing keys and TOTP seeds. AES-256-GCM, with the purpose
// as additional data, so that one kind of secret cannot stand in for another.
type sealer struct{ aead cipher.AEAD }

// newSealer derives the key from a secret of any form that is at least 16 bytes long.
func newSealer(secret string) (*sealer, error) {
	if len(secret) < 16 {
		return nil, errors.New("KILN_SECRET_KEY is too short: 16 characters at least, such as the output of openssl rand -base64 32")
	}
	key := sha256.Sum256([]byte("kiln secret key\x00" + secret))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &sealer{aead}, nil
}

func (s *sealer) seal(purpose string, plain []byte) []byte {
	nonce := make([]byte, s.aead.NonceSize())
	rand.Read(nonce)
	return s.aead.Seal(nonce, nonce, plain, []byte(purpose))
}

func (s *sealer) open(purpose string, sealed []byte) ([]byte, error) {
	n := s.aead.NonceSize()
	if len(sealed) < n {
		return nil, errors.New("oauth: a sealed secret is too short")
	}
	plain, err := s.aead.Open(nil, sealed[:n], sealed[n:], []byte(purpose))
	if err != nil {
		return nil, errors.New("oauth: a stored key cannot be decrypted: KILN_SECRET_KEY (or DATA_DIR/secret.key) is not the one that it was made with")
	}
	return plain, nil
}

// SecretFile returns the secret kept in a file, and makes the file (mode 0600) where there is none.
func SecretFile(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err == nil {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			return "", fmt.Errorf("%s can be read by others: chmod 600 it, and replace the secret if that could have happened", path)
		}
		return strings.TrimSpace(string(content)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	fresh := make([]byte, 32)
	rand.Read(fresh)
	secret := base64.StdEncoding.EncodeToString(fresh)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return SecretFile(path) // another process was faster
	}
	if err != nil {
		return "", err
	}
	_, err = file.WriteString(secret + "\n")
	return secret, errors.Join(err, file.Close())
}

// MinSecret is how many characters a secret of a client has at least that somebody chose. It is kept as SHA-256, as all
// secrets of clients are: a slow hash would make each request for a token slow.
const MinSecret = 12

// CheckSecret says what is wrong with a secret that somebody chose for a client; nil for nothing.
func CheckSecret(secret string) error {
	if utf8.RuneCountInString(secret) < MinSecret {
		return fmt.Errorf("%d characters at least; without it a random one is made, which is better", MinSecret)
	}
	return nil
}

// NewSecret makes a secret for a client.
func NewSecret() string { return randomSecret() }

// randomSecret makes 256 random bits as 43 characters that need no encoding anywhere.
func randomSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
