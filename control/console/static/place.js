// Where in the console we are: the address has names, and never a secret.

// link is the address of a page, of a team or with "" of the installation.
export function link(team, ...parts) {
  return "#/" + (team ? ["t", team, ...parts] : parts).map(encodeURIComponent).join("/");
}

// asked is what a page was asked to show, which follows its address.
export function asked() {
  return new URLSearchParams(location.hash.split("?")[1]);
}

// place reads the address.
export function place() {
  let parts;
  try {
    parts = location.hash.split("?")[0].replace(/^#\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    parts = []; // it is no address of ours
  }
  if (parts[0] === "t" && parts.length >= 2) return { team: parts[1], rest: parts.slice(2) };
  return { team: "", rest: parts };
}
