"""Usage: raw.py HOST PORT: reads requests as JSON strings, a line each, and prints the answer to each as one.

Every request goes over a connection of its own, as the bytes it is, with TLS at
port 443. An answer that has begun is over after a tenth of a second of silence."""

import json
import socket
import ssl
import sys

host, port = sys.argv[1], int(sys.argv[2])
context = ssl.create_default_context()
context.set_alpn_protocols(["http/1.1"])

for line in sys.stdin:
    connection = socket.create_connection((host, port), timeout=5)
    if port == 443:
        connection = context.wrap_socket(connection, server_hostname=host)
    answer = b""
    try:
        connection.sendall(json.loads(line).encode("latin-1"))
        while piece := connection.recv(65536):
            answer += piece
            connection.settimeout(0.1)
    except OSError:
        pass  # it was reset, or is silent
    connection.close()
    print(json.dumps(answer.decode("latin-1")), flush=True)
