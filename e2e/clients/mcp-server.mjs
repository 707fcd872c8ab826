// Usage: node mcp-server.mjs PORT CERTIFICATE KEY BEARER: a Model Context Protocol server
// of the official SDK, over TLS: streamable HTTP at /mcp, with sessions that can be
// resumed, and the older SSE transport at /sse. Every request must have the bearer.
// It prints a line a request. Each step of its tools waits until the client has
// acknowledged the one before, so nothing may be held back on the way.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { SSEServerTransport } from "@modelcontextprotocol/sdk/server/sse.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { z } from "zod";

const [port, certificate, key, bearer] = process.argv.slice(2);
const sessions = new Map();

function toolbox(transport) {
  const server = new McpServer({ name: "e2e", version: "1" }, { capabilities: { logging: {} } });
  const acknowledged = [];
  let wake = () => {};
  const acknowledgement = async (step) => {
    while (!acknowledged.includes(step)) {
      await new Promise((resolve) => (wake = resolve));
    }
  };
  const text = (text) => ({ content: [{ type: "text", text }] });

  server.registerTool("acknowledge", { inputSchema: { step: z.string() } }, async ({ step }) => {
    acknowledged.push(step);
    wake();
    return text("ok");
  });
  // Progress, on the stream that answers the call.
  server.registerTool("count", { inputSchema: { to: z.number() } }, async ({ to }, extra) => {
    for (let i = 1; i <= to; i++) {
      await extra.sendNotification({
        method: "notifications/progress",
        params: { progressToken: extra._meta.progressToken, progress: i, total: to, message: String(Date.now()) },
      });
      await acknowledgement(`progress ${i}`);
    }
    return text(`counted to ${to}`);
  });
  // What nobody asked for, on the stream of GET: messages, then a question to the client.
  server.registerTool("announce", { inputSchema: { times: z.number() } }, async ({ times }) => {
    const announce = async () => {
      for (let i = 1; i <= times; i++) {
        await server.sendLoggingMessage({ level: "info", data: { step: `announcement ${i}`, sent: Date.now() } });
        await acknowledgement(`announcement ${i}`);
      }
      const { roots } = await server.server.listRoots();
      await server.sendLoggingMessage({ level: "info", data: { step: `root ${roots[0].uri}`, sent: Date.now() } });
    };
    announce();
    return text("announcing");
  });
  // The stream of GET breaks, and something is said before the client is back.
  server.registerTool("break", {}, async () => {
    setTimeout(async () => {
      transport.closeStandaloneSSEStream();
      await server.sendLoggingMessage({ level: "info", data: { step: "missed", sent: Date.now() } });
    }, 100);
    return text("breaking");
  });
  return server;
}

/** What a client that comes back with the id of the last event it got is told again. */
class Events {
  #all = []; // an event's id is its place

  async storeEvent(stream, message) {
    return String(this.#all.push({ stream, message }) - 1);
  }

  async getStreamIdForEventId(id) {
    return this.#all[id]?.stream;
  }

  async replayEventsAfter(last, { send }) {
    const { stream } = this.#all[last];
    for (let id = Number(last) + 1; id < this.#all.length; id++) {
      if (this.#all[id].stream === stream) {
        await send(String(id), this.#all[id].message);
      }
    }
    return stream;
  }
}

async function streamable(request, response) {
  const id = request.headers["mcp-session-id"];
  let transport = sessions.get(id);
  if (!transport) {
    if (id) {
      return response.writeHead(404).end();
    }
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: new Events(),
      retryInterval: 100,
      onsessioninitialized: (id) => sessions.set(id, transport),
      onsessionclosed: (id) => sessions.delete(id),
    });
    await toolbox(transport).connect(transport);
  }
  await transport.handleRequest(request, response);
}

async function sse(request, response, url) {
  if (request.method === "GET") {
    const transport = new SSEServerTransport("/sse", response);
    sessions.set(transport.sessionId, transport);
    return toolbox(transport).connect(transport);
  }
  return sessions.get(url.searchParams.get("sessionId")).handlePostMessage(request, response);
}

createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, async (request, response) => {
  const url = new URL(request.url, "https://localhost");
  const credentials = request.rawHeaders.filter((_, i, all) => i % 2 === 1 && all[i - 1].toLowerCase() === "authorization");
  response.on("close", () => {
    const resumed = request.headers["last-event-id"] ? " resumed" : "";
    console.log(`${request.method} ${url.pathname} ${response.statusCode}${resumed}`);
  });
  if (credentials.length !== 1 || credentials[0] !== `Bearer ${bearer}`) {
    return response.writeHead(401).end();
  }
  try {
    await (url.pathname === "/sse" ? sse(request, response, url) : streamable(request, response));
  } catch (error) {
    console.log(`${request.method} ${url.pathname} ${error}`);
    response.destroy();
  }
}).listen(Number(port), "127.0.0.1");
