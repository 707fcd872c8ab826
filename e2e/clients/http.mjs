// Usage: node http.mjs undici|axios|got URL [BEARER]: prints the status, then the body.
const [library, url, bearer] = process.argv.slice(2);
const headers = bearer ? { Authorization: `Bearer ${bearer}` } : {};

const clients = {
  undici: async () => {
    const { request } = await import("undici");
    const { statusCode, body } = await request(url, { headers });
    return [statusCode, await body.text()];
  },
  axios: async () => {
    const { default: axios } = await import("axios");
    const { status, data } = await axios.get(url, { headers });
    return [status, data];
  },
  got: async () => {
    const { got } = await import("got");
    const { statusCode, body } = await got(url, { headers, http2: true });
    return [statusCode, body];
  },
};

console.log(...(await clients[library]()));
