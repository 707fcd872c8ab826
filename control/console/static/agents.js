// Agents: which vaults they may use, what else they may reach, and what would become of a
// request.

import { all, call, path } from "./api.js";
import { badge, code, dash, h, replace, time } from "./dom.js";
import { button, card, commas, confirm, doing, facts, filtered, form, head, named, once, say, table } from "./ui.js";
import { link } from "./place.js";
import { boxColumns } from "./sandboxes.js";

export async function agents({ team, signal, may }) {
  const items = await all(path`/teams/${team}/agents`, signal);
  const add = () => form({
    title: "New agent", verb: "Make it", text: "It uses the credentials of the vaults that are pinned to it, in sandboxes.", fields: [named("As in billing or release-bot.")],
    run: async ({ name }) => {
      await call("POST", path`/teams/${team}/agents`, { body: { name } });
      location.hash = link(team, "agents", name);
    },
  });
  const columns = [
    ["Name", (a) => h("a", { href: link(team, "agents", a.name) }, a.name)],
    ["Vaults", (a) => (a.vaults ? a.vaults.map((v) => h("a", { class: "item", href: link(team, "vaults", v) }, v)) : dash())],
    ["Made", (a) => time(a.created_at)],
  ];
  return [head("Agents", may("admin") && button("New agent", add, "main")), filtered(table("Agents", columns, items, "There is no agent yet. ", may("admin") ? "Make one, pin vaults to it, and run it in a sandbox." : "Who is an admin may make one."), "agents")];
}

export async function agent(context) {
  const { team, agent: name, signal, may, reload } = context;
  const where = path`/teams/${team}/agents/${name}`;
  const [a, policy, vaults, boxes] = await Promise.all([
    call("GET", where, { signal }), call("GET", where + "/policy", { signal }),
    all(path`/teams/${team}/vaults`, signal), all(path`/teams/${team}/sandboxes`, signal),
  ]);
  const make = async () => {
    const { data } = await call("POST", where + "/sandboxes");
    once("Join token", [`It lets one sidecar enrol as a sandbox of ${name}, once, within five minutes. Nobody sees it again. Put it into a file, and start `,
      code(`sallyport-sidecar init --control ${data.sidecar_url} --join-token-file FILE -- COMMAND`)], data.join_token);
    reload();
  };
  const remove = () => confirm({
    title: `Remove ${name}?`, name, verb: "Remove it", text: "Its sandboxes are cut off at once.",
    run: async () => {
      await call("DELETE", where);
      location.hash = link(team, "agents");
    },
  });
  const own = boxes.filter((b) => b.agent === name);
  const columns = boxColumns(context).filter(([title]) => title !== "Agent");
  return [
    h("p", { class: "crumbs" }, h("a", { href: link(team, "agents") }, "Agents")),
    head(name, may("member") && button("New sandbox", doing(make), "main"), may("admin") && button("Remove", remove, "danger")),
    h("div", { class: "cards" },
      card("Vaults", pins(where, a.data.vaults || [], vaults.map((v) => v.name), context)),
      card("What would become of a request", explain(where))),
    card("What else it may reach", editor(where, policy, may("admin"), reload)),
    card("Sandboxes", table(`Sandboxes of ${name}`, columns, own, "There is none. Make one by ", code(`sallyport run --agent ${name} -- COMMAND`), ", or with New sandbox for a sidecar elsewhere.")),
    h("p", {}, h("a", { href: `${link(team, "audit")}?${new URLSearchParams({ agent: name })}` }, "What it did: its audit events")),
  ];
}

function pins(where, pinned, vaults, { team, may, reload }) {
  const pin = async (vault) => {
    await call("PUT", where + path`/pins/${vault}`);
    say(`${vault} is pinned.`);
    reload();
  };
  const unpin = (vault) => confirm({
    title: `Unpin ${vault}?`, verb: "Unpin it", text: "The agent stops using its credentials at once, in running sandboxes too, and what those captured with them is deleted.",
    run: async () => {
      await call("DELETE", where + path`/pins/${vault}`);
      say(`${vault} is unpinned, in running sandboxes too.`);
      reload();
    },
  });
  const rest = vaults.filter((v) => !pinned.includes(v));
  const choice = h("select", { "aria-label": "Vault to pin" }, rest.map((v) => h("option", { value: v }, v)));
  return [
    pinned.length === 0 && h("p", { class: "dim" }, "It uses no credential yet."),
    h("ul", { class: "rows" }, pinned.map((v) => h("li", {}, h("a", { href: link(team, "vaults", v) }, v),
      may("admin") && button("Unpin", () => unpin(v), "small danger")))),
    may("admin") && rest.length > 0 && h("div", { class: "actions fill" }, choice, button("Pin", doing(() => pin(choice.value)))),
    vaults.length === 0 && h("p", { class: "dim" }, "There is no vault to pin yet: ", h("a", { href: link(team, "vaults") }, "make one"), "."),
  ];
}

const tones = { inject: "good", inspect: "info", passthrough: "warn", refuse: "bad" };

