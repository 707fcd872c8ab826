"""What the Python servers see, said on standard output."""
import json
import sys


def tell(method, target, exchange, key, length):
    sight = {"method": method, "target": target, "exchange": exchange, "key": key, "length": length}
    sys.stdout.write(json.dumps(sight) + "\n")
    sys.stdout.flush()
    return ",".join(exchange)


def named(pairs, name):
    """Values of the raw fields that CGI would take for name."""
    return [value for field, value in pairs if field.lower().replace("_", "-") == name]


def wsgi(environ, start_response):
    length = len(environ["wsgi.input"].read())
    wanted = environ.get("CONTENT_LENGTH")
    if wanted and int(wanted) != length:
        start_response("400 Bad Request", [("Content-Length", "0")])
        return []  # the request is not whole
    target = environ.get("RAW_URI") or environ.get("PATH_INFO", "") + "?" + environ.get("QUERY_STRING", "")
    field = lambda name: [environ[name]] if name in environ else []
    seen = tell(environ["REQUEST_METHOD"], target, field("HTTP_X_EXCHANGE"), field("HTTP_X_API_KEY"), length)
    start_response("200 OK", [("X-Seen", seen), ("Content-Length", "5")])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else b"seen\n"]
