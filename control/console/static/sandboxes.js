// Sandboxes: what state they are in, and their end.

import { all, call, path } from "./api.js";
import { badge, code, h, time } from "./dom.js";
import { button, confirm, filtered, head, say, table } from "./ui.js";
import { link } from "./place.js";

const tones = { pending: "info", enrolled: "warn", revoked: "dim", locked: "bad" };

export function boxColumns({ team, may, reload }) {
  return [
    ["Sandbox", (b) => code(b.id), "id"],
    ["Agent", (b) => h("a", { href: link(team, "agents", b.agent) }, b.agent)],
    ["State", (b) => (b.connected ? badge("connected", "good") : badge(b.state, tones[b.state] || "info"))],
    ["Revision", (b) => b.applied_revision, "number"],
    ["Sidecar", (b) => code(b.version), "line"],
    ["Made", (b) => time(b.created_at)],
    ["Seen", (b) => time(b.last_seen_at)],
    ["", (b) => may("member") && b.state !== "revoked" && button("Revoke", () => revoke(team, b, reload), "small danger"), "acts"],
  ];
}

function revoke(team, box, then) {
  confirm({
    title: `Revoke this sandbox of ${box.agent}?`, verb: "Revoke it", text: `${box.id} gets nothing from then on: its requests fail at once, and there is no way back. Others of the agent go on.`,
    run: async () => {
      await call("DELETE", path`/teams/${team}/sandboxes/${box.id}`);
      say("The sandbox is cut off.");
      then();
    },
  });
}

export async function sandboxes(context) {
  const items = await all(path`/teams/${context.team}/sandboxes`, context.signal);
  return [
    head("Sandboxes", button("Refresh", context.reload)),
    filtered(table("Sandboxes", boxColumns(context), items, "There is no sandbox. Make one by ", code("sallyport run --agent NAME -- COMMAND"), ", or on the page of an agent."), "sandboxes"),
  ];
}