function explain(where) {
  const method = h("input", { name: "method", value: "GET", "aria-label": "Method", class: "short", autocomplete: "off", spellcheck: "false", required: true });
  const url = h("input", { name: "url", "aria-label": "URL", placeholder: "https://api.example.com/v1/x", autocomplete: "off", spellcheck: "false", required: true });
  const said = h("div", { role: "status" });
  const ask = async (event) => {
    event.preventDefault();
    try {
      const { data: e } = await call("POST", where + "/explain", { body: { method: method.value.trim(), url: url.value.trim() } });
      replace(said, h("p", {}, badge(e.decision, tones[e.decision]), " ", e.code && [code(e.code), " "], e.reason), facts([
        e.credential && ["Credential", code(e.credential), e.version && `, version ${e.version}`],
        e.overlap && ["On a 401", `once more with version ${e.overlap.version}, which ends `, time(e.overlap.until), ", unless it has a body or opens a WebSocket"],
        e.inject && ["Rules", e.inject.map((rule) => h("div", {}, code(rule)))],
        e.limits && ["Limits", e.limits],
        e.notes && ["Notes", e.notes.map((note) => h("div", {}, note))],
      ]));
    } catch (error) {
      replace(said, h("p", { class: "wrong" }, error.message));
    }
  };
  return h("form", { onsubmit: ask, autocomplete: "off" }, h("div", { class: "actions fill" }, method, url, h("button", { type: "submit" }, "Explain")), said);
}

// editor shows a policy and changes it as a whole: the first rule that fits decides.
function editor(where, { data: policy, etag }, can, reload) {
  const off = !can;
  const entry = (label, value, placeholder, name) => h("input", { value, placeholder, "aria-label": label, class: name, disabled: off, autocomplete: "off", spellcheck: "false" });
  const choice = (value, label) => h("select", { "aria-label": label, disabled: off }, ["inspect", "passthrough", "deny"].map((a) => h("option", { value: a, selected: a === value }, a)));
  const rows = h("tbody");
  const submit = button("Save the policy", doing(() => save()), "main");
  const unsaved = h("span", { class: "dim", role: "status" });
  const touched = () => {
    submit.disabled = false;
    replace(unsaved, "Not saved yet.");
  };
  submit.disabled = true;
  const add = (rule = { action: "inspect" }) => {
    const parts = {
      action: choice(rule.action, "Action"), hosts: entry("Hosts", (rule.hosts || []).join(", "), "any"), ports: entry("Ports", (rule.ports || []).join(", "), "443, 80"),
      methods: entry("Methods", (rule.methods || []).join(", "), "any"), paths: entry("Paths", (rule.paths || []).join(" "), "any"),
    };
    const row = h("tr", {}, Object.entries(parts).map(([name, part]) => h("td", { "data-title": name }, part)), can && h("td", { class: "acts" },
      h("button", { type: "button", class: "small", "aria-label": "Move up", onclick: () => { row.previousElementSibling?.before(row); touched(); } }, "↑"),
      h("button", { type: "button", class: "small", "aria-label": "Move down", onclick: () => { row.nextElementSibling?.after(row); touched(); } }, "↓"),
      h("button", { type: "button", class: "small danger", "aria-label": "Remove the rule", onclick: () => { row.remove(); touched(); } }, "×")));
    row.rule = () => {
      const made = { action: parts.action.value };
      for (const name of ["hosts", "methods", "paths"]) if (commas(parts[name].value).length > 0) made[name] = commas(parts[name].value);
      const ports = commas(parts.ports.value).map(Number);
      if (ports.some((port) => !Number.isInteger(port))) throw new Error("A port is a number from 1 to 65535.");
      if (ports.length > 0) made.ports = ports;
      return made;
    };
    rows.append(row);
    return parts.hosts;
  };
  policy.rules.forEach(add);
  const otherwise = choice(policy.default, "Where no rule fits");
  const save = async () => {
    const body = { default: otherwise.value, rules: [...rows.children].map((row) => row.rule()) };
    await call("PUT", where + "/policy", { body, match: etag });
    say("The policy is changed, in running sandboxes too.");
    reload();
  };
  return h("div", { oninput: touched },
    h("p", { class: "dim" }, "The first rule that fits decides. ", code("inspect"), " reads, ", code("passthrough"), " hands on unread, ", code("deny"), " refuses. A credential's host may always be reached, unless a rule denies it."),
    h("div", { class: "scroll" }, h("table", { class: "edit" },
      h("thead", {}, h("tr", {}, ["Action", "Hosts", "Ports", "Methods", "Paths"].map((title) => h("th", { scope: "col" }, title)), can && h("th", {}, h("span", { class: "hidden" }, "Order")))), rows)),
    h("p", {}, "Where no rule fits: ", otherwise),
    policy.notes.length > 0 && h("ul", { class: "notes" }, policy.notes.map((note) => h("li", {}, note))),
    can && h("div", { class: "actions" }, button("Add a rule", () => { add().focus(); touched(); }), submit, unsaved));
}
