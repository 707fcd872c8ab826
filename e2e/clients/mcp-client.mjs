// Usage: node mcp-client.mjs streamable|sse|idle URL: uses the tools of mcp-server.mjs with
// the official SDK and prints a line for all it is told. As "idle" it only listens, and
// calls a tool when it reads a line on standard input.
import { createInterface } from "node:readline";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ListRootsRequestSchema, LoggingMessageNotificationSchema } from "@modelcontextprotocol/sdk/types.js";

const [way, address] = process.argv.slice(2);
const url = new URL(address);
const transport = way === "sse" ? new SSEClientTransport(url) : new StreamableHTTPClientTransport(url);
const client = new Client({ name: "e2e", version: "1" }, { capabilities: { roots: {} } });
client.onerror = (error) => console.error("error:", error.message);

let slowest = 0; // milliseconds from the server to here
const told = new Set();
let wake = () => {};
const hear = (step, sent) => {
  if (step !== "missed") {
    slowest = Math.max(slowest, Date.now() - sent);
  }
  console.log(step);
  told.add(step);
  wake();
};
const heard = async (step) => {
  while (!told.has(step)) {
    await new Promise((resolve) => (wake = resolve));
  }
};
const call = async (name, args = {}, options) => {
  const result = await client.callTool({ name, arguments: args }, undefined, options);
  return result.content[0].text;
};
const acknowledge = (step) => call("acknowledge", { step });

client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: [{ uri: "file:///e2e" }] }));
client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params: { data } }) => {
  hear(data.step, data.sent);
  if (data.step.startsWith("announcement ")) {
    acknowledge(data.step);
  }
});

await client.connect(transport);
const { tools } = await client.listTools();
console.log(tools.map((tool) => tool.name).join(" "));

if (way === "idle") {
  for await (const _ of createInterface({ input: process.stdin })) {
    await call("announce", { times: 1 });
    await heard("root file:///e2e");
  }
} else {
  const onprogress = ({ progress, message }) => {
    hear(`progress ${progress}`, Number(message));
    acknowledge(`progress ${progress}`);
  };
  console.log(await call("count", { to: 3 }, { onprogress }));
  await call("announce", { times: 3 });
  await heard("root file:///e2e");
  if (way === "streamable") {
    await call("break");
    await heard("missed");
    await transport.terminateSession();
    const response = await fetch(url, { method: "GET", headers: { Accept: "text/event-stream", "Mcp-Session-Id": "gone" } });
    console.log("after the end", response.status);
  }
}
console.log("slowest", slowest);
await client.close();
