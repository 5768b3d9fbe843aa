// Hands the answer of the authorization server to the page that asked for it, as Swagger UI expects.
"use strict";

(() => {
  const flow = window.opener && window.opener.swaggerUIRedirectOauth2;
  if (!flow) return;
  const answer = new URLSearchParams(location.search);
  const fail = (message) => flow.errCb({ authId: flow.auth.name, source: "auth", level: "error", message });
  if (answer.get("state") !== flow.state) {
    fail("The answer does not belong to the request: the state differs.");
  } else if (answer.get("code")) {
    delete flow.auth.state;
    flow.auth.code = answer.get("code");
    flow.callback({ auth: flow.auth, redirectUrl: flow.redirectUrl });
  } else {
    fail(answer.get("error_description") || answer.get("error") || "No code came back.");
  }
  window.close();
})();
