// Requests that wait for a person. What is decided about is what was shown: each decision
// carries the tag of that.

import { all, call, path } from "./api.js";
import { badge, clock, h, plain, replace, time } from "./dom.js";
import { button, card, complain, facts, head, say, table } from "./ui.js";
import { link } from "./place.js";

const pause = 2000; // milliseconds between two looks

const tones = { approved: "good", denied: "bad", expired: "dim", withdrawn: "dim", pending: "warn" };

export async function approvals({ team, signal, may }) {
  const where = path`/teams/${team}/approvals`;
  const waiting = h("div", { class: "waiting", "aria-live": "polite" });
  const about = h("p", { class: "dim", hidden: true }, "Host, path and method are the agent's choice; what is not plain ASCII is escaped. The query and the body are not shown.");
  const past = h("div");
  const shown = new Map(); // what is on the page, by id

  const decide = (one, etag, verb) => async () => {
    for (const b of shown.get(one.id).querySelectorAll("button")) b.disabled = true;
    try {
      const { data } = await call("POST", path`/teams/${team}/approvals/${one.id}/` + verb, { match: etag });
      say(`${one.method} ${one.host}: ${data.state}.`);
    } catch (error) {
      complain(error.message);
    }
    await look();
    document.querySelector("main h1")?.focus();
  };

  const question = ({ data: one, etag }) => h("article", { class: "card question", "data-id": one.id },
    h("h2", {}, plain(one.method), " ", plain(one.host + (one.port === 443 ? "" : ":" + one.port)), plain(one.path)),
    facts([
      ["Agent", h("a", { href: link(team, "agents", one.agent) }, plain(one.agent)), " in sandbox ", h("span", { title: one.sandbox }, "…", plain(one.sandbox.slice(-6)))],
      ["Credential", h("a", { href: link(team, "vaults", ...one.credential.split("/")) }, plain(one.credential)), `, version ${one.version}`],
      ["An approval is", one.scope === "first" ? "for this sandbox and version, for a day" : "for this request alone"],
      ["Asked", time(one.created_at)],
      ["Waits until", clock(one.expires_at), " (", time(one.expires_at), ")"],
    ]),
    may("member") && h("div", { class: "actions" }, button("Deny", decide(one, etag, "deny"), "danger"), button("Approve", decide(one, etag, "approve"), "main")));

  const columns = [
    ["Asked", (a) => clock(a.created_at)],
    ["State", (a) => badge(a.state, tones[a.state])],
    ["Request", (a) => [plain(a.method), " ", plain(a.host), plain(a.path)]],
    ["Credential", (a) => plain(a.credential)],
    ["Agent", (a) => plain(a.agent)],
    ["By", (a) => (a.decided_by ? plain(a.decided_by) : "–")],
  ];

  async function look() {
    const items = await all(where + "?all=true", signal);
    const pending = items.filter((a) => a.state === "pending");
    for (const [id, node] of shown) {
      if (!pending.some((a) => a.id === id)) {
        node.remove();
        shown.delete(id);
      }
    }
    for (const a of pending) {
      if (shown.has(a.id)) continue;
      const read = await call("GET", path`/teams/${team}/approvals/${a.id}`, { signal });
      if (read.data.state !== "pending") continue;
      const node = question(read);
      shown.set(a.id, node);
      waiting.append(node);
    }
    waiting.querySelector(".empty")?.remove();
    if (shown.size === 0) replace(waiting, h("p", { class: "empty" }, "Nothing waits. A request comes here when the limits of its credential say that a person approves it."));
    about.hidden = shown.size === 0;
    replace(past, table("Decided in the last day", columns, items.filter((a) => a.state !== "pending").reverse(), "Nothing yet."));
  }

  const again = async () => {
    if (signal.aborted) return;
    if (!document.hidden) await look().catch((error) => { if (!signal.aborted) say(error.message); });
    if (!signal.aborted) setTimeout(again, pause);
  };
  await look();
  setTimeout(again, pause);
  return [head("Approvals"), about, waiting, card("Of the last day", past)];
}
