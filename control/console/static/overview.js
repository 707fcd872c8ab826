// How a team is doing, at a glance.

import { all, get, path } from "./api.js";
import { badge, h } from "./dom.js";
import { card, head, table } from "./ui.js";
import { link } from "./place.js";
import { eventColumns } from "./audit.js";

const kinds = [["vaults", "Vaults", "vaults"], ["credentials", "Credentials", "vaults"], ["agents", "Agents", "agents"], ["sandboxes", "Sandboxes", "sandboxes"]];

export async function overview({ team, signal }) {
  const [quota, boxes, waiting, events] = await Promise.all([
    get(path`/teams/${team}/quota`, signal), all(path`/teams/${team}/sandboxes`, signal),
    all(path`/teams/${team}/approvals`, signal), get(path`/teams/${team}/audit?limit=12`, signal),
  ]);
  const connected = boxes.filter((b) => b.connected).length;
  const locked = boxes.filter((b) => b.state === "locked").length;
  return [
    head(team),
    waiting.length > 0 && h("p", { class: "notice" }, h("a", { href: link(team, "approvals") }, `${waiting.length} ${waiting.length === 1 ? "request waits" : "requests wait"} for a person`)),
    locked > 0 && h("p", { class: "notice bad" }, badge("locked", "bad"), " ",
      h("a", { href: link(team, "sandboxes") }, `${locked} ${locked === 1 ? "sandbox is" : "sandboxes are"} locked: an identity or join token was seen twice`)),
    h("ul", { class: "figures" },
      kinds.map(([kind, name, page]) => h("li", {}, h("a", { href: link(team, page) }, h("strong", {}, quota.used[kind]), h("span", {}, name)))),
      h("li", {}, h("a", { href: link(team, "sandboxes") }, h("strong", {}, connected), h("span", {}, "Connected")))),
    quota.used.vaults === 0 && card("Begin here", h("ol", {},
      h("li", {}, "Make a ", h("a", { href: link(team, "vaults") }, "vault"), " and store a credential in it."),
      h("li", {}, "Make an ", h("a", { href: link(team, "agents") }, "agent"), " and pin the vault to it."),
      h("li", {}, "Run it: ", h("code", {}, "sallyport run --agent NAME -- COMMAND"), "."))),
    card("Newest events", table("Newest events", eventColumns, events.items, "Nothing has happened yet.")),
  ];
}
