"""Serves by the server and at the port that are named."""
import sys

import sight

port = int(sys.argv[2])


def waitress():
    import waitress

    waitress.serve(sight.wsgi, host="127.0.0.1", port=port, threads=4, channel_timeout=300, max_request_header_size=262144, _quiet=True)


def gunicorn():
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):
        def load_config(self):
            for name, value in {
                "bind": f"127.0.0.1:{port}", "workers": 1, "worker_class": "gthread", "threads": 8, "keepalive": 300, "loglevel": "critical",
                "limit_request_line": 0, "limit_request_field_size": 0, "limit_request_fields": 1000, "timeout": 300, "graceful_timeout": 1,
            }.items():
                self.cfg.set(name, value)

        def load(self):
            return sight.wsgi

    Application().run()


def uvicorn():
    import uvicorn

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        length, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            length += len(message.get("body", b""))
            more = message.get("more_body", False)
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        target = scope["raw_path"].decode("latin-1") + "?" + scope["query_string"].decode("latin-1")
        seen = sight.tell(scope["method"], target, sight.named(pairs, "x-exchange"), sight.named(pairs, "x-api-key"), length)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-seen", seen.encode("latin-1")), (b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"seen\n"})

    uvicorn.run(app, host="127.0.0.1", port=port, http="h11", lifespan="off", log_level="critical", timeout_keep_alive=300)


def tornado():
    import tornado.httpserver
    import tornado.ioloop
    from tornado.httputil import HTTPServerConnectionDelegate, HTTPMessageDelegate, ResponseStartLine, HTTPHeaders

    # The application framework knows but eight methods; this is the server alone.
    class Delegate(HTTPMessageDelegate):
        def __init__(self, connection):
            self.connection, self.length = connection, 0

        def headers_received(self, start, headers):
            self.start, self.headers = start, headers

        def data_received(self, chunk):
            self.length += len(chunk)

        def finish(self):
            pairs = list(self.headers.get_all())
            seen = sight.tell(self.start.method, self.start.path, sight.named(pairs, "x-exchange"), sight.named(pairs, "x-api-key"), self.length)
            headers = HTTPHeaders({"X-Seen": seen, "Content-Length": "5"})
            body = b"" if self.start.method == "HEAD" else b"seen\n"
            self.connection.write_headers(ResponseStartLine("", 200, "OK"), headers, body)
            self.connection.finish()

        def on_connection_close(self):
            pass

    class Connections(HTTPServerConnectionDelegate):
        def start_request(self, server, connection):
            return Delegate(connection)

    server = tornado.httpserver.HTTPServer(Connections(), max_header_size=262144, idle_connection_timeout=300)
    server.listen(port, "127.0.0.1")
    tornado.ioloop.IOLoop.current().start()


def aiohttp():
    from aiohttp import web

    async def handle(request):
        length = len(await request.read())
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
        seen = sight.tell(request.method, request.raw_path, sight.named(pairs, "x-exchange"), sight.named(pairs, "x-api-key"), length)
        return web.Response(text="seen\n", headers={"X-Seen": seen})

    app = web.Application(client_max_size=8 << 20, handler_args={"max_line_size": 131072, "max_field_size": 131072, "keepalive_timeout": 300})
    app.router.add_route("*", "/{tail:.*}", handle)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None, keepalive_timeout=300)


globals()[sys.argv[1]]()
