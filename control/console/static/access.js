// API tokens, which are shown once, and who is logged in.

import { all, call, path } from "./api.js";
import { badge, code, h, time } from "./dom.js";
import { button, confirm, filtered, form, head, named, once, say, table } from "./ui.js";

export function tokens({ team, signal, reload }) {
  return page(`API tokens of ${team}`, path`/teams/${team}/tokens`, signal, reload);
}

export function everyTokens({ signal, reload }) {
  return page("API tokens for every team", "/tokens", signal, reload);
}

async function page(title, where, signal, reload) {
  const items = await all(where, signal);
  const add = () => form({
    title: "New API token", verb: "Make it",
    fields: [
      named("Who or what has it, as in ci."),
      { name: "role", label: "Role", kind: "choice", value: "viewer", options: [["viewer", "viewer: read"], ["member", "member: also sandboxes and approvals"], ["admin", "admin: all but tokens"], ["owner", "owner: everything"]] },
      { name: "days", label: "Days until it ends", kind: "number", value: "90", hint: "Empty: never, unless the installation has a longest time." },
    ],
    run: async ({ name, role, days }) => {
      const body = { name: name.trim(), role };
      if (days) body.expires_at = new Date(Date.now() + Number(days) * 86400000).toISOString();
      const { data } = await call("POST", where, { body });
      reload();
      return () => once(`Token ${data.name}`, "Copy it now. Nobody sees it again.", data.value);
    },
  });
  const rotate = (t) => form({
    title: `Rotate ${t.name}`, verb: "Rotate", fields: [{ name: "overlap", label: "The old value is good for", kind: "choice", value: "", options: [["", "no longer"], ["1h", "an hour more"], ["24h", "a day more"], ["168h", "a week more"]] }],
    run: async ({ overlap }) => {
      const { data } = await call("POST", where + path`/${t.name}/rotate`, { body: overlap ? { overlap } : {} });
      reload();
      return () => once(`Token ${data.name}`, "Copy it now. Nobody sees it again.", data.value);
    },
  });
  const remove = (t) => confirm({
    title: `Remove the token ${t.name}?`, verb: "Remove it", text: "Whoever uses it is refused from then on, and browsers that signed in with it are signed out.",
    run: async () => {
      await call("DELETE", where + path`/${t.name}`);
      say(`The token ${t.name} is removed.`);
      reload();
    },
  });
  const columns = [
    ["Name", (t) => t.name], ["Role", (t) => badge(t.role, t.role === "owner" ? "warn" : "info")], ["Made", (t) => time(t.created_at)],
    ["Ends", (t) => (t.expires_at ? time(t.expires_at) : "never")], ["Used", (t) => time(t.last_used_at)], ["Rotated", (t) => [time(t.rotated_at), t.previous_until && badge("two values", "warn")]],
    ["", (t) => [button("Rotate", () => rotate(t), "small"), button("Remove", () => remove(t), "small danger")], "acts"],
  ];
  return [head(title, button("New token", add, "main")), filtered(table(title, columns, items, "There is no token yet. Programs such as CI use the API with one."), "tokens")];
}

export async function sessions({ signal, reload, who }) {
  const items = await all("/sessions", signal);
  const everybody = who.grants.some((g) => !g.team && g.role === "owner");
  const end = (s) => confirm({
    title: s.current ? "End this very session?" : "End the session?", verb: "End it",
    text: `${s.token ? `The browser that signed in with the token ${s.token}` : s.email} is signed out at once.${s.current ? " That is this browser." : ""}`,
    run: async () => {
      await call("DELETE", path`/sessions/${s.id}`);
      say("The session is ended.");
      reload();
    },
  });
  const columns = [
    ["Who", (s) => [s.token ? ["token ", code(s.token)] : s.email, s.current && [" ", badge("this browser", "good")]], "wide"],
    ["Roles", (s) => s.grants.map((g) => h("span", { class: "item" }, `${g.role} of ${g.team || "every team"}`))],
    ["Began", (s) => time(s.created_at)], ["Used", (s) => time(s.last_used_at)], ["Ends", (s) => time(s.expires_at)],
    ["", (s) => button("End", () => end(s), "small danger"), "acts"],
  ];
  return [
    head("Sessions"),
    h("p", { class: "dim" }, everybody ? "Everybody who is signed in, as a person or in a browser with an API token." : who.person ? "Where you are signed in." : "The browsers that signed in with your token."),
    filtered(table("Sessions", columns, items, "Nobody is signed in."), "sessions"),
  ];
}
