package oauth

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	josev3 "github.com/go-jose/go-jose/v3" // the one that fosite signs with
	"github.com/go-jose/go-jose/v4"

	"kiln/storage/identity"
)

const (
	// keyLife is how old the signing key gets before a new one takes over; keyPublished how long the old one is still
	// published, so that an id_token signed at the last moment can be verified while it lives.
	keyLife      = 90 * 24 * time.Hour
	keyPublished = 2 * 24 * time.Hour
	// keyCache is how long a node goes without looking for another node's new key.
	keyCache   = time.Minute
	keyPurpose = "signing key"
)

// keyring holds the keys that sign id_tokens: RSA 2048, RS256, which every client must know.
type keyring struct {
	store *identity.Store
	seal  *sealer
	now   func() time.Time

	mu      sync.Mutex
	read    time.Time
	signing *josev3.JSONWebKey
	public  []json.RawMessage
}

// signer returns the key that signs now. Errors: of the database, or where the key cannot be decrypted.
func (k *keyring) signer(ctx context.Context) (any, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	return k.signing, nil
}

// jwks returns the public keys as a JWK set.
func (k *keyring) jwks(ctx context.Context) (map[string]any, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	return map[string]any{"keys": k.public}, nil
}

func (k *keyring) refresh(ctx context.Context) error {
	now := k.now()
	if !k.read.IsZero() && now.Sub(k.read) < keyCache {
		return nil
	}
	keys, err := k.store.SigningKeys(ctx)
	if err != nil {
		return err
	}
	if len(keys) == 0 || now.Sub(keys[0].ActiveFrom) > keyLife {
		if err := k.add(ctx, now.Add(-keyLife)); err != nil {
			return err
		}
		if keys, err = k.store.SigningKeys(ctx); err != nil {
			return err
		}
		if len(keys) == 0 {
			return errors.New("oauth: no signing key")
		}
	}
	der, err := k.seal.open(keyPurpose, keys[0].Sealed)
	if err != nil {
		return err
	}
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return fmt.Errorf("oauth: signing key: %w", err)
	}
	k.signing = &josev3.JSONWebKey{Key: private, KeyID: keys[0].KID, Algorithm: "RS256", Use: "sig"}
	k.public = nil
	for _, key := range keys {
		k.public = append(k.public, key.Public)
	}
	k.read = now
	return nil
}

// add makes a key, unless another node made one since newest.
func (k *keyring) add(ctx context.Context, newest time.Time) error {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(private.N.Bytes())
	kid := base64.RawURLEncoding.EncodeToString(sum[:12])
	public, err := json.Marshal(jose.JSONWebKey{Key: private.Public(), KeyID: kid, Algorithm: "RS256", Use: "sig"})
	if err != nil {
		return err
	}
	now := k.now()
	return k.store.AddSigningKey(ctx, &identity.SigningKey{
		KID: kid, Sealed: k.seal.seal(keyPurpose, der), Public: public, ActiveFrom: now,
	}, newest, now.Add(keyPublished))
}
