// A credential tried at its service, by one request of the control plane.

import { call } from "./api.js";
import { badge, code } from "./dom.js";
import { facts, form, result } from "./ui.js";

const tones = { accepted: "good", refused: "bad", no_material: "bad", unreachable: "warn", redirected: "warn", unclear: "warn" };

export function tryOut(where, { name, hosts }) {
  form({
    title: `Test ${name}`, verb: "Send it", text: "The control plane sends one request with it, and reads of the answer nothing but the status.",
    fields: [
      { name: "method", label: "Method", kind: "choice", value: "", options: [["", "as usual"], ["GET", "GET"], ["HEAD", "HEAD"], ["POST", "POST, without a body"]] },
      { name: "path", label: "Path", placeholder: "/v1/me", hint: "Without a query. Empty: the check of its service, the first that its limits allow, or /." },
      { name: "host", label: "Host", placeholder: hosts[0], hint: "One of its hosts. Empty: the first that is no pattern." },
    ],
    run: async (values) => {
      const body = {};
      for (const key of ["method", "path", "host"]) if (values[key].trim()) body[key] = values[key].trim();
      const { data } = await call("POST", where + "/test", { body });
      return () => shown(name, data);
    },
  });
}

function shown(name, t) {
  result(`Test of ${name}`, facts([
    ["Outcome", badge(t.outcome, tones[t.outcome] || "info")],
    ["Why", t.reason],
    ["Request", code(t.method), " ", code(t.host + (t.port === 443 ? "" : ":" + t.port) + t.path), `, version ${t.version}`],
    ["Status", t.status || "none"],
    ["Took", `${t.milliseconds} ms`],
  ]));
}
