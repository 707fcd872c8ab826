"""Usage: get.py requests|httpx|aiohttp URL [BEARER]: prints the status, then the body."""

import sys

library, url, *bearer = sys.argv[1:]
headers = {"Authorization": "Bearer " + bearer[0]} if bearer else {}
if library == "requests":
    import requests

    response = requests.get(url, headers=headers, timeout=20)
    status, text = response.status_code, response.text
elif library == "httpx":
    import httpx

    response = httpx.get(url, headers=headers, timeout=20)
    status, text = response.status_code, response.text
else:
    import asyncio

    import aiohttp

    async def get():
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
            return response.status, await response.text()

    status, text = asyncio.run(get())
print(status)
print(text)
