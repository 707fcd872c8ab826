// How a team is doing, at a glance.

import { all, get, path } from "./api.js";
import { badge, code, h } from "./dom.js";
import { button, card, head, table } from "./ui.js";
import { link } from "./place.js";
import { eventColumns } from "./audit.js";

const kinds = [["vaults", "Vaults", "vaults"], ["credentials", "Credentials", "credentials"], ["agents", "Agents", "agents"], ["sandboxes", "Sandboxes", "sandboxes"]];

// notice is a line of what somebody should look at, with how many of it there are.
function notice(n, one, many, href, tone = "") {
  return n > 0 && h("p", { class: `notice ${tone}` }, h("a", { href }, `${n}${n === 1000 ? " or more" : ""} ${n === 1 ? one : many}`));
}

// step is one of the first ones, ticked when it is done.
function step(done, ...what) {
  return h("li", {}, what, done && [" ", badge("done", "good")]);
}

export async function overview({ team, signal, reload }) {
  const [quota, boxes, waiting, due, events] = await Promise.all([
    get(path`/teams/${team}/quota`, signal), all(path`/teams/${team}/sandboxes`, signal),
    all(path`/teams/${team}/approvals`, signal), all(path`/teams/${team}/credentials?due=true`, signal), get(path`/teams/${team}/audit?limit=12`, signal),
  ]);
  const connected = boxes.filter((b) => b.connected).length;
  const locked = boxes.filter((b) => b.state === "locked").length;
  return [
    head(team, button("Refresh", reload)),
    notice(locked, "sandbox is locked: an identity or join token was seen twice", "sandboxes are locked: an identity or join token was seen twice", link(team, "sandboxes"), "bad"),
    notice(waiting.length, "request waits for a person", "requests wait for a person", link(team, "approvals")),
    notice(due.length, "credential is due to be rotated", "credentials are due to be rotated", link(team, "credentials") + "?due"),
    h("ul", { class: "figures" },
      kinds.map(([kind, name, page]) => h("li", {}, h("a", { href: link(team, page) }, h("strong", {}, quota.used[kind]), h("span", {}, name)))),
      h("li", {}, h("a", { href: link(team, "sandboxes") }, h("strong", {}, connected), h("span", {}, "Connected")))),
    boxes.length === 0 && card("Begin here", h("ol", { class: "steps" },
      step(quota.used.credentials > 0, "Make a ", h("a", { href: link(team, "vaults") }, "vault"), " and store a credential in it."),
      step(quota.used.agents > 0, "Make an ", h("a", { href: link(team, "agents") }, "agent"), " and pin the vault to it."),
      step(false, "Run it: ", code("sallyport run --agent NAME -- COMMAND")))),
    card("Newest events", table("Newest events", eventColumns(team), events.items, "Nothing has happened yet."),
      h("p", {}, h("a", { href: link(team, "audit") }, "All events"))),
  ];
}
