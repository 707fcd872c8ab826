// Makes the page out of elements and text nodes. Nothing that the API says is ever read
// as markup, and what would steer the text around it is shown escaped.

// Whatever is no letter, mark, number, sign or space, as the command line escapes it: an
// agent chooses the hosts, paths and methods that are shown.
const steering = /[^\p{L}\p{M}\p{N}\p{P}\p{S}\p{Zs}]/gu;
const beyondASCII = /[^ -~]/gu;

function escaped(character) {
  const code = character.codePointAt(0);
  if (code <= 0xff) return "\\x" + code.toString(16).padStart(2, "0");
  if (code <= 0xffff) return "\\u" + code.toString(16).padStart(4, "0");
  return "\\U" + code.toString(16).padStart(8, "0");
}

// visible is text with what would steer it escaped, for attributes.
export function visible(text) {
  return String(text).replace(steering, escaped);
}

// nodes are text with its escapes marked as such.
function nodes(text, pattern) {
  const made = [];
  let from = 0;
  for (const match of text.matchAll(pattern)) {
    if (match.index > from) made.push(document.createTextNode(text.slice(from, match.index)));
    const mark = document.createElement("span");
    mark.className = "escaped";
    mark.textContent = escaped(match[0]);
    made.push(mark);
    from = match.index + match[0].length;
  }
  if (from < text.length) made.push(document.createTextNode(text.slice(from)));
  return made;
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    if (child instanceof Node) node.append(child);
    else node.append(...nodes(String(child), steering));
  }
}

// h makes an element. A property that begins with "on" is a listener, "value" is set, all
// else is an attribute; those without a value are left out.
export function h(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : visible(value));
  }
  append(node, children);
  return node;
}

// replace puts children in the place of what a node has.
export function replace(node, ...children) {
  node.replaceChildren();
  append(node, children);
  return node;
}

// code is text that was somebody else's choice: in a face that tells characters apart, and
// in a direction of its own.
export function code(text) {
  if (text === undefined || text === null || text === "") return dash();
  return h("code", { dir: "ltr" }, text);
}

// plain is code in ASCII alone, for what a person decides about: no letter looks like another.
export function plain(text) {
  const node = h("code", { dir: "ltr" });
  node.append(...nodes(String(text), beyondASCII));
  return node;
}

export function dash() {
  return h("span", { class: "dim" }, "–");
}

// time is an instant, how long ago it was, and its exact text to hover over.
export function time(stamp) {
  if (!stamp || stamp.startsWith("0001-")) return dash();
  return h("time", { class: "ago", datetime: stamp, title: stamp }, relative(new Date(stamp)));
}

// retime keeps what is said of instants true as time goes by.
export function retime() {
  for (const node of document.querySelectorAll("time.ago")) node.textContent = relative(new Date(node.dateTime));
}

// clock is an instant to the second, as this machine has it.
export function clock(stamp) {
  const at = new Date(stamp);
  const two = (n) => String(n).padStart(2, "0");
  const day = at.toDateString() === new Date().toDateString() ? "" : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} `;
  return h("time", { datetime: stamp, title: stamp }, `${day}${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`);
}

const units = [[31557600, "year"], [86400, "day"], [3600, "hour"], [60, "minute"]];
const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

// relative is in the largest unit of which there are two.
function relative(at) {
  const seconds = (at - Date.now()) / 1000;
  const [size, unit] = units.find(([size]) => Math.abs(seconds) >= 2 * size) || [1, "second"];
  return words.format(Math.round(seconds / size), unit);
}

// badge is a state in a colour that goes with it.
export function badge(text, tone) {
  return h("span", { class: `badge ${tone}` }, text);
}
