-- Who may sign in, which apps there are, and what was granted to them. Secrets are kept as hashes only; signing keys
-- and TOTP seeds are encrypted by the server with a key that is not in the database.
-- +goose Up

-- A person who signs in.
CREATE TABLE account (
  id uuid PRIMARY KEY,
  username text NOT NULL,
  password text,                        -- argon2id in PHC form; NULL: signs in by passkey or an outside provider only
  roles text[] NOT NULL CHECK (cardinality(roles) > 0 AND roles <@ ARRAY['patient', 'practitioner', 'admin']),
  fhir_user text[] NOT NULL DEFAULT '{}', -- 'Patient/1', 'Practitioner/2': whom the account stands for, the first is fhirUser
  totp bytea,                           -- the encrypted seed; NULL: none
  totp_step bigint NOT NULL DEFAULT 0,  -- the last time step that was used: a code works once
  disabled boolean NOT NULL DEFAULT false,
  created timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT account_patient_is_linked CHECK (NOT 'patient' = ANY (roles) OR array_to_string(fhir_user, ' ') ~ '(^| )Patient/'));
CREATE UNIQUE INDEX account_username ON account (lower(username));

-- A passkey of an account.
CREATE TABLE account_passkey (
  id bytea PRIMARY KEY,                 -- the credential id
  account uuid NOT NULL REFERENCES account ON DELETE CASCADE,
  name text NOT NULL,
  credential jsonb NOT NULL,            -- webauthn.Credential: public key, counter, flags
  created timestamptz NOT NULL DEFAULT now());
CREATE INDEX account_passkey_account ON account_passkey (account);

-- An identity at an outside OpenID provider that signs in to an account.
CREATE TABLE account_outside (
  issuer text NOT NULL,
  subject text NOT NULL,
  account uuid NOT NULL REFERENCES account ON DELETE CASCADE,
  PRIMARY KEY (issuer, subject));

-- A browser that is signed in, found by the SHA-256 of its cookie.
CREATE TABLE login_session (
  id bytea PRIMARY KEY CHECK (length(id) = 32),
  account uuid NOT NULL REFERENCES account ON DELETE CASCADE,
  methods text[] NOT NULL,              -- amr: pwd, otp, hwk, ext
  created timestamptz NOT NULL,
  seen timestamptz NOT NULL,
  expires timestamptz NOT NULL);
CREATE INDEX login_session_account ON login_session (account);

-- Failed sign-ins of one name or one address; see KILN_LOGIN_*.
CREATE TABLE login_failure (
  subject bytea NOT NULL,               -- SHA-256 of 'name:…' or 'address:…'
  at timestamptz NOT NULL);
CREATE INDEX login_failure_subject ON login_failure (subject, at);

-- An app or a backend system.
CREATE TABLE client (
  id text COLLATE "C" PRIMARY KEY,
  name text NOT NULL,
  auth_method text NOT NULL CHECK (auth_method IN ('none', 'client_secret', 'private_key_jwt')),
  secret bytea CHECK (length(secret) = 32), -- SHA-256; secrets are long random strings
  jwks jsonb,
  jwks_uri text,
  redirect_uris text[] NOT NULL DEFAULT '{}',
  launch_uri text,
  grant_types text[] NOT NULL,
  scope text NOT NULL,                  -- what it may ask for, separated by spaces
  registered_by text NOT NULL DEFAULT 'operator', -- operator, dynamic, or server
  metadata jsonb NOT NULL DEFAULT '{}', -- what dynamic registration sent beside the above
  created timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT client_has_its_credential CHECK (
    CASE auth_method WHEN 'client_secret' THEN secret IS NOT NULL
                     WHEN 'private_key_jwt' THEN (jwks IS NULL) <> (jwks_uri IS NULL)
                     ELSE true END));

-- What one person (or nobody, for a backend system) granted to one client at one time: the family of a code, its access
-- tokens and its refresh tokens. Deleting it revokes them all.
CREATE TABLE oauth_grant (
  id text COLLATE "C" PRIMARY KEY,
  client text COLLATE "C" REFERENCES client ON DELETE CASCADE, -- NULL: kiln token
  account uuid REFERENCES account ON DELETE CASCADE,
  session bytea,                        -- online_access: dies with this login_session
  requested text NOT NULL,
  scope text NOT NULL,                  -- granted
  context jsonb NOT NULL,               -- patient, encounter, fhirUser, ...: what the token response tells again
  created timestamptz NOT NULL DEFAULT now(),
  used timestamptz NOT NULL DEFAULT now());
CREATE INDEX oauth_grant_account ON oauth_grant (account);
CREATE INDEX oauth_grant_client ON oauth_grant (client);
CREATE INDEX oauth_grant_session ON oauth_grant (session) WHERE session IS NOT NULL;

-- A code or token, found by its SHA-256. That the row is there is what makes an access token valid.
CREATE TABLE oauth_token (
  hash bytea NOT NULL CHECK (length(hash) = 32),
  kind "char" NOT NULL,                 -- C(ode), P(KCE of a code), I (OpenID part of a code), A(ccess), R(efresh)
  grant_id text COLLATE "C" NOT NULL REFERENCES oauth_grant ON DELETE CASCADE,
  scope text NOT NULL,
  used boolean NOT NULL DEFAULT false,  -- a code or refresh token that was taken; seen again, the grant is deleted
  request jsonb NOT NULL,               -- the parameters needed later (redirect_uri, nonce), and when the user signed in
  expires timestamptz NOT NULL,
  PRIMARY KEY (hash, kind));
CREATE INDEX oauth_token_grant ON oauth_token (grant_id);
CREATE INDEX oauth_token_expires ON oauth_token (expires);

-- An authorization request between its arrival and the user's decision, found by the SHA-256 of its handle.
CREATE TABLE oauth_request (
  id bytea PRIMARY KEY CHECK (length(id) = 32),
  form jsonb NOT NULL,
  session bytea,                        -- the first login_session that saw it; no other may go on with it
  patient text,                         -- chosen in the picker
  created timestamptz NOT NULL,
  expires timestamptz NOT NULL);
CREATE INDEX oauth_request_expires ON oauth_request (expires);

-- A launch from Kiln, found by the SHA-256 of the launch value; used once, by the account that it was made for.
CREATE TABLE oauth_launch (
  id bytea PRIMARY KEY CHECK (length(id) = 32),
  client text COLLATE "C" NOT NULL REFERENCES client ON DELETE CASCADE,
  account uuid NOT NULL REFERENCES account ON DELETE CASCADE,
  context jsonb NOT NULL,               -- patient, encounter, intent
  used boolean NOT NULL DEFAULT false,
  expires timestamptz NOT NULL);

-- Assertions that were seen: a jti works once.
CREATE TABLE oauth_assertion (
  id bytea PRIMARY KEY CHECK (length(id) = 32), -- SHA-256 of client and jti
  expires timestamptz NOT NULL);
CREATE INDEX oauth_assertion_expires ON oauth_assertion (expires);

-- Keys that sign id_tokens. The newest that is active signs, all that have not been retired are published.
CREATE TABLE signing_key (
  kid text COLLATE "C" PRIMARY KEY,
  sealed bytea NOT NULL,                -- PKCS #8, encrypted with the server's secret key
  public jsonb NOT NULL,                -- JWK
  active_from timestamptz NOT NULL,
  retired timestamptz);

-- +goose Down
DROP TABLE signing_key, oauth_assertion, oauth_launch, oauth_request, oauth_token, oauth_grant, client, login_failure,
  login_session, account_outside, account_passkey, account;
