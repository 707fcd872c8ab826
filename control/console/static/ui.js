// The pieces that pages are made of: tables, forms in dialogs, questions, messages.

import { h, replace } from "./dom.js";

// say tells in a corner, and to screen readers, what was done.
export function say(text) {
  const message = h("p", { class: "toast" }, text);
  document.getElementById("said").append(message);
  setTimeout(() => message.remove(), 6000);
}

// complain tells there what went wrong, for longer.
export function complain(text) {
  const message = h("p", { class: "toast bad", role: "alert" }, text, " ", h("button", { type: "button", class: "quiet small", "aria-label": "Close", onclick: () => message.remove() }, "×"));
  document.getElementById("said").append(message);
  setTimeout(() => message.remove(), 60000);
}

export function button(text, onclick, tone = "") {
  return h("button", { type: "button", class: tone, onclick }, text);
}

// doing runs an act of a button, which is off meanwhile, and says what went wrong.
export function doing(act) {
  return async (event) => {
    const pressed = event.currentTarget;
    pressed.disabled = true;
    try {
      await act();
    } catch (error) {
      if (error.name !== "AbortError") complain(error.message); // that one is of who has gone on to another page
    } finally {
      pressed.disabled = false;
    }
  };
}

// head is a page's title with its buttons.
export function head(title, ...buttons) {
  return h("header", { class: "head" }, h("h1", { tabindex: "-1" }, title), h("div", { class: "actions" }, buttons));
}

// table shows rows; a column is [title, cell of a row, class].
export function table(caption, columns, rows, ...empty) {
  if (rows.length === 0) return h("div", { class: "empty" }, empty);
  const body = h("tbody", {}, rows.map((row) => tableRow(columns, row)));
  const rest = rows.more && h("p", { class: "rest" }, button("Show more", doing(async () => {
    rows = await rows.more();
    body.append(...rows.map((row) => tableRow(columns, row)));
    if (!rows.more) rest.remove();
    body.dispatchEvent(new Event("more", { bubbles: true }));
  })));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", { class: "hidden" }, caption),
      h("thead", {}, h("tr", {}, columns.map(([title, , name]) => h("th", { scope: "col", class: name }, title || h("span", { class: "hidden" }, "Actions"))))),
      body),
    rest);
}

export function tableRow(columns, row) {
  return h("tr", {}, columns.map(([title, cell, name]) => h("td", { class: name, "data-title": title }, cell(row))));
}

// filtered is a table with a box that narrows it by what its rows say, and with a mark
// {label, selector, on} another for the rows that have such an element.
export function filtered(content, what, mark) {
  const rows = () => [...content.querySelectorAll("tbody tr")];
  const narrow = () => {
    const wanted = box.value.toLowerCase();
    for (const row of rows()) row.hidden = !row.textContent.toLowerCase().includes(wanted) || (only.checked && !row.querySelector(mark.selector));
    const shown = rows().filter((row) => !row.hidden).length;
    replace(count, wanted || only.checked ? `${shown} of ${rows().length}` : "");
  };
  const box = h("input", {
    type: "search", class: "filter", placeholder: `Filter ${what}`, "aria-label": `Filter ${what}`, autocomplete: "off", spellcheck: "false", oninput: narrow,
  });
  const only = h("input", { type: "checkbox", onchange: narrow, checked: mark?.on });
  const count = h("span", { class: "dim", role: "status" });
  content.addEventListener("more", narrow);
  if (mark?.on) narrow();
  return [rows().length > 0 && h("div", { class: "narrow" }, box,
    mark && (mark.on || content.querySelector(mark.selector)) && h("label", { class: "switch" }, only, mark.label), count), content];
}

// facts are names and what each is.
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, ...value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

export function card(title, ...content) {
  return h("section", { class: "card" }, h("h2", {}, title), content);
}

let ids = 0;

// A field is {name, label, kind, value, hint, needed, options, pattern, like}; kind is text,
// lines, secret, choice, check or number; like says what fits the pattern. control makes
// what it is entered in.
function control(field, id) {
  const usual = {
    id, name: field.name, required: field.needed, autocomplete: "off", autocapitalize: "off", autocorrect: "off", spellcheck: "false",
    "aria-describedby": field.hint && `${id}-hint`, "data-1p-ignore": true, "data-lpignore": "true",
  };
  switch (field.kind) {
    case "choice":
      return h("select", { id, name: field.name, "aria-describedby": usual["aria-describedby"], onchange: field.onchange },
        field.options.map(([value, text]) => h("option", { value, selected: value === field.value }, text)));
    case "check":
      return h("input", { ...usual, type: "checkbox", required: undefined, checked: field.value });
    case "lines":
      return h("textarea", { ...usual, rows: field.rows || 3, value: field.value || "", placeholder: field.placeholder });
    case "secret":
      // No input of type password: browsers offer to keep those. The style hides it.
      return h("textarea", { ...usual, rows: 2, class: "secret" });
  }
  return h("input", { ...usual, type: field.kind || "text", value: field.value ?? "", placeholder: field.placeholder, pattern: field.pattern, title: field.like });
}

