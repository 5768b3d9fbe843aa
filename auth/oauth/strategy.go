package oauth

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/ory/fosite"

	"kiln/storage/identity"
)

// strategy makes and checks codes and tokens: 256 random bits behind a prefix by which a person or a secret scanner
// knows them. fosite calls the name under which a token is stored its signature; ours is its SHA-256, in hexadecimal
// because fosite wants text.
type strategy struct{ now func() time.Time }

const (
	accessPrefix  = "kiln_at_"
	refreshPrefix = "kiln_rt_"
	codePrefix    = "kiln_ac_"
)

func signature(token string) string { return hex.EncodeToString(identity.Hash(token)) }

func unsign(signature string) []byte {
	hash, err := hex.DecodeString(signature)
	if err != nil {
		return nil
	}
	return hash
}

func generate(prefix string) (token, sig string, err error) {
	token = prefix + randomSecret()
	return token, signature(token), nil
}

// alive says whether the token of a request has not expired. That it is known was checked by finding it.
func (s strategy) alive(r fosite.Requester, kind fosite.TokenType) error {
	if !s.now().Before(r.GetSession().GetExpiresAt(kind)) {
		return fosite.ErrTokenExpired
	}
	return nil
}

func (strategy) AccessTokenSignature(_ context.Context, token string) string { return signature(token) }
func (strategy) GenerateAccessToken(context.Context, fosite.Requester) (string, string, error) {
	return generate(accessPrefix)
}
func (s strategy) ValidateAccessToken(_ context.Context, r fosite.Requester, _ string) error {
	return s.alive(r, fosite.AccessToken)
}

func (strategy) RefreshTokenSignature(_ context.Context, token string) string {
	return signature(token)
}
func (strategy) GenerateRefreshToken(context.Context, fosite.Requester) (string, string, error) {
	return generate(refreshPrefix)
}
func (s strategy) ValidateRefreshToken(_ context.Context, r fosite.Requester, _ string) error {
	return s.alive(r, fosite.RefreshToken)
}

func (strategy) AuthorizeCodeSignature(_ context.Context, token string) string {
	return signature(token)
}
func (strategy) GenerateAuthorizeCode(context.Context, fosite.Requester) (string, string, error) {
	return generate(codePrefix)
}
func (s strategy) ValidateAuthorizeCode(_ context.Context, r fosite.Requester, _ string) error {
	return s.alive(r, fosite.AuthorizeCode)
}
