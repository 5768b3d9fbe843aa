package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/token/jwt"
	"github.com/xeipuuv/gojsonschema"

	"kiln/auth"
	"kiln/conformance"
	"kiln/storage/identity"
)

// Options are what New needs. Store, Registry, Origin, FHIRBase, Secret and Directory are required.
type Options struct {
	Store    *identity.Store
	Registry func() *conformance.Registry
	// Origin is the public origin without a trailing slash, FHIRBase the FHIR base URL below it.
	Origin, FHIRBase string
	// Secret encrypts signing keys and TOTP seeds in the database.
	Secret string
	// Directory looks things up in the records for the pages.
	Directory Directory
	// Admissions is for people who register by themselves; nil where nobody can.
	Admissions Admissions
	// Emergencies are for administrators to review; nil for none.
	Emergencies Emergencies
	// Audit is told of sign-ins, grants and acts on accounts and clients; nil for nobody. It writes in the transaction of
	// its context (Store.Begin), if there is one. Where it fails, nothing of what it was told of happens.
	Audit  func(context.Context, Event) error
	Logger *slog.Logger
	Limits Limits
	// Registration says who may register a client by itself.
	Registration Registration
	// Outside is another provider that people may sign in with.
	Outside Outside
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Directory looks things up in the records, as somebody: it shows what that principal may see, and nothing else.
type Directory interface {
	// Patients finds patients by name or identifier, a few at most.
	Patients(ctx context.Context, as auth.Principal, text string) ([]Entry, error)
	// Entry describes one resource. Errors: ErrNoEntry where as may not see it.
	Entry(ctx context.Context, as auth.Principal, resourceType, id string) (Entry, error)
	// Visits lists encounters and appointments of a patient, a few at most, newest first.
	Visits(ctx context.Context, as auth.Principal, patient string) ([]Entry, error)
	// HasVisit says whether an encounter or appointment, by its reference, is one of a patient, and one that as may see.
	HasVisit(ctx context.Context, as auth.Principal, patient, reference string) (bool, error)
}

// Entry is a resource as the pages name it.
type Entry struct {
	Type, ID string
	// Name is what people call it, Detail what tells it from others of that name, such as a date of birth.
	Name, Detail string
	// Note is what is to be said of it in a list, or "".
	Note string
}

// Reference is Type/id.
func (e Entry) Reference() string { return e.Type + "/" + e.ID }

// ErrNoEntry says that there is no such resource, or none that the principal may see.
var ErrNoEntry = errors.New("oauth: no such resource")

// Limits are the times and numbers that can be set. A zero field means its default; docs/settings.md lists them.
type Limits struct {
	// AccessLife is how long an access token of an app lives: 1 h. RefreshLife is the same for offline_access: 180 days.
	AccessLife, RefreshLife time.Duration
	// SessionLife is how long a browser stays signed in, SessionIdle how long without use: 12 h, 1 h.
	SessionLife, SessionIdle time.Duration
	// LoginAttempts is how many failures of one name, and ten times that of one address, within LoginWindow lock it out
	// for the rest of the window: 10, 15 min.
	LoginAttempts int
	LoginWindow   time.Duration
}

func (l Limits) withDefaults() Limits {
	orDefault(&l.AccessLife, time.Hour)
	orDefault(&l.RefreshLife, 180*24*time.Hour)
	orDefault(&l.SessionLife, 12*time.Hour)
	orDefault(&l.SessionIdle, time.Hour)
	orDefault(&l.LoginAttempts, 10)
	orDefault(&l.LoginWindow, 15*time.Minute)
	return l
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

const (
	codeLife         = time.Minute
	idTokenLife      = time.Hour
	backendTokenLife = 300 * time.Second
	requestLife      = 15 * time.Minute // from the authorization request to the user's decision
	launchLife       = 5 * time.Minute
	maxForm          = 64 << 10
)

// Server is the authorization server. It is safe for concurrent use.
type Server struct {
	options      Options
	limits       Limits
	store        *identity.Store
	provider     fosite.OAuth2Provider
	strategy     strategy
	keyring      *keyring
	seal         *sealer
	fetcher      *fetcher
	views        *views
	urls         urls
	log          *slog.Logger
	registration *gojsonschema.Schema // of registrations
	passkeys     *webauthn.WebAuthn   // nil where the origin can have none
	outside      *outside             // nil for none
	holders      struct {
		mu    sync.RWMutex
		known map[[32]byte]*auth.Principal // what they point to never changes
	}
}

// urls are the absolute URLs of the endpoints.
type urls struct{ origin, fhir, authorize, token, introspect, revoke, register, manage, jwks, userinfo, style string }

// New makes a Server. It asks the database for nothing yet.
func New(o Options) (*Server, error) {
	o.Origin, o.FHIRBase = strings.TrimRight(o.Origin, "/"), strings.TrimRight(o.FHIRBase, "/")
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Audit == nil {
		o.Audit = func(context.Context, Event) error { return nil }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	seal, err := newSealer(o.Secret)
	if err != nil {
		return nil, err
	}
	views, err := parseViews()
	if err != nil {
		return nil, err
	}
	s := &Server{
		options: o, limits: o.Limits.withDefaults(), store: o.Store, strategy: strategy{o.Now}, seal: seal,
		keyring: &keyring{store: o.Store, seal: seal, now: o.Now}, fetcher: newFetcher(o.Now), views: views, log: o.Logger,
		outside: newOutside(o.Outside, o.Origin+pathOutsideAnswer),
		urls: urls{
			origin: o.Origin, fhir: o.FHIRBase,
			authorize: o.Origin + pathAuthorize, token: o.Origin + pathToken, introspect: o.Origin + pathIntrospect,
			revoke: o.Origin + pathRevoke, manage: o.Origin + pathApps, jwks: o.Origin + pathJWKS,
			userinfo: o.Origin + pathUserinfo, style: o.Origin + pathSmartStyle,
		},
	}
	if o.Registration.Mode != RegistrationOff {
		s.urls.register = o.Origin + pathRegister
	}
	if s.registration, err = compileRegistrationSchema(); err != nil {
		return nil, err
	}
	if s.passkeys, err = newPasskeys(o.Origin); err != nil {
		return nil, err
	}
	s.compose()
	return s, nil
}

// compose puts fosite together from the flows that SMART has, and no others.
func (s *Server) compose() {
	config := &fosite.Config{
		AccessTokenLifespan:          s.limits.AccessLife,
		RefreshTokenLifespan:         s.limits.RefreshLife,
		AuthorizeCodeLifespan:        codeLife,
		IDTokenLifespan:              idTokenLife,
		IDTokenIssuer:                s.urls.origin,
		TokenURL:                     s.urls.token,
		EnforcePKCE:                  true,
		RefreshTokenScopes:           []string{scopeOffline, scopeOnline},
		OmitRedirectScopeParam:       true,
		ClientAuthenticationStrategy: s.authenticate,
		// What a client may have was decided when the user, or for a backend the registration, was asked; see narrow.
		ScopeStrategy:            func([]string, string) bool { return true },
		AudienceMatchingStrategy: func([]string, []string) error { return nil },
		RedirectSecureChecker:    func(_ context.Context, u *url.URL) bool { return secureRedirect(u) },
	}
	storage := &fositeStorage{store: s.store, base: s.urls.fhir, now: s.options.Now}
	signer := func(ctx context.Context) (any, error) { return s.keyring.signer(ctx) }
	s.provider = compose.Compose(config, storage,
		&compose.CommonStrategy{
			CoreStrategy:               s.strategy,
			OpenIDConnectTokenStrategy: compose.NewOpenIDConnectStrategy(signer, config),
			Signer:                     &jwt.DefaultSigner{GetPrivateKey: signer},
		},
		compose.OAuth2AuthorizeExplicitFactory,
		compose.OAuth2RefreshTokenGrantFactory,
		compose.OAuth2ClientCredentialsGrantFactory,
		compose.OpenIDConnectExplicitFactory,
		compose.OpenIDConnectRefreshFactory,
		compose.OAuth2TokenRevocationFactory,
		compose.OAuth2PKCEFactory,
	)
}

func (s *Server) now() time.Time { return s.options.Now() }

// Sweep deletes what has expired, now and every ten minutes until ctx ends.
func (s *Server) Sweep(ctx context.Context) {
	for {
		if err := s.store.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("oauth: delete what has expired", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Minute):
		}
	}
}

// Where everything is, below the origin.
const (
	pathAuthorize  = "/auth/authorize"
	pathToken      = "/auth/token"
	pathIntrospect = "/auth/introspect"
	pathRevoke     = "/auth/revoke"
	pathRegister   = "/auth/register"
	pathJWKS       = "/auth/jwks"
	pathUserinfo   = "/auth/userinfo"
	pathSmartStyle = "/auth/smart-style.json"
	pathStyle      = "/auth/style.css"
	pathScript     = "/auth/passkey.js"
	pathContinue   = "/auth/continue"
	pathLogin      = "/auth/login"
	pathOTP        = "/auth/login/code"
	pathPasskey    = "/auth/login/passkey"
	pathOutside    = "/auth/login/outside"
	pathLogout     = "/auth/logout"
	pathPatient    = "/auth/patient"
	pathConsent    = "/auth/consent"
	pathHome       = "/auth/"
	pathApps       = "/auth/apps"
	pathAccount    = "/auth/account"
	pathLaunch     = "/auth/launch"
	pathJoin       = "/auth/join"
	pathNewcomers  = "/auth/newcomers"

	pathEmergencies = "/auth/emergencies"

	pathManage        = "/auth/manage"
	pathOutsideAnswer = "/auth/login/outside/answer"

	pathSmartConfiguration  = "/.well-known/smart-configuration"
	pathOpenIDConfiguration = "/.well-known/openid-configuration"
	pathServerMetadata      = "/.well-known/oauth-authorization-server"
)

// Route is one path that the server serves and the functions for its methods. GET answers HEAD too.
type Route struct {
	Pattern string
	Methods map[string]http.HandlerFunc
	// CrossOrigin says that scripts of any origin may use it: endpoints, but never pages.
	CrossOrigin bool
}

// Routes lists everything that is served. The discovery documents stand at the origin and below the FHIR base.
func (s *Server) Routes() []Route {
	var routes []Route
	add := func(pattern string, cross bool, methods map[string]http.HandlerFunc) {
		routes = append(routes, Route{pattern, methods, cross})
	}
	get := func(h handler) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{http.MethodGet: s.endpoint(h)}
	}
	post := func(h handler) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{http.MethodPost: s.endpoint(h)}
	}
	page := func(onGet, onPost handler) map[string]http.HandlerFunc {
		methods := map[string]http.HandlerFunc{}
		if onGet != nil {
			methods[http.MethodGet] = s.page(s.browse(onGet))
		}
		if onPost != nil {
			methods[http.MethodPost] = s.page(s.guarded(onPost))
			if onGet == nil { // a form's answer stays in the address line, and people open it from there again
				methods[http.MethodGet] = s.page(func(w http.ResponseWriter, _ *http.Request) error { return redirect(w, pathHome) })
			}
		}
		return methods
	}
	below := strings.TrimPrefix(s.urls.fhir, s.urls.origin)
	for _, prefix := range []string{"", below} {
		add(prefix+pathSmartConfiguration, true, get(s.smartConfiguration))
		add(prefix+pathOpenIDConfiguration, true, get(s.openIDConfiguration))
	}
	add(pathServerMetadata, true, get(s.openIDConfiguration))
	add(pathJWKS, true, get(s.jwks))
	add(pathSmartStyle, true, get(s.smartStyle))
	add(pathToken, true, post(s.token))
	add(pathIntrospect, true, post(s.introspect))
	add(pathRevoke, true, post(s.revoke))
	add(pathUserinfo, true, map[string]http.HandlerFunc{
		http.MethodGet: s.endpoint(s.userinfo), http.MethodPost: s.endpoint(s.userinfo)})
	if s.urls.register != "" {
		add(pathRegister, true, post(s.register))
	}
	// The first step is taken by a page of the app, cross-site: it looks at no cookie and changes nothing of anybody's.
	add(pathAuthorize, false, map[string]http.HandlerFunc{
		http.MethodGet: s.page(s.authorize), http.MethodPost: s.page(s.authorize)})
	add(pathStyle, false, map[string]http.HandlerFunc{http.MethodGet: s.page(s.style)})
	add(pathScript, false, map[string]http.HandlerFunc{http.MethodGet: s.page(s.script)})
	add(pathPasskey, false, page(nil, s.loginPasskey))
	add(pathContinue, false, page(s.proceed, nil))
	add(pathLogin, false, page(s.loginPage, s.login))
	add(pathOTP, false, page(nil, s.loginCode))
	add(pathOutside, false, page(nil, s.loginOutside))
	add(pathOutsideAnswer, false, page(s.outsideAnswer, nil))
	add(pathLogout, false, page(nil, s.logout))
	add(pathPatient, false, page(nil, s.pickPatient))
	add(pathConsent, false, page(nil, s.decide))
	add(pathHome, false, page(s.home, nil))
	add(pathApps, false, page(s.apps, s.revokeApp))
	add(pathAccount, false, page(s.account, s.changeAccount))
	add(pathLaunch, false, page(s.launcher, s.launch))
	add(pathManage, false, page(s.manage, s.changeManaged))
	if s.options.Emergencies != nil {
		add(pathEmergencies, false, page(s.emergencies, s.reviewEmergency))
	}
	if s.options.Admissions != nil {
		add(pathJoin, false, page(s.joinPage, s.join))
		add(pathNewcomers, false, page(s.newcomers, s.judge))
	}
	return routes
}
