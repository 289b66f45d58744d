"""The OpenAPI document against the server that gives it: schemathesis sends what the document allows and what it does not; no
answer may be a server's error but 503, the server may not end, and a stream beside all that stays the same to the byte.

Usage: python openapi.py PROGRAM ST [EXAMPLES]    (ST: schemathesis' own program, from PyPI)
"""
import json
import subprocess
import sys
import threading
import time
import urllib.request

program, st = sys.argv[1:3]
examples = sys.argv[3] if len(sys.argv) > 3 else "200"
server = subprocess.Popen(
    [program, "serve", "--port", "0", "--json", "-q", "--ctx", "1024", "--chat-template", "tests/support/tools.jinja",
     "--timeout", "5"],
    stdout=subprocess.PIPE, text=True)
base = json.loads(server.stdout.readline())["listening"]
ASK = {"model": "pebble", "messages": [{"role": "user", "content": "Tell me a story about a fox"}], "temperature": 0,
       "max_tokens": 60, "stream": True}


def canary():
    request = urllib.request.Request(base + "/v1/chat/completions", json.dumps(ASK).encode(),
                                     {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        lines = answer.read().decode().split("\n")
    deltas = [json.loads(line[6:])["choices"] for line in lines if line.startswith("data: {")]
    return json.dumps(deltas)


expected, stop, wrong, seen = canary(), threading.Event(), [], [0]


def watch():
    while not stop.is_set():
        try:
            if canary() != expected:
                wrong.append("another answer")
        except OSError as e:
            # Too many at once is no wrong answer.
            if getattr(e, "code", None) not in (429, 503):
                wrong.append(repr(e))
        seen[0] += 1
        time.sleep(0.2)


thread = threading.Thread(target=watch)
thread.start()
tested = subprocess.run(
    [st, "run", base + "/openapi.json", "--max-examples", examples, "--checks",
     "not_a_server_error,status_code_conformance,content_type_conformance", "--mode", "all", "--phases",
     "examples,coverage,fuzzing", "--request-timeout", "30", "--continue-on-failure", "--seed", "1"], check=False)
stop.set()
thread.join()
alive = server.poll() is None
print(f"server {'runs' if alive else 'ENDED'}; {seen[0]} canaries, {len(wrong)} wrong {wrong[:3]}; schemathesis {tested.returncode}")
server.terminate()
sys.exit(0 if alive and not wrong and tested.returncode == 0 and server.wait() == 0 else 1)
