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
	// keyCache is how long a node goes without looking for another node's new key, keyLead how long a key is published
	// before it signs: by then every node shows it.
	keyCache   = time.Minute
	keyLead    = 2 * keyCache
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
	ctx = identity.Apart(ctx) // a key that is remembered here must be in the database whatever becomes of the request
	keys, err := k.store.SigningKeys(ctx)
	if err != nil {
		return err
	}
	if len(keys) == 0 || now.Sub(keys[0].ActiveFrom) > keyLife {
		from := now
		if len(keys) > 0 {
			from = now.Add(keyLead)
		}
		if _, err := addKey(ctx, k.store, k.seal, now.Add(-keyLife), from, from.Add(keyPublished)); err != nil {
			return err
		}
		if keys, err = k.store.SigningKeys(ctx); err != nil {
			return err
		}
		if len(keys) == 0 {
			return errors.New("oauth: no signing key")
		}
	}
	signs := signingKey(keys, now)
	der, err := k.seal.open(keyPurpose, signs.Sealed)
	if err != nil {
		return err
	}
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return fmt.Errorf("oauth: signing key: %w", err)
	}
	k.signing = &josev3.JSONWebKey{Key: private, KeyID: signs.KID, Algorithm: "RS256", Use: "sig"}
	k.public = nil
	for _, key := range keys {
		k.public = append(k.public, key.Public)
	}
	k.read = now
	return nil
}

// signingKey is the key that signs at a time: the newest that has begun to.
func signingKey(keys []*identity.SigningKey, now time.Time) *identity.SigningKey {
	for _, key := range keys {
		if !key.ActiveFrom.After(now) {
			return key
		}
	}
	return keys[len(keys)-1]
}

// addKey makes a key that signs from a time on, unless another node made one since newest, and returns its id. The others
// are retired at a given time.
func addKey(ctx context.Context, store *identity.Store, seal *sealer, newest, from, retireOthers time.Time) (kid string, err error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(private.N.Bytes())
	kid = base64.RawURLEncoding.EncodeToString(sum[:12])
	public, err := json.Marshal(jose.JSONWebKey{Key: private.Public(), KeyID: kid, Algorithm: "RS256", Use: "sig"})
	if err != nil {
		return "", err
	}
	return kid, store.AddSigningKey(ctx, &identity.SigningKey{
		KID: kid, Sealed: seal.seal(keyPurpose, der), Public: public, ActiveFrom: from,
	}, newest, retireOthers)
}

// KeyState is a signing key as kiln key list shows it.
type KeyState struct {
	KID string
	// From is when it begins to sign, Until when it stops being published; zero for no end.
	From, Until time.Time
	// Signs says that id_tokens are signed with it now.
	Signs bool
}

// SigningKeys lists the keys that are published, newest first.
func SigningKeys(ctx context.Context, store *identity.Store, now time.Time) ([]KeyState, error) {
	keys, err := store.SigningKeys(ctx)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	signs := signingKey(keys, now)
	list := make([]KeyState, len(keys))
	for i, key := range keys {
		list[i] = KeyState{KID: key.KID, From: key.ActiveFrom, Signs: key == signs}
		if key.Retired != nil {
			list[i].Until = *key.Retired
		}
	}
	return list, nil
}

// Errors of RotateKey.
var (
	ErrNoKey       = errors.New("there is no signing key yet: the server makes one when it is first needed")
	ErrOtherSecret = errors.New("the secret key of these settings is not the one that the server encrypts its signing keys with")
)

// SecretFits says whether the secret key opens what the database has: the signing key, if there is one. Errors: ErrOtherSecret.
func (s *Server) SecretFits(ctx context.Context) error {
	keys, err := s.store.SigningKeys(ctx)
	if err != nil || len(keys) == 0 {
		return err
	}
	if _, err := s.seal.open(keyPurpose, signingKey(keys, s.now()).Sealed); err != nil {
		return ErrOtherSecret
	}
	return nil
}

// Rotation is why a signing key is replaced.
type Rotation int

const (
	// RotateInTime lets the old key be published until what it signed has expired.
	RotateInTime Rotation = iota
	// RotateDistrusted takes the old keys out of use at once: others may know them.
	RotateDistrusted
	// RotateLost does too: the secret key that opens them is gone, and the new one is for the secret key of now.
	RotateLost
)

// RotateKey replaces the signing key, beside running servers. The new one is published at once and signs two minutes later,
// when every node shows it; the old one stays published for two days, so that what it signed can be verified. Other
// than RotateInTime the old ones are out of use at once: every node forgets them within a minute, and what they signed
// verifies no more.
//
// Errors: ErrNoKey; ErrOtherSecret, but with RotateLost.
func RotateKey(ctx context.Context, store *identity.Store, secret string, why Rotation, now time.Time) (kid string, err error) {
	seal, err := newSealer(secret)
	if err != nil {
		return "", err
	}
	keys, err := store.SigningKeys(ctx)
	if err != nil {
		return "", err
	}
	if len(keys) == 0 {
		return "", ErrNoKey
	}
	if _, err := seal.open(keyPurpose, keys[0].Sealed); err != nil && why != RotateLost {
		return "", ErrOtherSecret
	}
	from, until := now.Add(keyLead), now.Add(keyLead+keyPublished)
	if why != RotateInTime {
		from, until = now, now
	}
	return addKey(ctx, store, seal, now.Add(100*keyLife), from, until)
}
