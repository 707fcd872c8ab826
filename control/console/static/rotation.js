// The next version of a credential's secret, and the end of the one before.

import { call } from "./api.js";
import { time } from "./dom.js";
import { confirm, form, say, typed } from "./ui.js";

const waits = { name: "wait", label: "Wait for connected sandboxes", kind: "choice", value: "10s", options: [["", "no"], ["10s", "10 seconds at most"], ["30s", "30 seconds at most"], ["2m", "2 minutes at most"]] };

function waiting(where, wait) {
  return where + (wait ? `?wait=${wait}` : "");
}

function rotated(name, wait, r) {
  say([
    `${name} is now version ${r.version}: ${r.acknowledged} of ${r.connected} connected sandboxes use it${wait ? `, after ${r.milliseconds} ms` : ""}.`,
    r.overlap_until && [` Version ${r.version - 1} stays good; that ends `, time(r.overlap_until), "."],
  ]);
  if (r.warning) say(r.warning);
}

export function rotate(where, { name, auth }, then) {
  const overlaps = ["token", "basic"].includes(auth);
  form({
    title: `Rotate ${name}`, verb: "Rotate",
    fields: [
      { name: "secret", label: "New secret", kind: "secret", needed: true, hint: "Nobody sees it again. End the old one at the service afterwards." },
      ...(overlaps ? [{ name: "overlap", label: "Overlap", placeholder: "10m", hint: "For so long (1s to 24h) a request that is answered 401 is sent once more with the version before. None, when empty: so after a leak." }] : []),
      waits,
    ],
    run: async ({ secret, overlap = "", wait }) => {
      const body = { secret: typed(secret) };
      if (overlap.trim()) body.overlap = overlap.trim();
      const { data } = await call("POST", waiting(where + "/rotate", wait), { body });
      rotated(name, wait, data);
      then();
    },
  });
}

// refresh reads a secret that lies in a source.
export function refresh(where, { name, from }, then) {
  form({
    title: `Read ${name} anew`, verb: "Read it", text: `What is at ${from} now becomes its next version. Leases that are renewed find it by themselves, within five minutes of use.`, fields: [waits],
    run: async ({ wait }) => {
      const { data } = await call("POST", waiting(where + "/refresh", wait));
      rotated(name, wait, data);
      then();
    },
  });
}

// retire ends an overlap.
export function retire(where, { name, overlap }, then) {
  confirm({
    title: `Retire version ${overlap.version} of ${name}?`, verb: "Retire it", text: "From now on no request is sent with it, in running sandboxes too.",
    run: async () => {
      await call("DELETE", where + "/overlap");
      say(`Version ${overlap.version} of ${name} is retired.`);
      then();
    },
  });
}
