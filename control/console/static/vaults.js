// Vaults, and the credentials of one.

import { all, call, path } from "./api.js";
import { h, time } from "./dom.js";
import { button, commas, confirm, filtered, form, head, lines, named, say, settingsOf, table, typed } from "./ui.js";
import { link } from "./place.js";
import { credentialColumns, dueMark } from "./credentials.js";
import { connect } from "./allow.js";
import { newSource, sources } from "./sources.js";

export async function vaults({ team, signal, may, reload }) {
  const [items, agents] = await Promise.all([all(path`/teams/${team}/vaults`, signal), all(path`/teams/${team}/agents`, signal)]);
  const add = () => form({
    title: "New vault", verb: "Make it", text: "It holds credentials. What is pinned to an agent is a vault.", fields: [named("As in payments or github.")],
    run: async ({ name }) => {
      await call("POST", path`/teams/${team}/vaults`, { body: { name } });
      location.hash = link(team, "vaults", name);
    },
  });
  const columns = [
    ["Name", (v) => h("a", { href: link(team, "vaults", v.name) }, v.name)],
    ["Pinned to", (v) => pinnedTo(team, agents, v.name)],
    ["Made", (v) => time(v.created_at)],
    ["", (v) => may("admin") && button("Remove", () => remove(team, v.name, reload), "small danger"), "acts"],
  ];
  return [
    head("Vaults", may("admin") && button("New vault", add, "main")),
    filtered(table("Vaults", columns, items, "There is no vault yet. ", may("admin") ? "Make one for what belongs together: an agent gets a whole vault." : "Who is an admin may make one."), "vaults"),
  ];
}

function pinnedTo(team, agents, vault) {
  return agents.filter((a) => a.vaults?.includes(vault)).map((a) => h("a", { class: "item", href: link(team, "agents", a.name) }, a.name));
}

function remove(team, name, then) {
  confirm({
    title: `Remove the vault ${name}?`, name, verb: "Remove it",
    text: "Its data key is destroyed, and with it every secret in it: no backup of the database brings them back without the key of then.",
    run: async () => {
      await call("DELETE", path`/teams/${team}/vaults/${name}`);
      say(`The vault ${name} is removed.`);
      then();
    },
  });
}

export async function vault(context) {
  const { team, vault: name, signal, may, reload } = context;
  const [items, services, agents, stores] = await Promise.all([
    all(path`/teams/${team}/vaults/${name}/credentials`, signal), all("/services", signal), all(path`/teams/${team}/agents`, signal),
    all(path`/teams/${team}/vaults/${name}/sources`, signal),
  ]);
  const pinned = pinnedTo(team, agents, name);
  return [
    h("p", { class: "crumbs" }, h("a", { href: link(team, "vaults") }, "Vaults")),
    head(name, may("admin") && button("Store a credential", () => store(context, services, stores), "main"),
      may("admin") && button("Connect an MCP server", () => connect(context)),
      may("admin") && button("Add a source", () => newSource(context)),
      may("admin") && button("Remove the vault", () => remove(team, name, () => { location.hash = link(team, "vaults"); }), "danger")),
    h("p", {}, pinned.length > 0 ? ["Pinned to ", pinned] : ["Pinned to no agent yet. ", h("a", { href: link(team, "agents") }, "Pin it to one"), ", and it may use what is in it."]),
    filtered(table(`Credentials of ${name}`, credentialColumns(team), items, "There is no credential in it yet. ",
      may("admin") ? "Store one: agents that the vault is pinned to use it, and never see it." : "Who is an admin may store one."), "credentials", dueMark),
    sources(context, stores),
  ];
}

// limitFields are those of a credential's limits, as they are now.
export function limitFields(limits = {}) {
  return [
    { name: "methods", label: "Methods", value: (limits.methods || []).join(", "), placeholder: "GET, POST", hint: "Any, when empty." },
    { name: "paths", label: "Paths", kind: "lines", value: (limits.paths || []).join("\n"), placeholder: "/v1/charges", hint: "One to a line; each with all below it. Any, when empty." },
    { name: "expires_at", label: "Ends at", value: limits.expires_at || "", placeholder: "2027-01-31T12:00:00Z", hint: "In UTC. Never, when empty." },
    { name: "rate", label: "Rate", value: limits.rate || "", placeholder: "60/min", pattern: "\\d+/min", like: "As in 60/min.", hint: "By all sandboxes together." },
    { name: "budget", label: "Budget", value: limits.budget || "", placeholder: "1000/day", pattern: "\\d+(/(day|month))?", like: "As in 1000, 1000/day or 1000/month.", hint: "Requests: N, N/day or N/month." },
    { name: "approve", label: "A person approves", kind: "choice", value: limits.approve || "", options: [["", "nothing"], ["first", "a sandbox's first request"], ["each", "each request"]] },
    { name: "approve_timeout", label: "Waits for the person", value: limits.approve_timeout || "", placeholder: "5m" },
  ];
}

