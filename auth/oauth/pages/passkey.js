// Asks the device for a passkey, or to make one, and sends the form. Where the browser knows no passkeys the form stays
// hidden, and people sign in with their password.
"use strict";
for (const form of document.querySelectorAll("form[data-passkey]")) {
  const make = form.dataset.passkey === "create";
  const supported = window.PublicKeyCredential &&
    (make ? PublicKeyCredential.parseCreationOptionsFromJSON : PublicKeyCredential.parseRequestOptionsFromJSON);
  if (!supported) continue;
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const status = form.querySelector("[role=status]");
    try {
      const options = JSON.parse(form.dataset.options).publicKey;
      const credential = make
        ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
        : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
      form.elements.credential.value = JSON.stringify(credential.toJSON());
      form.submit();
    } catch (error) {
      // InvalidStateError: the device has one of those that the options say are there already.
      status.textContent = !make ? "That did not work. Try again, or sign in another way."
        : error.name === "InvalidStateError" ? "This device has a passkey for your account already."
        : "That did not work: no passkey was made. Try again, or with another device.";
    }
  });
}
