// Usage: node fetch.cjs URL [BEARER]: prints the status, then the body.
const [url, bearer] = process.argv.slice(2);
const headers = bearer ? { Authorization: `Bearer ${bearer}` } : {};

(async () => {
  const response = await fetch(url, { headers });
  console.log(response.status);
  console.log(await response.text());
})();
