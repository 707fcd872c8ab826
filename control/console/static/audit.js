// What happened: read, narrowed, followed as it happens, and verified.

import { download, get, path } from "./api.js";
import { badge, clock, code, dash, h, replace } from "./dom.js";
import { asked as askedFor, link } from "./place.js";
import { credentialLink } from "./credentials.js";
import { button, card, doing, facts, head, say, tableRow } from "./ui.js";

const most = 1000; // rows on the page
const tones = { inject: "good", inspect: "info", passthrough: "warn", refuse: "bad" };

// eventColumns show an event; all but kind, decision and numbers may be an agent's choice.
export const eventColumns = (team) => [
  ["Time", (e) => clock(e.time), "nowrap"],
  ["Kind", (e) => (e.decision ? [badge(e.decision, tones[e.decision] || "info"), e.reason && code(e.reason)] : badge(e.kind, "dim"))],
  ["Who", (e) => who(team, e), "some"],
  ["What", (e) => (e.host ? [e.method && [code(e.method), " "], code(e.host + (e.port && e.port !== 443 ? ":" + e.port : "") + (e.path || ""))] : code(e.detail)), "wide"],
  ["Credential", (e) => (e.credential ? [credentialLink(team, e.credential), e.version && h("span", { class: "dim" }, ` v${e.version}`)] : dash()), "some"],
  ["Status", (e) => e.status || dash(), "number"],
  ["Took", (e) => took(e.duration_us), "number nowrap"],
];

function took(us) {
  if (!us) return dash();
  return us < 1e7 ? `${(us / 1e3).toFixed(us < 1e5 ? 1 : 0)} ms` : `${Math.round(us / 1e6)} s`;
}

// who is an agent with the end of its sandbox's id, the whole to hover over, or whoever
// else did it.
function who(team, e) {
  const agent = e.agent && h("a", { href: link(team, "agents", e.agent) }, e.agent);
  const [kind, id] = (e.actor || "").split(":");
  if (agent && kind === "sandbox") return [agent, " ", h("span", { class: "dim line", title: e.actor }, code("…" + id.slice(-6)))];
  return [code(e.actor), agent && [" ", agent]];
}

const spans = [["", "any time"], ["3600", "last hour"], ["86400", "last day"], ["604800", "last week"], ["2592000", "last 30 days"]];

// narrowing is the form that narrows the page, with what the address asks for.
function narrowing(onchange) {
  const wanted = askedFor();
  const entry = (name, label, placeholder) => h("input", { name, "aria-label": label, placeholder, value: wanted.get(name) || "", autocomplete: "off", spellcheck: "false" });
  const since = h("select", { name: "since", "aria-label": "Since" }, spans.map(([value, text]) => h("option", { value, selected: value === wanted.get("since") }, text)));
  const decision = h("select", { name: "decision", "aria-label": "Decision" },
    ["", "inject", "inspect", "passthrough", "refuse"].map((value) => h("option", { value, selected: value === wanted.get("decision") }, value || "any decision")));
  return h("form", { class: "narrow", onsubmit: (event) => { event.preventDefault(); onchange(); } },
    entry("agent", "Agent", "agent"), entry("host", "Host", "host"), decision, since, h("button", { type: "submit" }, "Show"));
}

