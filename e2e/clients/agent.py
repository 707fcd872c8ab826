"""The demo's agent: calls Stripe with curl, requests and the Stripe SDK, with a
placeholder for a key, each time it reads "call" on standard input; says what it
knows when it reads "know". A "." ends every answer.

It stays alive in between, and the SDK's process with it, so that they can be searched.
"""

import json
import os
import pathlib
import subprocess
import sys

import requests

KEY = "vault:stripe"
BALANCE = "https://api.stripe.com/v1/balance"

here = pathlib.Path(__file__).parent
session = requests.Session()
answers = []  # an agent keeps its conversation


def curl():
    done = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {KEY}", BALANCE],
        capture_output=True, text=True, timeout=30)
    body, _, status = done.stdout.rpartition("\n")
    return f"{status} {digest(body)}" if done.returncode == 0 else done.stderr.strip()


def python_requests():
    response = session.get(BALANCE, auth=(KEY, ""), timeout=30)
    return f"{response.status_code} {digest(response.text)}"


def stripe_sdk():
    if not hasattr(stripe_sdk, "process"):
        stripe_sdk.process = subprocess.Popen(
            ["node", here / "stripe.cjs", KEY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    else:
        stripe_sdk.process.stdin.write("again\n")
    return stripe_sdk.process.stdout.readline().strip()


def echo():
    done = subprocess.run(["curl", "-sS", "https://echo.example.test/"], capture_output=True, text=True, timeout=30)
    return " · ".join((done.stdout + done.stderr).strip().splitlines())


def digest(body):
    answers.append(body)
    try:
        answer = json.loads(body)
    except ValueError:
        return body.strip()
    if "error" in answer:
        return short(answer["error"]["message"])
    return json.dumps({k: answer[k] for k in ("object", "livemode", "available") if k in answer})


def short(message):
    return message if len(message) < 64 else message[:60] + "…"


def know():
    yield f"argument of every client: {KEY}"
    yield "environment: " + ", ".join(f"{k}={v}" for k, v in os.environ.items() if "KEY" in k or "STRIPE" in k or "CANARY" in k)


canary = os.environ["CANARY"]
pathlib.Path("notes").write_text(f"A note of the agent: {canary}\n")
for line in sys.stdin:
    if line == "call\n":
        for client in (curl, python_requests, stripe_sdk, echo):
            print(f"{client.__name__.replace('_', ' '):16} {client()}")
    elif line == "know\n":
        print(*know(), sep="\n")
    print(".", flush=True)
