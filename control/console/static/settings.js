// A team's settings and quota; and of the installation its teams, health, keys and CA.

import { all, call, get, path } from "./api.js";
import { badge, code, h, time } from "./dom.js";
import { button, card, facts, filtered, form, head, named, say, table } from "./ui.js";
import { link } from "./place.js";

const kindNames = { events: "audit events, today", fetches: "fetches of secrets, this minute" };
const intents = { best_effort: "in memory that outlives the worker", durable: "on the sidecar's disk", strict: "with the control plane" };

export async function settings({ team, signal, may, who, reload }) {
  const where = path`/teams/${team}`;
  const [about, quota] = await Promise.all([call("GET", where, { signal }), call("GET", where + "/quota", { signal })]);
  const kinds = Object.keys(quota.data.limits);
  const mode = () => form({
    title: "Where the intent to use a credential is recorded", verb: "Save",
    fields: [{ name: "audit", label: "Before a request goes out", kind: "choice", value: about.data.audit, options: Object.entries(intents).map(([value, text]) => [value, `${value}: ${text}`]) }],
    run: async ({ audit }) => {
      await call("PATCH", where, { body: { audit }, match: about.etag });
      say("It is changed, in running sandboxes too.");
      reload();
    },
  });
  const limits = () => form({
    title: `Quota of ${team}`, verb: "Save", fields: kinds.map((kind) => ({ name: kind, label: kindNames[kind] || kind, kind: "number", value: quota.data.limits[kind], hint: "-1: as usual" })),
    run: async (values) => {
      const body = Object.fromEntries(kinds.filter((kind) => values[kind] !== "").map((kind) => [kind, Number(values[kind])]));
      await call("PATCH", where + "/quota", { body, match: quota.etag });
      reload();
    },
  });
  const everyOwner = who.grants.some((g) => !g.team && g.role === "owner");
  const count = (n) => n.toLocaleString("en");
  const columns = [["Kind", (k) => kindNames[k] || k], ["Has", (k) => count(quota.data.used[k]), "number"], ["May have", (k) => count(quota.data.limits[k]), "number"]];
  return [
    head(`Settings of ${team}`),
    h("div", { class: "cards" },
      card("Audit", facts([["Intents", about.data.audit, h("div", { class: "dim" }, `before a request goes out, its use is recorded ${intents[about.data.audit]}`)], ["Team made", time(about.data.created_at)]]), may("admin") && h("div", { class: "actions" }, button("Change", mode))),
      card("Quota", table("Quota", columns, kinds, ""), everyOwner && h("div", { class: "actions" }, button("Change", limits)))),
  ];
}

export async function teams({ signal, who }) {
  const items = await all("/teams", signal);
  const add = () => form({
    title: "New team", verb: "Make it", text: "It has vaults, agents and an audit log of its own.", fields: [named("As in payments or platform.")],
    run: async ({ name }) => {
      await call("POST", "/teams", { body: { name } });
      location.hash = link(name, "overview");
      location.reload();
    },
  });
  const owner = who.grants.some((g) => !g.team && g.role === "owner");
  const columns = [["Name", (t) => h("a", { href: link(t.name, "overview") }, t.name)], ["Intents", (t) => t.audit], ["Made", (t) => time(t.created_at)]];
  return [head("Teams", owner && button("New team", add, "main")), filtered(table("Teams", columns, items, "There is no team that you may see."), "teams")];
}

async function ready() {
  const answer = await fetch("/readyz", { cache: "no-store", mode: "same-origin", redirect: "error" });
  return answer.json();
}

export async function system({ signal, who, reload }) {
  const owner = who.grants.some((g) => !g.team && g.role === "owner");
  const [info, health, keys, ca] = await Promise.all([
    get("/info", signal), ready(), owner ? get("/keys", signal) : null, owner ? get("/ca", signal) : null,
  ]);
  return [
    head("System", button("Refresh", reload)),
    h("div", { class: "cards" },
      card("Control plane", facts([
        ["State", health.ready ? badge("ready", "good") : [badge("not ready", "bad"), " ", health.blockers.join(", ")]],
        health.degraded && ["Degraded", badge(health.degraded.join(", "), "bad"), " what can't be recorded is refused; the log says why"],
        ["Version", code(info.version)], ["Sidecar API", code(info.sidecar_url)],
      ])),
      card("You", facts([
        ["Who", info.person ? info.person.email : info.token],
        ["Roles", info.grants.map((g) => h("div", {}, `${g.role} of ${g.team || "every team"}`))],
        ["Ends", info.expires_at ? time(info.expires_at) : "never"],
      ])),
      keys && card("Keys", keyFacts(keys, reload)),
      ca && card("Control CA", caFacts(ca))),
  ];
}

function keyFacts(keys, reload) {
  const rotate = () => form({
    title: "Rotate keys", verb: "Rotate", text: "Every data key is wrapped anew under this replica's key-encryption key, while everything goes on.",
    fields: [{ name: "fresh", label: "Also make new data keys, and seal every secret under them", kind: "check" }],
    run: async ({ fresh }) => {
      await call("POST", "/keys/rotate", { body: fresh ? { new_data_keys: true } : {} });
      reload();
    },
  });
  return [
    facts([
      ["Wraps under", code(keys.kek)],
      ["Data keys", (keys.data_keys || []).map((use) => h("div", {}, `${use.count} under `, code(use.kek)))],
      keys.rotation && ["Rotation", keys.rotation.finished_at ? ["done ", time(keys.rotation.finished_at)] : `${keys.rotation.remaining} to do`],
    ]),
    h("div", { class: "actions" }, button("Rotate", rotate)),
  ];
}

function caFacts(ca) {
  return [
    facts([
      ["Active", code(ca.active.fingerprint.slice(0, 16) + "…"), ", ends ", time(ca.active.expires_at)],
      ca.next && ["Next", code(ca.next.fingerprint.slice(0, 16) + "…")],
      ca.previous && ["Previous", code(ca.previous.fingerprint.slice(0, 16) + "…")],
      ["Next step", ca.step, ca.due_at && [", due ", time(ca.due_at)]],
    ]),
    h("p", { class: "dim" }, "Its steps cut sidecars off when they are taken too early: take them with ", h("code", {}, "sallyport ca rotate"), "."),
  ];
}