export async function audit({ team, signal }) {
  const where = path`/teams/${team}/audit`;
  const columns = eventColumns(team);
  const rows = h("tbody", { id: "events" });
  const more = h("div", { class: "actions" });
  const live = h("input", { type: "checkbox", id: "live", onchange: () => follow() });
  const status = h("span", { class: "dim", role: "status" });
  let after = 0; // where following goes on
  let turn = 0; // counts what was begun, so that what was begun before ends

  const filter = narrowing(() => (live.checked ? follow() : load()).catch((error) => { if (!signal.aborted) replace(status, error.message); }));
  const { elements } = filter;
  const query = () => new URLSearchParams(["agent", "host", "decision"].map((name) => [name, elements[name].value.trim()]).filter(([, value]) => value));
  // narrowed is what the page shows; what is narrowed by more than time is of a day, if nobody says otherwise.
  const narrowed = () => {
    const asked = query();
    if (asked.size > 0 && !elements.since.value) elements.since.value = "86400";
    if (elements.since.value) asked.set("since", new Date(Date.now() - Number(elements.since.value) * 1000).toISOString());
    return asked;
  };
  // keep has the address lead to what is shown.
  const keep = () => {
    const asked = query();
    if (elements.since.value) asked.set("since", elements.since.value);
    history.replaceState(null, "", link(team, "audit") + (asked.size > 0 ? `?${asked}` : ""));
  };
  const put = (events) => {
    for (const e of events) rows.prepend(tableRow(columns, e));
    while (rows.children.length > most) rows.lastChild.remove();
  };

  // newest shows the last events as they are, page by page.
  async function newest(cursor) {
    const page = await get(`${where}?limit=100${cursor ? "&after=" + encodeURIComponent(cursor) : ""}`, signal);
    for (const e of page.items) rows.append(tableRow(columns, e));
    replace(more, page.next && button("Show older", doing(() => newest(page.next))));
  }

  // load shows what fits the filter, from its beginning on.
  async function load() {
    const mine = ++turn;
    replace(rows);
    replace(more);
    replace(status);
    const asked = narrowed();
    keep();
    if (asked.size === 0) {
      await newest();
      return;
    }
    replace(status, "reading…");
    let next = 0;
    for (;;) {
      asked.set("after", next);
      const page = await get(`${where}/follow?${asked}`, signal);
      if (mine !== turn) return;
      put(page.items);
      if (page.items.length === 0 || page.next === next) break;
      next = page.next;
    }
    const found = rows.children.length;
    replace(status, found === 0 ? "No event fits. Look further back, or for less." : `${found === most ? `the newest ${most}` : found} ${found === 1 ? "event" : "events"}`);
  }

  // follow shows what comes, as long as it is asked for.
  async function follow() {
    const mine = ++turn;
    keep();
    if (!live.checked) {
      replace(status);
      return;
    }
    const asked = query();
    after = -1;
    replace(status, "waiting for events…");
    while (mine === turn && !signal.aborted && live.checked) {
      asked.set("after", after);
      if (after >= 0) asked.set("wait", 25);
      try {
        const page = await get(`${where}/follow?${asked}`, signal);
        if (mine !== turn || signal.aborted) return;
        put(page.items);
        after = page.next;
        live.dataset.following = "true";
      } catch (error) {
        if (signal.aborted || error.status === 401) return;
        replace(status, error.message);
        await new Promise((done) => setTimeout(done, 2000));
      }
    }
  }

  const save = doing(async () => {
    const asked = narrowed();
    const until = new Date().toISOString();
    const first = await get(`${where}/follow?${new URLSearchParams([...asked, ["limit", 1], ["after", 0], ["until", until]])}`, signal); // what is wrong is said here
    if (first.items.length === 0) {
      say("There is no event to export.");
      return;
    }
    download({ team, until, ...Object.fromEntries(asked) });
    say("The browser saves it: events with their hashes, a line of JSON each, the oldest first.");
  });

  await load();
  return [
    head("Audit", button("Export", save), h("label", { class: "switch", for: "live" }, live, "Live")),
    filter, status,
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Events" }, h("table", {},
      h("caption", { class: "hidden" }, "Events, newest first"),
      h("thead", {}, h("tr", {}, columns.map(([title, , name]) => h("th", { scope: "col", class: name }, title)))), rows)),
    more,
    card("Is it as it was written?", verification(where, signal)),
  ];
}

// verification walks the chain, a hundred thousand events at a time.
function verification(where, signal) {
  const head = h("input", { "aria-label": "A head that you kept", placeholder: "a head that you kept, POSITION:HASH (if you have one)", autocomplete: "off", spellcheck: "false" });
  const said = h("div", { role: "status", id: "verified" });
  const walk = async () => {
    const kept = head.value.trim().replace(/^\d+:/, "");
    let after = "";
    let events = 0;
    let found = false;
    for (;;) {
      const asked = new URLSearchParams();
      if (after) asked.set("after", after);
      if (kept) asked.set("head", kept);
      const part = await get(`${where}/verify?${asked}`, signal);
      events += part.events;
      found ||= part.kept;
      after = part.head;
      if (part.broken || !part.next) {
        const good = !part.broken && (!kept || found);
        replace(said, h("p", {}, badge(good ? "intact" : "broken", good ? "good" : "bad"), ` ${events} events. `, part.broken || (kept && !found && "The head that you kept is not among them: the chain was written anew, or cut.")),
          facts([["Head", code(after)]]), h("p", { class: "dim" }, "Keep the head elsewhere: then nobody can write the chain anew without your seeing it."));
        return;
      }
      replace(said, `${events} events…`);
    }
  };
  return [h("div", { class: "actions fill" }, head, button("Verify", doing(walk))), said];
}

