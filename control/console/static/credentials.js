// Lists of credentials: those of one vault, or of a team, with what is due.

import { all, path } from "./api.js";
import { badge, code, dash, h, time } from "./dom.js";
import { filtered, head, table } from "./ui.js";
import { asked, link } from "./place.js";

// credentialLink leads to a credential that is named VAULT/NAME.
export function credentialLink(team, place) {
  const [vault, name] = place.split("/");
  return h("a", { href: link(team, "vaults", vault, name || "") }, code(place));
}

export const credentialColumns = (team) => [
  ["Name", (c) => h("a", { href: link(team, "vaults", c.vault, c.name) }, c.name)],
  ["Hosts", hosts, "line"],
  ["Auth", (c) => c.auth],
  ["Limits", limited],
  ["Version", (c) => c.version, "number"],
  ["Rotated", (c) => time(c.rotated_at)],
  ["Due", due],
];

const shown = 3; // hosts in a row

function hosts(c) {
  const rest = c.hosts.slice(shown);
  return [c.hosts.slice(0, shown).map((host) => h("div", {}, code(host))),
    rest.length > 0 && h("div", { class: "dim", title: rest.join(" ") }, `and ${rest.length} more`)];
}

// due is when a credential is to be rotated again.
export function due(c) {
  if (c.rotate_due && new Date(c.rotate_due) <= new Date()) return badge("due", "bad due");
  return time(c.rotate_due);
}

function limited(c) {
  const marks = [];
  if (c.captured) marks.push(badge("captured", "info"));
  if (c.limits.approve) marks.push(badge("approval", "warn"));
  if (c.limits.expires_at) marks.push(badge(new Date(c.limits.expires_at) < new Date() ? "expired" : "expires", new Date(c.limits.expires_at) < new Date() ? "bad" : "warn"));
  if (c.limits.rate) marks.push(badge(c.limits.rate, "info"));
  if (c.limits.budget) marks.push(badge(c.limits.budget, "info"));
  if (c.limits.methods || c.limits.paths) marks.push(badge("narrowed", "info"));
  return marks.length > 0 ? marks : dash();
}

export const dueMark = { label: "Due to be rotated", selector: ".badge.due" };

// credentials are those of every vault; with ?due the ones to rotate are shown at first.
export async function credentials({ team, signal }) {
  const items = await all(path`/teams/${team}/credentials`, signal);
  const [name, ...rest] = credentialColumns(team);
  const columns = [name, ["Vault", (c) => h("a", { href: link(team, "vaults", c.vault) }, c.vault)], ...rest];
  return [
    head("Credentials"),
    filtered(table("Credentials", columns, items, "There is no credential yet. ", h("a", { href: link(team, "vaults") }, "Make a vault"), " and store one in it."),
      "credentials", { ...dueMark, on: asked().has("due") }),
  ];
}
