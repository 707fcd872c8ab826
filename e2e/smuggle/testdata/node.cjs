// Says on its standard output what it sees.
const http = require("node:http");
const options = { maxHeaderSize: 131072, keepAliveTimeout: 300000, requestTimeout: 0, headersTimeout: 0 };
const server = http.createServer(options, (request, response) => {
	let length = 0;
	request.on("data", (data) => (length += data.length));
	request.on("error", () => {});
	request.on("end", () => {
		const named = (name) => {
			const values = [];
			for (let i = 0; i < request.rawHeaders.length; i += 2) {
				if (request.rawHeaders[i].toLowerCase().replaceAll("_", "-") === name) values.push(request.rawHeaders[i + 1]);
			}
			return values;
		};
		const exchange = named("x-exchange");
		const sight = { method: request.method, target: request.url, exchange, key: named("x-api-key"), length };
		process.stdout.write(JSON.stringify(sight) + "\n", () => {
			response.setHeader("X-Seen", exchange.join(","));
			response.end("seen\n");
		});
	});
});
server.listen(Number(process.argv[2]), "127.0.0.1");
