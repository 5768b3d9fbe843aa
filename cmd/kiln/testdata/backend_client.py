"""SMART Backend Services by Authlib and requests, for TestBackendServices_with_a_client_of_another_language."""

import json
import os
import sys
import time

from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import ECKey

import requests

do, folder = sys.argv[1], sys.argv[2]
private = os.path.join(folder, "private.json")

if do == "keys":
    key = ECKey.generate_key("P-384", {"kid": "python-1", "use": "sig"}, private=True)
    with open(private, "w") as f:
        json.dump(key.as_dict(private=True), f)
    with open(os.path.join(folder, "jwks.json"), "w") as f:
        json.dump({"keys": [key.as_dict(private=False)]}, f)
    sys.exit(0)

base = sys.argv[3]
smart = requests.get(base + "/.well-known/smart-configuration").json()
with open(private) as f:
    key = ECKey.import_key(json.load(f))
endpoint = smart["token_endpoint"]
session = OAuth2Session("python", key, token_endpoint_auth_method="private_key_jwt", scope="system/*.rs")


def fetch():
    # Authlib's assertions live for an hour unless told otherwise; SMART allows five minutes.
    claims = {"exp": int(time.time()) + 300}
    session.register_client_auth_method(PrivateKeyJWT(endpoint, claims, {"kid": "python-1"}, alg="ES384"))
    return session.fetch_token(endpoint, grant_type="client_credentials")


fetch()
bundle = session.get(base + "/Patient?_total=accurate").json()
fetch()  # another assertion, with a jti of its own
second = session.get(base + "/Patient?_count=1")
print(json.dumps({
    "Total": bundle.get("total", 0),
    "Type": bundle.get("entry", [{"resource": bundle}])[0]["resource"]["resourceType"],
    "Second": second.status_code,
}))
