// Stores outside that credentials of a vault may have their secrets in.

import { call, path } from "./api.js";
import { code, h, time } from "./dom.js";
import { button, confirm, form, named, pairs, say, settingsOf, table, typed } from "./ui.js";

const kinds = [["vault", "HashiCorp Vault or OpenBao"], ["aws", "AWS Secrets Manager"], ["onepassword", "1Password Connect"]];

const opener = (label) => ({ name: "secret", label, kind: "secret", needed: true, hint: "A token, a secret id or a secret access key. Nobody sees it again." });

// sources are shown where there are any.
export function sources({ team, vault, may, reload }, items) {
  if (items.length === 0) return null;
  const where = (s) => path`/teams/${team}/vaults/${vault}/sources/${s.name}`;
  const columns = [
    ["Name", (s) => code(s.name)],
    ["Kind", (s) => s.kind],
    ["Settings", (s) => pairs(s.settings).map((text) => h("span", { class: "item" }, code(text))), "wide"],
    ["Opened by", (s) => `version ${s.version}`],
    ["Rotated", (s) => time(s.rotated_at)],
    ["", (s) => may("admin") && [button("Rotate", () => rotate(where(s), s.name, reload), "small"), " ", button("Remove", () => remove(where(s), s.name, reload), "small danger")], "acts"],
  ];
  return [h("h2", {}, "Sources"), table(`Sources of ${vault}`, columns, items, "")];
}

export function newSource({ team, vault, reload }) {
  form({
    title: "Add a source", verb: "Add it", text: "A store of secrets that your team has already. Credentials of this vault may have theirs in it.",
    fields: [
      named("Credentials say where their secret lies by it: NAME:PATH."),
      { name: "kind", label: "Kind", kind: "choice", value: "vault", options: kinds },
      { name: "settings", label: "Settings", kind: "lines", placeholder: "address=https://vault.example.com:8200\nprefix=kv/data/agents/", hint: "NAME=VALUE, one to a line; they are not secret, and stay as they are." },
      opener("What opens it"),
    ],
    run: async (values) => {
      const body = { name: values.name.trim(), kind: values.kind, secret: typed(values.secret) };
      if (values.settings.trim()) body.settings = settingsOf(values.settings);
      const { data } = await call("POST", path`/teams/${team}/vaults/${vault}/sources`, { body });
      say(`The source ${data.name} is added.`);
      reload();
    },
  });
}

function rotate(where, name, then) {
  form({
    title: `Rotate what opens ${name}`, verb: "Rotate", fields: [opener("What opens it now")],
    run: async ({ secret }) => {
      const { data } = await call("POST", where + "/rotate", { body: { secret: typed(secret) } });
      say(`${name} is now opened by version ${data.version}.`);
      then();
    },
  });
}

function remove(where, name, then) {
  confirm({
    title: `Remove the source ${name}?`, verb: "Remove it", text: "What opens it is forgotten here. It can't be removed while a credential has its secret in it.",
    run: async () => {
      await call("DELETE", where);
      say(`The source ${name} is removed.`);
      then();
    },
  });
}
