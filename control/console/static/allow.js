// Logins for credentials: a person allows something at an authorization server (RFC 6749
// section 4.1, with PKCE), and the control plane exchanges the code that the browser brings
// back. No token comes here.

import { call, digest, hasSession, ofSession, path, random } from "./api.js";
import { code, h } from "./dom.js";
import { facts, form, named, result, say } from "./ui.js";
import { link } from "./place.js";

const begunName = "sallyport.allow";
const patience = 600000; // milliseconds that a person may take

// allowable says whether a login for a credential can come back to this console: null if it
// can, else why not; undefined where nobody logs in for it.
export function allowable(c, who) {
  if (c.auth !== "oauth_refresh" || !c.settings?.auth_url) return undefined;
  const ours = location.origin + "/console/authorized";
  const known = c.settings.redirect_uri;
  if (who.credential_redirect_uri !== ours) return elsewhere(who);
  if (known && known !== ours) return ["its client comes back to ", code(known), ": log in by ", h("code", {}, `sallyport credential login ${c.vault}/${c.name}`)];
  return null;
}

function elsewhere(who) {
  if (!who.credential_redirect_uri) return "nobody told the control plane where browsers find this console (--console-url)";
  const there = new URL(who.credential_redirect_uri).origin;
  return ["log in at ", h("a", { href: there + "/console/" + location.hash }, there)];
}

// allow goes to the authorization server. What it is begun with stays in this tab, for this
// session, and is good for one answer.
export async function allow(team, c) {
  const to = new URL(c.settings.auth_url);
  if (to.protocol !== "https:") throw new Error("The setting auth_url is no https:// address, so no browser is sent there.");
  const begun = {
    team, vault: c.vault, credential: c.name, redirect: location.origin + "/console/authorized", verifier: random(), state: random(),
    issuer: c.settings.issuer || "", named: Boolean(c.settings.iss), session: await ofSession(), at: Date.now(),
  };
  sessionStorage.setItem(begunName, JSON.stringify(begun));
  const asked = {
    response_type: "code", client_id: c.settings.client_id, redirect_uri: begun.redirect, state: begun.state,
    code_challenge: await digest(begun.verifier), code_challenge_method: "S256",
  };
  if (c.settings.scope) asked.scope = c.settings.scope;
  if (c.settings.resource) asked.resource = c.settings.resource; // RFC 8707
  for (const [name, value] of Object.entries(asked)) to.searchParams.set(name, value);
  location.assign(to);
}

// brought is what a browser came back with, null if it did not. The code leaves the address,
// and what the login was begun with the tab, before anything is asked.
export function brought() {
  if (location.pathname !== "/console/authorized") return null;
  const said = new URLSearchParams(location.search);
  const kept = sessionStorage.getItem(begunName);
  sessionStorage.removeItem(begunName);
  const begun = kept ? JSON.parse(kept) : null;
  history.replaceState(null, "", "/console/" + (begun ? link(begun.team, "vaults", begun.vault, begun.credential) : ""));
  return { said, begun };
}

// codeOf is the code of an answer that is to what was begun here; else it says why not.
async function codeOf({ said, begun }) {
  const one = (name) => (said.getAll(name).length === 1 ? said.get(name) : null);
  if (!begun || one("state") !== begun.state) throw new Error("That was no answer to a login begun in this tab. Nothing was stored.");
  if (said.has("iss") ? begun.issuer && one("iss") !== begun.issuer : begun.named) {
    throw new Error("The answer is of another server than the one that was asked (RFC 9207). Nothing was stored.");
  }
  if (!hasSession() || (await ofSession()) !== begun.session) throw new Error("You have signed out, or in anew, since the login was begun: begin it again.");
  if (Date.now() - begun.at > patience) throw new Error("The login took longer than ten minutes: begin it again.");
  const code = one("code");
  if (!code) throw new Error(`It was not allowed: ${/^[a-z_]+$/.test(said.get("error") || "") ? said.get("error") : "the server gives no reason"}.`);
  return code;
}

// finish has the code exchanged, and says what came of it.
export async function finish(back, reload) {
  try {
    const answer = await codeOf(back);
    const { team, vault, credential, verifier, redirect } = back.begun;
    const { data } = await call("POST", path`/teams/${team}/vaults/${vault}/credentials/${credential}/login`, {
      body: { code: answer, code_verifier: verifier, redirect_uri: redirect },
    });
    say(`${credential} is now version ${data.version}, by what was just allowed.`);
    reload();
  } catch (error) {
    result("The login did not work", h("p", { class: "wrong", role: "alert" }, error.message));
  }
}

// connect has a credential made for an MCP server, and shows who is asked for what before
// anybody is sent there.
export function connect({ team, vault, who, reload }) {
  const ours = location.origin + "/console/authorized";
  if (who.credential_redirect_uri !== ours) {
    result("Connect an MCP server", h("p", {}, elsewhere(who)));
    return;
  }
  form({
    title: "Connect an MCP server", verb: "Find out who is asked",
    text: "The server says by itself where people log in for it. The control plane registers a client there, and stores a credential for it that nobody has logged in for yet.",
    fields: [
      named("Its placeholder is vault:NAME."),
      { name: "url", label: "URL of the server", needed: true, placeholder: "https://mcp.example.com/mcp" },
      { more: "More", fields: [
        { name: "scope", label: "Scope", hint: "In the place of what the server asks for." },
        { name: "hosts", label: "Hosts of endpoints", hint: "Where the authorization server has endpoints beside its own host, with commas." },
      ] },
    ],
    run: async (values) => {
      const body = { name: values.name.trim(), url: values.url.trim(), redirect_uri: ours };
      if (values.scope.trim()) body.scope = values.scope.trim();
      if (values.hosts.trim()) body.endpoint_hosts = values.hosts.split(",").map((host) => host.trim()).filter(Boolean);
      const { data } = await call("POST", path`/teams/${team}/vaults/${vault}/discover`, { body });
      if (data.warning) say(data.warning);
      reload();
      return () => ask(team, data);
    },
  });
}

// ask shows who will be asked for what, and goes there if the person wants to.
export function ask(team, c) {
  form({
    title: `Log in for ${c.name}`, verb: `Log in at ${new URL(c.settings.auth_url).host}`,
    about: facts([
      ["At", code(new URL(c.settings.auth_url).origin)],
      c.settings.issuer && ["Who gives the tokens", code(c.settings.issuer)],
      ["For", c.hosts.map((host) => h("div", {}, code(host)))],
      ["Asked for", c.settings.scope ? code(c.settings.scope) : "no scope"],
    ]),
    text: "You come back here. The control plane gets the tokens; this browser never does.",
    run: () => allow(team, c),
  });
}
