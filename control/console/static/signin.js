// The way in: by the OpenID Connect issuer, or with an API token that is traded at once.

import { leave, login, signIn } from "./api.js";
import { h, replace } from "./dom.js";

export function signInPage(done, wrong) {
  const said = h("p", { class: "wrong", role: "alert" }, wrong);
  const token = h("textarea", {
    id: "token", class: "secret", rows: 1, required: true, autocomplete: "off", autocapitalize: "off", spellcheck: "false",
    "data-1p-ignore": true, "data-lpignore": "true", "aria-describedby": "token-hint",
    onkeydown: (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      byToken.requestSubmit();
    },
  });
  const submit = h("button", { type: "submit", class: "main" }, "Sign in");
  const byToken = h("form", { autocomplete: "off", onsubmit: async (event) => {
    event.preventDefault();
    submit.disabled = true;
    replace(said);
    const value = token.value.trim();
    token.value = "";
    try {
      await signIn(value);
      done();
    } catch (error) {
      replace(said, error.message);
      token.focus();
    } finally {
      submit.disabled = false;
    }
  } },
  h("div", { class: "field" }, h("label", { for: "token" }, "API token"), token,
    h("p", { class: "hint", id: "token-hint" }, "It is traded for a session, and kept nowhere here. The first is in the file admin-token of the data directory.")),
  h("div", { class: "actions" }, submit));
  const people = h("div", { class: "people" });
  offer(people, said);
  return h("main", { class: "signin", id: "main" },
    h("p", { class: "brand" }, h("img", { src: "/console/icon.svg", alt: "", width: "40", height: "40" }), "Sallyport"),
    h("h1", {}, "Sign in"), said, people, byToken);
}

// offer adds the button of the issuer, if people log in by one and come back to here.
async function offer(into, said) {
  try {
    const method = await login();
    if (!method?.redirect_uri) return;
    const there = new URL(method.redirect_uri).origin;
    if (there !== location.origin) {
      replace(into, h("p", {}, "People log in at ", h("a", { href: there + "/console/" }, there), "."));
      return;
    }
    replace(into, h("button", { type: "button", class: "main", onclick: () => leave(method).catch((error) => replace(said, error.message)) },
      `Log in with ${new URL(method.issuer).host}`), h("p", { class: "or" }, "or"));
  } catch (error) {
    replace(said, error.message);
  }
}