function fromFile(into) {
  const chosen = h("input", { type: "file", class: "hidden", tabindex: "-1", "aria-hidden": "true", onchange: async () => {
    if (chosen.files.length === 1) into.value = (await chosen.files[0].text()).replace(/\r?\n$/, "");
    chosen.value = "";
    into.focus();
  } });
  return [chosen, button("From a file…", () => chosen.click(), "small")];
}

function labelled(field) {
  if (field.more) return h("details", {}, h("summary", {}, field.more), field.fields.map(labelled));
  const id = `field-${++ids}`;
  const entry = control(field, id);
  const label = h("label", { for: id }, field.label);
  const hint = field.hint && h("p", { class: "hint", id: `${id}-hint` }, field.hint);
  if (field.kind === "check") return h("div", { class: "field check" }, entry, label, hint);
  return h("div", { class: "field" }, label, entry, field.kind === "secret" && h("div", {}, fromFile(entry)), hint);
}

// named is the field for a name of a team, vault, credential, agent or token.
export function named(hint) {
  return { name: "name", label: "Name", needed: true, pattern: "[a-z0-9]([a-z0-9._\\-]*[a-z0-9])?", like: "Lower-case letters, digits, - _ and ., with a letter or digit first and last.", hint };
}

// lines are what is entered one to a line.
export function lines(text) {
  return text.split("\n").map((line) => line.trim()).filter(Boolean);
}

// commas are what is entered with commas or spaces between.
export function commas(text) {
  return text.split(/[\s,]+/).filter(Boolean);
}

// settingsOf reads NAME=VALUE, one to a line.
export function settingsOf(text) {
  return Object.fromEntries(lines(text).map((line) => {
    const at = line.indexOf("=");
    if (at < 1) throw new Error("A setting is NAME=VALUE, one to a line.");
    return [line.slice(0, at), line.slice(at + 1)];
  }));
}

// pairs are settings as they are entered.
export function pairs(settings) {
  return Object.entries(settings || {}).map(([name, value]) => `${name}=${value}`);
}

// typed is a secret without the line's end that came with it.
export function typed(secret) {
  return secret.replace(/\n$/, "");
}

// dialog shows content above the page until it is closed; then nothing of it is left, and
// the browser puts the focus back to where it was.
export function dialog(title, content) {
  const box = h("dialog", { "aria-label": title }, h("h2", {}, title), content);
  const gone = () => {
    for (const entry of box.querySelectorAll("input, textarea")) entry.value = "";
    box.remove();
    removeEventListener("pagehide", gone);
  };
  box.addEventListener("close", gone);
  // A page that comes back from the browser's cache has no secret in it.
  addEventListener("pagehide", gone);
  document.body.append(box);
  box.showModal();
  return box;
}

// form asks for fields in a dialog; run does what it is for with their values, and the
// dialog stays, with what went wrong, until that has worked.
export function form({ title, text, about, fields = [], verb, tone = "main", run }) {
  const wrong = h("p", { class: "wrong", role: "alert" });
  const submit = h("button", { type: "submit", class: tone }, verb);
  const entered = h("form", { method: "dialog", autocomplete: "off", onsubmit: async (event) => {
    event.preventDefault();
    const values = {};
    for (const entry of entered.elements) {
      if (entry.name) values[entry.name] = entry.type === "checkbox" ? entry.checked : entry.value;
    }
    submit.disabled = true;
    replace(wrong);
    try {
      const done = await run(values);
      box.close();
      if (typeof done === "function") done();
    } catch (error) {
      replace(wrong, error.message);
    } finally {
      submit.disabled = false;
    }
  } },
  text && h("p", {}, text), about, fields.map(labelled),
  h("footer", {}, wrong, h("div", { class: "actions" }, button("Cancel", () => box.close()), submit)));
  // What can't be right is told at its field, which must be in sight for that.
  entered.addEventListener("invalid", (event) => event.target.closest("details")?.setAttribute("open", ""), { capture: true });
  const box = dialog(title, entered);
  return entered;
}

// confirm asks before something that can't be undone; with a name, that is to be typed.
export function confirm({ title, text, verb, name, run }) {
  form({
    title, text, verb, tone: "danger",
    fields: name ? [{ name: "typed", label: `Type ${name} to confirm`, needed: true }] : [],
    run: (values) => {
      if (name && values.typed !== name) throw new Error(`That is not ${name}.`);
      return run();
    },
  });
}

// result shows what came of an act.
export function result(title, ...content) {
  const box = dialog(title, [content, h("div", { class: "actions" }, button("Done", () => box.close(), "main"))]);
}

// once shows a value that nobody sees again.
export function once(title, text, value) {
  const shown = h("textarea", { class: "once", rows: 3, readonly: true, value, "aria-label": title, spellcheck: "false", autocomplete: "off" });
  shown.addEventListener("focus", () => shown.select());
  const copy = button("Copy", doing(async () => {
    await navigator.clipboard.writeText(shown.value);
    say("Copied.");
  }), "main");
  const box = dialog(title, [h("p", {}, text), shown, h("div", { class: "actions" }, copy, button("Done", () => box.close()))]);
}
