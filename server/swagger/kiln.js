// Starts Swagger UI. index.json lists the documents; which one is open stands in the address, so that links work.
"use strict";

fetch("openapi/index.json").then((answer) => answer.json()).then((index) => {
  // The page signs in under the server's public name; under another it would be told that it is not registered.
  const home = index.audience ? new URL(index.audience).origin : location.origin;
  if (location.origin !== home) {
    location.replace(home + location.pathname + location.search + location.hash);
    return;
  }
  const ui = SwaggerUIBundle({
    dom_id: "#swagger-ui",
    urls: index.documents.map((name) => ({ name, url: "openapi/" + name + ".json" })),
    "urls.primaryName": new URLSearchParams(location.search).get("urls.primaryName") || index.documents[0],
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
    layout: "StandaloneLayout",
    deepLinking: true,
    displayRequestDuration: true,
    docExpansion: "list",
    defaultModelsExpandDepth: -1,
    validatorUrl: null,
    oauth2RedirectUrl: new URL("oauth2-redirect.html", location.href).href,
  });
  if (index.client) {
    // Launched from /auth/launch, the page works with the patient that was chosen there.
    const launch = new URLSearchParams(location.search).get("launch");
    ui.initOAuth({
      clientId: index.client,
      scopes: launch ? index.launchScopes : index.scopes,
      usePkceWithAuthorizationCodeGrant: true,
      additionalQueryStringParams: launch ? { aud: index.audience, launch } : { aud: index.audience },
    });
  }
  window.ui = ui;
});