// reminderField says how often a credential is to be rotated.
export function reminderField(c = {}) {
  return { name: "rotate_every", label: "To be rotated every", value: c.rotate_every || "", placeholder: "90d", hint: "So many days after each rotation it is marked as due, with an audit event. Nobody is reminded, when empty." };
}

// limitsOf are the limits that a form has.
export function limitsOf(values) {
  return {
    methods: commas(values.methods), paths: lines(values.paths), expires_at: values.expires_at.trim(), rate: values.rate.trim(),
    budget: values.budget.trim(), approve: values.approve, approve_timeout: values.approve === "" ? "" : values.approve_timeout.trim(),
  };
}

const auths = ["token", "basic", "oauth_client", "oauth_refresh", "jwt_bearer", "google", "github_app", "sigv4", "hmac", "client_cert"];

function store({ team, vault: name, reload }, services, stores) {
  form({
    title: "Store a credential", verb: "Store it",
    fields: [
      named("Its placeholder is vault:NAME."),
      { name: "service", label: "Service", kind: "choice", value: "", options: [["", "another: I name its hosts"], ...services.map((s) => [s.name, s.title])], hint: "Gives hosts, rules and how the secret is sent." },
      { name: "hosts", label: "Hosts", placeholder: "api.example.com", hint: "NAME, *.NAME or NAME:PORT, with commas. Empty: the service's." },
      { name: "secret", label: "Secret", kind: "secret", needed: stores.length === 0, hint: "Nobody sees it again, here or anywhere." },
      ...(stores.length > 0 ? [{ name: "from", label: "Or where it lies", placeholder: `${stores[0].name}:PATH#FIELD`, hint: `SOURCE:PATH, SOURCE:PATH#FIELD or SOURCE:PATH#NAME=FIELD,…; a source is one of ${stores.map((s) => s.name).join(", ")}.` }] : []),
      { more: "How it is sent", fields: [
        { name: "auth", label: "What the secret is", kind: "choice", value: "", options: [["", "as usual"], ...auths.map((a) => [a, a])] },
        { name: "username", label: "Username", hint: "Of basic." },
        { name: "inject", label: "Rules", kind: "lines", placeholder: "header:X-Api-Key: {{token}}", hint: "One to a line: bearer, basic, header:NAME: TEMPLATE, query:NAME, cookie:NAME, path:TEMPLATE. Empty: the usual." },
        { name: "settings", label: "Settings", kind: "lines", placeholder: "token_url=https://…", hint: "NAME=VALUE, one to a line; they are not secret." },
        { name: "stray", label: "A placeholder elsewhere in a request", kind: "choice", value: "", options: [["", "as usual"], ["block", "block"], ["literal", "literal"], ["redact", "redact"]] },
        { name: "allow_http", label: "May be sent without TLS", kind: "check" },
        { name: "allow_websocket", label: "May open WebSockets", kind: "check" },
        { name: "mints", label: "New secrets that the service hands out", kind: "lines", placeholder: "capture POST /oauth/token json:/access_token", hint: "One rule to a line." },
      ] },
      { more: "Limits", fields: limitFields() },
      { more: "Reminder", fields: [reminderField()] },
    ],
    run: async (values) => {
      const body = { name: values.name.trim() };
      if (values.secret || !values.from?.trim()) body.secret = typed(values.secret);
      for (const key of ["service", "auth", "username", "stray", "from", "rotate_every"]) if (values[key]?.trim()) body[key] = values[key].trim();
      for (const [key, list] of [["hosts", commas(values.hosts)], ["inject", lines(values.inject)], ["mints", lines(values.mints)]]) if (list.length > 0) body[key] = list;
      for (const key of ["allow_http", "allow_websocket"]) if (values[key]) body[key] = true;
      if (values.settings.trim()) body.settings = settingsOf(values.settings);
      const limits = Object.fromEntries(Object.entries(limitsOf(values)).filter(([, v]) => v.length > 0));
      if (Object.keys(limits).length > 0) body.limits = limits;
      const { data } = await call("POST", path`/teams/${team}/vaults/${name}/credentials`, { body });
      say(`The credential ${data.name} is stored.`);
      if (data.warning) say(data.warning);
      reload();
    },
  });
}

