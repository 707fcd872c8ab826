"""Usage: get.py requests|httpx URL [BEARER]: prints the status, then the body."""

import sys

library, url, *bearer = sys.argv[1:]
headers = {"Authorization": "Bearer " + bearer[0]} if bearer else {}
if library == "requests":
    import requests

    response = requests.get(url, headers=headers, timeout=20)
else:
    import httpx

    response = httpx.get(url, headers=headers, timeout=20)
print(response.status_code)
print(response.text)
