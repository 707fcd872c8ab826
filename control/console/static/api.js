// Calls the admin API with this browser's session: the cookie, which no script sees, and
// the half of it that this origin keeps. Neither is of use without the other.

const halfName = "sallyport.session";
const loginName = "sallyport.login";
const callback = "/console/callback";

export const signedOut = new EventTarget();

// Problem is an answer that says what was wrong (RFC 9457).
export class Problem extends Error {
  constructor(status, said) {
    super(said.detail || "the control plane answers without saying why");
    this.status = status;
    this.code = said.code;
  }
}

// path fills names into a path.
export function path(parts, ...names) {
  return parts.reduce((whole, part, i) => whole + encodeURIComponent(names[i - 1]) + part);
}

export function hasSession() {
  return localStorage.getItem(halfName) !== null;
}

async function send(method, url, { body, match, headers = {}, signal } = {}) {
  const asked = { ...headers };
  const half = localStorage.getItem(halfName);
  if (half) asked["Sallyport-Session"] = half;
  if (body !== undefined) asked["Content-Type"] = "application/json";
  if (match !== undefined) asked["If-Match"] = match;
  const answer = await fetch(url, {
    method, headers: asked, signal, body: body === undefined ? undefined : JSON.stringify(body),
    mode: "same-origin", credentials: "same-origin", cache: "no-store", redirect: "error", referrerPolicy: "no-referrer",
  }).catch((error) => {
    throw error instanceof TypeError ? new TypeError("the control plane does not answer: try again when it runs and can be reached") : error;
  });
  const text = await answer.text();
  let data = null;
  try {
    data = text === "" ? null : JSON.parse(text);
  } catch {
    data = { detail: `the answer, ${answer.status}, is none of the control plane` };
  }
  if (!answer.ok) throw new Problem(answer.status, data || {});
  return { data, etag: answer.headers.get("ETag") };
}

// call asks the API. A POST that the network lost is sent once more, and done once.
export async function call(method, where, options = {}) {
  const url = "/console/v1" + where;
  const headers = method === "POST" && where !== "/login/device" ? { "Idempotency-Key": crypto.randomUUID() } : {};
  try {
    return await send(method, url, { ...options, headers });
  } catch (error) {
    if (error instanceof Problem && error.status === 401) forget("Your session is over. Sign in again, and you are back on this page.");
    if (!(error instanceof TypeError) || method !== "POST" || options.signal?.aborted) throw error;
    return send(method, url, { ...options, headers });
  }
}

export async function get(where, signal) {
  return (await call("GET", where, { signal })).data;
}

// all are the items of a list, up to a thousand of them; more asks for those that follow.
export async function all(where, signal, after = "") {
  const asked = new URLSearchParams(after ? { limit: 1000, after } : { limit: 1000 });
  const page = await get(`${where}${where.includes("?") ? "&" : "?"}${asked}`, signal);
  page.items.more = page.next && (() => all(where, signal, page.next));
  return page.items;
}

function forget(why = "") {
  localStorage.removeItem(halfName);
  signedOut.dispatchEvent(new CustomEvent("over", { detail: why }));
}

async function begin(options) {
  const { data } = await send("POST", "/console/session", options);
  localStorage.setItem(halfName, data.key);
}

// signIn trades an API token for a session. The page keeps no token.
export async function signIn(token) {
  await begin({ headers: { Authorization: "Bearer " + token } });
}

export async function signOut() {
  try {
    await send("DELETE", "/console/session");
  } finally {
    forget();
  }
}

// download has the browser keep an export as a file, which it does only for what it is led
// to. The page's half goes in the form: no address has it, and the form is gone at once.
export function download(fields) {
  const form = document.createElement("form");
  form.method = "post";
  form.action = "/console/export";
  form.hidden = true;
  for (const [name, value] of Object.entries({ ...fields, key: localStorage.getItem(halfName) })) {
    const entry = document.createElement("input");
    entry.type = "hidden";
    entry.name = name;
    entry.value = value;
    form.append(entry);
  }
  document.body.append(form);
  form.submit();
  form.remove();
}

// login is how people log in, null where nobody does.
export async function login() {
  try {
    return (await send("GET", "/console/v1/login")).data;
  } catch (error) {
    if (error instanceof Problem && error.status === 404) return null;
    throw error;
  }
}

// random is a value that nobody guesses.
export function random() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

// ofSession names this browser's session to the page that comes back, and tells nothing of it.
export function ofSession() {
  return digest("sallyport login " + localStorage.getItem(halfName));
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

export async function digest(text) {
  return base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))));
}

// leave goes to the issuer (OpenID Connect by code with PKCE, RFC 7636). What it is begun
// with stays in this tab.
export async function leave(method) {
  const to = new URL(method.authorization_endpoint);
  if (to.protocol !== "https:" && !(to.protocol === "http:" && ["localhost", "127.0.0.1", "[::1]"].includes(to.hostname))) {
    throw new Error("the OIDC issuer's address is not https");
  }
  const verifier = random();
  const state = random();
  sessionStorage.setItem(loginName, JSON.stringify({ verifier, state, issuer: method.issuer, redirect: method.redirect_uri }));
  const asked = {
    response_type: "code", client_id: method.client_id, redirect_uri: method.redirect_uri, scope: method.scopes.join(" "), state,
    nonce: await digest("sallyport nonce " + verifier), code_challenge: await digest(verifier), code_challenge_method: "S256",
  };
  for (const [name, value] of Object.entries(asked)) to.searchParams.set(name, value);
  location.assign(to);
}

// comeBack ends a login, if this page is what the issuer came back to. The code leaves the
// address, and with it the history, before anything is asked.
export async function comeBack() {
  if (location.pathname !== callback) return;
  const said = new URLSearchParams(location.search);
  const kept = sessionStorage.getItem(loginName);
  sessionStorage.removeItem(loginName);
  history.replaceState(null, "", "/console/");
  const begun = kept ? JSON.parse(kept) : null;
  if (!begun || said.get("state") !== begun.state || (said.has("iss") && said.get("iss") !== begun.issuer)) {
    throw new Error("that was no answer to a login begun in this tab: begin again");
  }
  if (!said.get("code")) throw new Error("the OIDC issuer did not log you in");
  await begin({ body: { code: said.get("code"), code_verifier: begun.verifier, redirect_uri: begun.redirect } });
}
