// The console's page: who is signed in, where in it we are, and what is shown there.

import { all, comeBack, get, hasSession, path, signedOut, signOut } from "./api.js";
import { h, replace, retime } from "./dom.js";
import { button, complain, result } from "./ui.js";
import { link, place } from "./place.js";
import { signInPage } from "./signin.js";
import { overview } from "./overview.js";
import { vaults, vault } from "./vaults.js";
import { credentials } from "./credentials.js";
import { credential } from "./credential.js";
import { agents, agent } from "./agents.js";
import { sandboxes } from "./sandboxes.js";
import { approvals } from "./approvals.js";
import { audit } from "./audit.js";
import { tokens, everyTokens, sessions } from "./access.js";
import { brought, finish } from "./allow.js";
import { settings, teams, system } from "./settings.js";

// A page is [pattern, what makes it, letter after g, name in the menu, least role].
const ofTeam = [
  ["overview", overview, "o", "Overview"],
  ["approvals", approvals, "p", "Approvals"],
  ["vaults", vaults, "v", "Vaults"],
  ["vaults/:vault", vault],
  ["vaults/:vault/:credential", credential],
  ["credentials", credentials, "c", "Credentials"],
  ["agents", agents, "a", "Agents"],
  ["agents/:agent", agent],
  ["sandboxes", sandboxes, "s", "Sandboxes"],
  ["audit", audit, "u", "Audit"],
  ["tokens", tokens, "t", "Tokens", "owner"],
  ["settings", settings, "q", "Settings"],
];
const ofAll = [
  ["teams", teams, "m", "Teams"],
  ["sessions", sessions, "e", "Sessions"],
  ["tokens", everyTokens, "y", "Tokens of every team", "owner"],
  ["system", system, "i", "System"],
];

const roles = ["viewer", "member", "admin", "owner"];
const main = h("main", { id: "main", tabindex: "-1" });
let who = null; // the answer of /v1/info
let known = []; // names of teams
let showing = new AbortController(); // what the page shown has under way

// role is the caller's in a team, or with "" in every team; "" if there is none. It decides
// only which buttons are there: the API decides what they may do.
function role(team) {
  const ranks = who.grants.filter((g) => !g.team || g.team === team).map((g) => roles.indexOf(g.role));
  return roles[Math.max(-1, ...ranks)] || "";
}

function may(team, least) {
  return roles.indexOf(role(team)) >= roles.indexOf(least);
}

function find(pages, rest) {
  for (const [pattern, make] of pages) {
    const wanted = pattern.split("/");
    if (wanted.length !== rest.length) continue;
    const names = {};
    if (wanted.every((part, i) => (part.startsWith(":") ? ((names[part.slice(1)] = rest[i]), true) : part === rest[i]))) return { make, names };
  }
  return null;
}

function lastTeam() {
  const last = localStorage.getItem("sallyport.team");
  return known.includes(last) ? last : known[0] || "";
}

async function show() {
  showing.abort();
  showing = new AbortController();
  const { signal } = showing;
  const { team, rest } = place();
  const found = team ? find(ofTeam, rest) : find(ofAll, rest);
  if (!found) {
    const target = lastTeam() ? link(lastTeam(), "overview") : link("", "teams");
    if (location.hash !== target) location.replace(target);
    return;
  }
  if (team) localStorage.setItem("sallyport.team", team);
  mark(team, rest);
  const context = { team, ...found.names, who, signal, may: (least) => may(team, least), reload: show };
  main.setAttribute("aria-busy", "true");
  try {
    const content = await found.make(context);
    if (signal.aborted) return;
    replace(main, content);
  } catch (error) {
    if (signal.aborted) return;
    replace(main, failed(error, team, rest));
  }
  main.removeAttribute("aria-busy");
  const title = main.querySelector("h1");
  document.title = [...new Set([title?.textContent || "Console", team, "Sallyport"])].filter(Boolean).join(" · ");
  if (!document.querySelector("dialog[open]")) title?.focus({ preventScroll: true });
}

// failed is in the place of a page that could not be made, with where to go on.
function failed(error, team, rest) {
  const [, , , name] = (team ? ofTeam : ofAll).find(([pattern]) => pattern === rest[0]);
  return [
    rest.length > 1 && h("p", { class: "crumbs" }, h("a", { href: link(team, rest[0]) }, name)),
    h("h1", { tabindex: "-1" }, error.status === 404 ? "Not found" : "That did not work"),
    h("p", { class: "wrong", role: "alert" }, error.message),
    h("div", { class: "actions" }, button("Try again", show)),
  ];
}

function mark(team, rest) {
  for (const item of document.querySelectorAll("nav a[data-page]")) {
    const here = item.dataset.page === rest[0] && Boolean(item.dataset.team) === Boolean(team);
    if (here) item.setAttribute("aria-current", "page");
    else item.removeAttribute("aria-current");
  }
}

