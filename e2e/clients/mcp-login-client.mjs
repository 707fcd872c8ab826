// Usage: node mcp-login-client.mjs URL: calls a tool of mcp-login-server.mjs with the
// official SDK, which has no token, and prints what it says.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const client = new Client({ name: "e2e", version: "1" });
await client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2])));
const result = await client.callTool({ name: "whoami", arguments: {} });
console.log(result.content[0].text);
await client.close();
