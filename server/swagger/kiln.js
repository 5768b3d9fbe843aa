// Starts Swagger UI. index.json lists the documents; which one is open stands in the address, so that links work.
"use strict";

fetch("openapi/index.json").then((answer) => answer.json()).then((index) => {
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
    ui.initOAuth({
      clientId: index.client,
      scopes: index.scopes,
      usePkceWithAuthorizationCodeGrant: true,
      additionalQueryStringParams: { aud: index.audience },
    });
  }
  window.ui = ui;
});