function menu(pages, team) {
  return h("ul", {}, pages.filter(([, , key, , least]) => key && (!least || may(team, least))).map(([page, , key, name]) =>
    h("li", {}, h("a", { href: link(team, page), "data-page": page, "data-team": team, title: `g ${key}` }, name,
      page === "approvals" && h("span", { class: "count", id: "waiting", hidden: true })))));
}

function frame() {
  const team = place().team || lastTeam();
  const choice = h("select", { "aria-label": "Team", onchange: () => { location.hash = link(choice.value, "overview"); build(); } },
    (known.includes(team) || !team ? known : [team, ...known]).map((name) => h("option", { value: name, selected: name === team }, name)));
  const name = who.person ? who.person.email : who.token;
  return h("div", { class: "frame" },
    h("nav", { "aria-label": "Pages" },
      h("p", { class: "brand" }, h("img", { src: "/console/icon.svg", alt: "", width: "24", height: "24" }), "Sallyport"),
      known.length > 0 && h("label", { class: "team" }, h("span", {}, "Team"), choice),
      team && menu(ofTeam, team),
      h("p", { class: "above" }, "Installation"),
      menu(ofAll, ""),
      h("div", { class: "who" },
        h("p", {}, name), h("p", { class: "dim" }, role(team) || who.role, team ? ` of ${team}` : ""),
        h("div", { class: "actions" },
          h("button", { type: "button", class: "small", onclick: () => signOut().catch((error) => complain(error.message)) }, "Sign out"),
          h("button", { type: "button", class: "small quiet", onclick: keys, title: "?" }, "Keyboard")))),
    main);
}

const page = () => document.getElementById("page");

function build() {
  replace(page(), frame());
  show();
  watch();
}

// start shows the console to whoever is signed in, and the way in to all others.
async function start(wrong) {
  if (!hasSession()) return out(wrong);
  try {
    who = await get("/info");
    known = (await all("/teams")).map((t) => t.name);
  } catch (error) {
    if (error.status === 401) return;
    return out(error.message);
  }
  build();
}

function out(wrong) {
  who = null;
  showing.abort();
  for (const box of document.querySelectorAll("dialog")) box.close();
  document.title = "Sign in · Sallyport";
  replace(page(), signInPage(start, wrong));
  page().querySelector("input, textarea, button")?.focus();
}

const patience = 600000; // milliseconds
let touched = Date.now();

// watch keeps the number of requests that wait in the menu. When nobody has been here for
// a while it stops, so that a session that nobody uses ends.
async function watch() {
  const { team } = place();
  if (!who || document.hidden || Date.now() - touched > patience || !(team || lastTeam())) return;
  const mark = document.getElementById("waiting");
  if (!mark) return;
  try {
    const waiting = await all(path`/teams/${team || lastTeam()}/approvals`);
    mark.hidden = waiting.length === 0;
    replace(mark, waiting.length);
    mark.setAttribute("aria-label", `${waiting.length} waiting`);
  } catch {
    mark.hidden = true; // the page itself says what is wrong
  }
}

function keys() {
  const list = [["g, then a letter", "go to a page:"], ...[...ofTeam, ...ofAll].filter((p) => p[2]).map(([, , key, name]) => [`g ${key}`, name]),
    ["/", "filter the list"], ["n", "the page's first button"], ["Escape", "close"], ["?", "this"]];
  result("Keyboard", h("dl", { class: "keys" }, list.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])));
}

let leading = false;

function pressed(event) {
  const typing = event.target instanceof Element && event.target.closest("input, textarea, select, dialog");
  if (!who || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const { team } = place();
  const led = leading;
  leading = event.key === "g" && !led;
  if (led) {
    const inTeam = ofTeam.find((p) => p[2] === event.key);
    const inAll = ofAll.find((p) => p[2] === event.key);
    if (inTeam && (team || lastTeam())) location.hash = link(team || lastTeam(), inTeam[0]);
    else if (inAll) location.hash = link("", inAll[0]);
  } else if (event.key === "/") {
    main.querySelector("input[type=search]")?.focus();
  } else if (event.key === "n") {
    main.querySelector(".head button")?.click();
  } else if (event.key === "?") {
    keys();
  } else {
    return;
  }
  event.preventDefault();
}

addEventListener("hashchange", () => {
  if (!who) return;
  const { team } = place();
  const shown = document.querySelector("nav .team select");
  if (team && shown && shown.value !== team) build();
  else show();
});
addEventListener("keydown", pressed);
for (const kind of ["keydown", "pointerdown"]) addEventListener(kind, () => { touched = Date.now(); }, { capture: true, passive: true });
signedOut.addEventListener("over", (event) => out(event.detail));
setInterval(watch, 5000);
setInterval(retime, 15000);

const back = brought();
comeBack().then(() => start(), (error) => start(error.message)).then(() => back && finish(back, show));
