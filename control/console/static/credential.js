// One credential: what it is, what it is used for, and its next secret.

import { call, path } from "./api.js";
import { badge, code, h, time } from "./dom.js";
import { button, card, confirm, facts, form, head, lines, pairs, say, settingsOf } from "./ui.js";
import { link } from "./place.js";
import { refresh, retire, rotate } from "./rotation.js";
import { tryOut } from "./trial.js";
import { allowable, ask } from "./allow.js";
import { limitFields, limitsOf, reminderField } from "./vaults.js";
import { due } from "./credentials.js";

export async function credential({ team, vault, credential: name, signal, may, reload, who }) {
  const where = path`/teams/${team}/vaults/${vault}/credentials/${name}`;
  const { data: c, etag } = await call("GET", where, { signal });
  const can = may("admin") && !c.captured;
  const change = (title, fields, body, said = `${name} is changed, in running sandboxes too.`) => form({
    title, fields, verb: "Save",
    run: async (values) => {
      await call("PATCH", where, { body: body(values), match: etag });
      say(said);
      reload();
    },
  });
  const blocked = allowable(c, who);
  const buttons = [
    can && blocked === null && button("Log in", () => ask(team, c), "main"),
    can && (c.from ? button("Read it anew", () => refresh(where, c, reload), "main") : button("Rotate", () => rotate(where, c, reload), "main")),
    can && button("Test", () => tryOut(where, c)),
    may("admin") && button("Remove", () => confirm({
      title: `Remove ${name}?`, name, verb: "Remove it", text: "Every version of its secret goes, and what was captured with it. Running sandboxes stop using it at once.",
      run: async () => {
        await call("DELETE", where);
        location.hash = link(team, "vaults", vault);
      },
    }), "danger"),
  ];
  const changeSettings = () => change(`Settings of ${name}`, [
    { name: "settings", label: "Settings", kind: "lines", rows: 6, value: pairs(c.settings).join("\n"), hint: "NAME=VALUE, one to a line. Others are a new version of the same secret." },
  ], (values) => ({ settings: settingsOf(values.settings) }));
  const changeMints = () => change(`New secrets that the service hands out to ${name}`, [
    { name: "mints", label: "Rules", kind: "lines", rows: 6, value: (c.mints || []).join("\n"), hint: "One to a line; the service's come after them." },
  ], (values) => ({ mints: lines(values.mints) }));
  const changeLimits = () => change(`Limits of ${name}`, limitFields(c.limits), (values) => ({ limits: limitsOf(values) }));
  const remind = () => change(`Reminder to rotate ${name}`, [reminderField(c)],
    (values) => ({ rotate_every: values.rotate_every.trim() }), `The reminder of ${name} is changed.`);
  const acts = (...buttons) => can && h("div", { class: "actions" }, buttons);
  return [
    h("p", { class: "crumbs" }, h("a", { href: link(team, "vaults") }, "Vaults"), " / ", h("a", { href: link(team, "vaults", vault) }, vault)),
    head(name, buttons),
    h("div", { class: "cards" },
      card("What it is", facts([
        ["Placeholder", code(c.placeholders[0])],
        ["Service", c.service || "–"],
        ["Hosts", c.hosts.map((host) => h("div", {}, code(host)))],
        ["Auth", c.auth, c.username && [" as ", code(c.username)]],
        c.settings && ["Settings", pairs(c.settings).map((text) => h("div", {}, code(text)))],
        ["Rules", c.inject.map((rule) => h("div", {}, code(rule)))],
        ["Stray placeholders", c.stray],
        ["Without TLS", c.allow_http ? badge("allowed", "warn") : "no"],
        ["WebSockets", c.allow_websocket ? "allowed" : "no"],
        c.mints?.length > 0 && ["New secrets", c.mints.map((rule) => h("div", {}, code(rule)))],
        c.captured && ["Captured", "with ", code(c.captured.origin), " by ", code(c.captured.sandbox), ", which ends ", time(c.captured.expires_at)],
      ]), acts(c.settings && button("Change the settings", changeSettings), button("Rules for new secrets", changeMints))),
      card("Its secret", facts([
        ["Version", c.version], ["Stored", time(c.created_at)], ["Rotated", time(c.rotated_at)],
        c.from && ["Lies in", code(c.from), c.from_version && [", there version ", code(c.from_version)]],
        blocked !== undefined && ["A person allows it", blocked === null ? [code(new URL(c.settings.auth_url).host), can && ", by the button Log in"] : blocked],
        c.overlap && ["Also good", `version ${c.overlap.version}; that ends `, time(c.overlap.until)],
        ["To be rotated", c.rotate_every ? [`every ${c.rotate_every}, next: `, due(c)] : "nobody is reminded"],
      ]), h("p", { class: "dim" }, "The secret itself is shown to nobody."),
      acts(c.overlap && button("Retire the version before", () => retire(where, c, reload)), button(c.rotate_every ? "Change the reminder" : "Set a reminder", remind))),
      card("Limits", facts([
        ["Methods", (c.limits.methods || ["any"]).join(", ")],
        ["Paths", c.limits.paths ? c.limits.paths.map((p) => h("div", {}, code(p))) : "any"],
        ["Ends", c.limits.expires_at ? time(c.limits.expires_at) : "never"],
        ["Rate", c.limits.rate || "any"],
        ["Budget", c.limits.budget ? `${c.limits.budget}; ${c.spent || 0} spent` : "any"],
        ["A person approves", c.limits.approve ? `${c.limits.approve}, within ${c.limits.approve_timeout}` : "nothing"],
      ]), acts(button("Change the limits", changeLimits)))),
  ];
}
