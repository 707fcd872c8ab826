"""Usage: balance.py KEY: reads the balance from Stripe with requests, once and again
for each line of standard input. Prints one line a call."""

import sys

import requests

session = requests.Session()


def balance():
    response = session.get("https://api.stripe.com/v1/balance", auth=(sys.argv[1], ""), timeout=20)
    answer = response.json()
    what = answer.get("object") or answer.get("error", {}).get("message")
    print(response.status_code, what, flush=True)


balance()
for _ in sys.stdin:
    balance()
