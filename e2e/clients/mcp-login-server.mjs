// Usage: node mcp-login-server.mjs ADDRESS CERTIFICATE KEY MCP LOGIN: an MCP server of the
// official SDK at https://MCP/mcp, and its authorization server at https://LOGIN/, by the
// SDK's router and demo provider, at one address. Clients register by themselves, access
// tokens are good for the MCP server alone, and a refresh token is good once.
// It prints a line a token that it gives, and one a request to the MCP server.
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { DemoInMemoryAuthProvider } from "@modelcontextprotocol/sdk/examples/server/demoInMemoryOAuthProvider.js";
import { InvalidGrantError } from "@modelcontextprotocol/sdk/server/auth/errors.js";
import { requireBearerAuth } from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import { createOAuthMetadata, getOAuthProtectedResourceMetadataUrl, mcpAuthMetadataRouter, mcpAuthRouter } from "@modelcontextprotocol/sdk/server/auth/router.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import express from "express";

const [address, certificate, key, mcp, login] = process.argv.slice(2);
const resource = new URL(`https://${mcp}/mcp`);
const issuer = new URL(`https://${login}/`);
const scopes = ["mcp:tools"];

class Provider extends DemoInMemoryAuthProvider {
  #grants = new Map(); // what a refresh token is good for

  #give(client, tokens) {
    const refresh = randomUUID();
    this.#grants.set(refresh, client.client_id);
    console.log(`gave ${tokens.access_token}`);
    console.log(`gave ${refresh}`);
    return { ...tokens, refresh_token: refresh };
  }

  async exchangeAuthorizationCode(client, code, verifier) {
    return this.#give(client, await super.exchangeAuthorizationCode(client, code, verifier));
  }

  async exchangeRefreshToken(client, refresh, asked, audience) {
    if (this.#grants.get(refresh) !== client.client_id || !this.validateResource(audience)) {
      throw new InvalidGrantError("no such refresh token");
    }
    this.#grants.delete(refresh);
    const token = randomUUID();
    this.tokens.set(token, { clientId: client.client_id, scopes: asked, expiresAt: Date.now() + 3600000, resource: audience });
    return this.#give(client, { access_token: token, token_type: "bearer", expires_in: 3600, scope: asked.join(" ") });
  }
}

const provider = new Provider((audience) => audience?.href === resource.href);
const authorization = express();
authorization.use(mcpAuthRouter({ provider, issuerUrl: issuer, scopesSupported: scopes }));

const server = express();
server.use(mcpAuthMetadataRouter({ oauthMetadata: createOAuthMetadata({ provider, issuerUrl: issuer, scopesSupported: scopes }), resourceServerUrl: resource, scopesSupported: scopes }));
const bearer = requireBearerAuth({ verifier: provider, requiredScopes: scopes, resourceMetadataUrl: getOAuthProtectedResourceMetadataUrl(resource), expectedResource: resource });
server.all("/mcp", (request, response, next) => {
  response.on("finish", () => console.log(`${request.method} /mcp ${response.statusCode}`));
  next();
}, bearer, async (request, response) => {
  const tools = new McpServer({ name: "e2e", version: "1" });
  tools.registerTool("whoami", {}, (extra) => ({ content: [{ type: "text", text: `${extra.authInfo.scopes} for ${extra.authInfo.resource}, ${extra.authInfo.token}` }] }));
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  response.on("close", () => transport.close());
  await tools.connect(transport);
  await transport.handleRequest(request, response);
});

createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, (request, response) => {
  (request.headers.host === login ? authorization : server)(request, response);
}).listen(443, address);
