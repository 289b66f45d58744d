"""Clients that mean harm: each is told so at once, with an error that names the fault, and nobody else notices.

    python3 tests/load/hostile.py --program target/release/pondera

For each case: a typed 4xx within --limit-ms of the byte that offends (or what the case says: an answer within its own time, a
closed connection at the server's own clock). After each the server must be alive. Beside them a canary asks the same question
again and again, from a process of its own: its answers are the same to the bit, and its p99 within 1.25 times that of quiet
rounds, which alternate with the hostile ones.
"""

import asyncio
import json
import subprocess
import sys
import time

from common import Answer, Server, answer, arguments, close, parser, percentile, process, report, spread, start, target

ASK = [{"role": "user", "content": "Tell me a story about a fox"}]
CHAT, COMPLETE, MESSAGES, OLLAMA = "/v1/chat/completions", "/v1/completions", "/v1/messages", "/api/chat"


def nested(open_, close_, n):
    return open_ * n + close_ * n


def bodies(model):
    """(name, path, body, what may come) of requests that are whole. `refused`: 4xx at once; `bounded`: 200 or 4xx, in time."""
    m = json.dumps(model)
    chat = lambda more: f'{{"model":{m},"messages":{json.dumps(ASK)},"max_tokens":4,{more}}}'.encode()
    done = lambda more: f'{{"model":{m},"max_tokens":4,{more}}}'.encode()
    form = lambda schema: chat('"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":' + schema + "}}")
    text = lambda pattern: form(json.dumps({"type": "string", "pattern": pattern}))
    refused, bounded = "refused", "bounded"
    doubling = lambda n, how: json.dumps({"$defs": {**{f"d{i}": {how: [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(n)},
                                                    f"d{n}": {"type": "integer"}}, "$ref": "#/$defs/d0"})
    objects = lambda n: json.dumps({"$defs": {**{f"d{i}": {"type": "object", "properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}, "b": {"$ref": f"#/$defs/d{i + 1}"}}} for i in range(n)},
                                              f"d{n}": {"type": "integer"}}, "$ref": "#/$defs/d0"})
    return [
        # JSON
        ("not json", CHAT, b"hello", refused), ("empty", CHAT, b"", refused), ("cut short", CHAT, chat('"n":1')[:-1], refused),
        ("two values", CHAT, chat('"n":1') * 2, refused), ("an array", CHAT, b"[]", refused), ("null", CHAT, b"null", refused),
        ("utf-16", CHAT, chat('"n":1').decode().encode("utf-16"), refused), ("byte order mark", CHAT, b"\xef\xbb\xbf" + chat('"n":1'), refused),
        ("invalid utf-8", CHAT, chat('"user":"\xff\xfe"').replace(b"\xc3\xbf\xc3\xbe", b"\xff\xfe"), refused),
        ("lone surrogate", CHAT, chat('"user":"\\ud800"'), refused), ("a raw control character", CHAT, chat('"user":"\x00"'), refused),
        ("a field twice", CHAT, chat('"n":1,"n":2'), refused), ("deep arrays", CHAT, nested("[", "]", 100_000).encode(), refused),
        ("deep objects", CHAT, (('{"a":' * 100_000) + "1" + "}" * 100_000).encode(), refused),
        ("deep metadata", CHAT, chat('"metadata":' + nested("[", "]", 50_000)), refused),
        ("deep template arguments", CHAT, chat('"chat_template_kwargs":{"a":' + nested("[", "]", 50_000) + "}"), refused),
        ("deep content", CHAT, f'{{"model":{m},"messages":[{{"role":"user","content":{nested("[", "]", 50_000)}}}]}}'.encode(), refused),
        ("deep schema", CHAT, form('{"items":' * 50_000 + "{}" + "}" * 50_000), refused),
        ("a deep schema that json allows", CHAT, form('{"type":"array","items":' * 60 + '{"type":"null"}' + "}" * 60), bounded),
        ("a long number", CHAT, chat('"seed":' + "9" * 1_000_000), refused), ("a field of a megabyte", CHAT, chat('"' + "x" * 1_000_000 + '":1'), refused),
        ("100,000 fields", CHAT, chat(",".join(f'"f{i}":1' for i in range(100_000))), refused),
        # Numbers
        *[(f"temperature {v}", CHAT, chat(f'"temperature":{v}'), refused) for v in ("NaN", "Infinity", "1e999", "-1e999", "1e300", "-1", '"1"', "[]", "true")],
        *[(f"top_p {v}", CHAT, chat(f'"top_p":{v}'), refused) for v in ("1e999", "-0.1", "1.1")],
        *[(f"n {v}", CHAT, chat(f'"n":{v}'), refused) for v in ("1000000000", "9223372036854775808", "-1", "0", "1.5", '"2"', "1e999")],
        *[(f"max_tokens {v}", CHAT, f'{{"model":{m},"messages":{json.dumps(ASK)},"max_tokens":{v}}}'.encode(), refused) for v in ("0", "-1", "99999999999999999999", "1.5")],
        *[(f"top_logprobs {v}", CHAT, chat(f'"logprobs":true,"top_logprobs":{v}'), refused) for v in ("21", "-1", "4294967296")],
        ("penalty 1e999", CHAT, chat('"frequency_penalty":1e999'), refused), ("seed 2^64", CHAT, chat('"seed":18446744073709551616'), refused),
        ("best_of", COMPLETE, done('"prompt":"a","best_of":1000000000'), refused),
        # Lists
        ("100,000 stops", CHAT, chat('"stop":' + json.dumps([f"s{i}" for i in range(100_000)])), refused),
        ("a stop of a megabyte", CHAT, chat('"stop":"' + "x" * 1_000_000 + '"'), refused), ("an empty stop", CHAT, chat('"stop":[""]'), refused),
        ("100,000 biases", CHAT, chat('"logit_bias":{' + ",".join(f'"{i}":1' for i in range(100_000)) + "}"), refused),
        ("bias of no token", CHAT, chat('"logit_bias":{"99999999":1}'), refused), ("bias of a word", CHAT, chat('"logit_bias":{"a":1}'), refused),
        ("bias 1e999", CHAT, chat('"logit_bias":{"5":1e999}'), refused),
        *[(f"prompt {v}", COMPLETE, done(f'"prompt":{v}'), refused) for v in ("[99999999]", "[-1]", "[4294967296]", "[1.5]", "[[1],[-1]]", '[1,"a"]', "{}", "[[[1]]]", "[]")],
        ("2,049 texts to embed", "/v1/embeddings", json.dumps({"model": model, "input": ["a"] * 2049}).encode(), refused),
        ("ids to detokenize", "/detokenize", json.dumps({"model": model, "tokens": [4294967295, -1]}).encode(), refused),
        ("no messages", CHAT, f'{{"model":{m},"messages":[]}}'.encode(), refused), ("a role that is none", CHAT, f'{{"model":{m},"messages":[{{"role":"\\u0000","content":"a"}}]}}'.encode(), refused),
        ("an image", CHAT, f'{{"model":{m},"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"file:///etc/passwd"}}}}]}}]}}'.encode(), refused),
        ("a name of a megabyte", CHAT, json.dumps({"model": "m" * 1_000_000, "messages": ASK}).encode(), refused),
        ("anthropic without its maximum", MESSAGES, json.dumps({"model": model, "messages": ASK}).encode(), refused),
        ("anthropic, deep", MESSAGES, nested("[", "]", 100_000).encode(), refused),
        ("ollama, 1e999", OLLAMA, f'{{"model":{m},"messages":{json.dumps(ASK)},"options":{{"temperature":1e999}}}}'.encode(), refused),
        ("ollama, deep format", OLLAMA, f'{{"model":{m},"messages":{json.dumps(ASK)},"format":{nested("[", "]", 50_000)}}}'.encode(), refused),
        # Texts: longer than the context, so refused, but first they become tokens.
        *[(f"a text of {what}", COMPLETE, json.dumps({"model": model, "prompt": unit * (1_000_000 // len(unit.encode()))}).encode(), "text") for what, unit in
          (("one letter", "a"), ("spaces", " "), ("line ends", "\n"), ("digits", "7"), ("words", "fox "), ("marks", "!?"), ("é", "é"), ("emoji", "🦊"), ("zero bytes", "\x00"), ("markers", "<|user|>"))],
        ("20,000 messages", CHAT, json.dumps({"model": model, "messages": ASK * 20_000}).encode(), "text"),
        # Regular expressions
        *[(f"regex {name}", CHAT, text(pattern), bounded) for name, pattern in
          (("(a|a)*b", "^(a|a)*b$"), ("((a*)*)*b", "^((a*)*)*b$"), ("a{1,1000000000}", "^a{1,1000000000}$"), ("(a{1,1000}){1,1000}", "^(a{1,1000}){1,1000}$"),
           ("((a{1,100}){1,100}){1,100}", "^((a{1,100}){1,100}){1,100}$"), ("(.*a){25}", "^(.*a){25}$"), ("(a|b)*a(a|b){20}", "^(a|b)*a(a|b){20}$"), ("10,000 words", "^(" + "|".join(f"w{i}x" for i in range(10_000)) + ")$"),
           ("deep groups", "(" * 20_000 + "a" + ")" * 20_000), ("(a?){500}a{500}", "^(a?){500}a{500}$"), ("[^]", "["), ("a back reference", "^(a)\\1$"), ("look ahead", "^(?=a)b$"),
           ("unicode classes", "^\\p{L}{1,200}$"), ("a{999999999999999999999}", "a{999999999999999999999}"), ("10^6 letters", "a" * 1_000_000))],
        # Schemas
        ("schema, anyOf doubled 30 times", CHAT, form(doubling(30, "anyOf")), bounded), ("schema, allOf doubled 30 times", CHAT, form(doubling(30, "allOf")), bounded),
        ("schema, objects doubled 40 times", CHAT, form(objects(40)), bounded), ("schema that is itself", CHAT, form('{"$ref":"#"}'), refused),
        ("schema, a circle of two", CHAT, form('{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}'), refused),
        ("schema, a circle in anyOf", CHAT, form('{"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"},{"type":"null"}]}},"$ref":"#/$defs/a"}'), bounded),
        ("schema of trees", CHAT, form('{"$defs":{"t":{"type":"object","properties":{"l":{"$ref":"#/$defs/t"},"r":{"$ref":"#/$defs/t"}}}},"$ref":"#/$defs/t"}'), bounded),
        ("schema, a million items", CHAT, form('{"type":"array","items":{"type":"integer"},"minItems":1000000,"maxItems":1000000}'), bounded),
        ("schema, 10^18 items", CHAT, form('{"type":"array","items":{"type":"integer"},"minItems":1000000000000000000}'), bounded),
        ("schema, items in items", CHAT, form('{"type":"array","maxItems":1000,"items":{"type":"array","maxItems":1000,"items":{"type":"array","maxItems":1000,"items":{"type":"null"}}}}'), bounded),
        ("schema, 10^9 letters", CHAT, form('{"type":"string","minLength":1000000000,"maxLength":1000000000}'), bounded),
        ("schema, numbers beyond", CHAT, form('{"type":"integer","minimum":-1e308,"maximum":99999999999999999999999999}'), bounded),
        ("schema, minimum 1e999", CHAT, form('{"type":"integer","minimum":1e999}'), refused),
        *[(f"schema, {n:,} properties", CHAT, form(json.dumps({"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(n)}})), bounded) for n in (1_000, 3_000, 10_000)],
        ("schema, 10,000 properties that must be", CHAT, form(json.dumps({"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(10_000)}, "required": [f"p{i}" for i in range(10_000)]})), bounded),
        *[(f"schema, {n:,} references in a row", CHAT, form(json.dumps({"$defs": {**{f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(n)}, f"d{n}": {"type": "null"}}, "$ref": "#/$defs/d0"})), bounded) for n in (100, 1_000, 20_000)],
        ("schema, 20,000 allOf in a row", CHAT, form(json.dumps({"$defs": {**{f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}]} for i in range(20_000)}, "d20000": {"type": "null"}}, "$ref": "#/$defs/d0"})), bounded),
        ("schema, 400 arrays in arrays", CHAT, form(json.dumps({"$defs": {**{f"d{i}": {"type": "array", "items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(400)}, "d400": {"type": "null"}}, "$ref": "#/$defs/d0"})), bounded),
        ("regex, 100,000 options", CHAT, text("^" + "(a?)" * 100_000 + "$"), bounded),
        ("schema, 100,000 words", CHAT, form(json.dumps({"enum": [f"word {i}" for i in range(100_000)]})), bounded),
        ("schema, 20 properties in any order", CHAT, form(json.dumps({"type": "object", "properties": {f"p{i}": {} for i in range(20)}, "required": [f"p{i}" for i in range(20)]})), bounded),
        ("schema, 2,000 alternatives", CHAT, form(json.dumps({"anyOf": [{"type": "object", "properties": {f"k{i}": {"type": "string"}}, "required": [f"k{i}"]} for i in range(2_000)]})), bounded),
        ("schema, a word of no type", CHAT, form('{"type":"strong"}'), refused), ("schema, a reference to a file", CHAT, form('{"$ref":"file:///etc/passwd"}'), refused),
    ]


def raws(server, model):
    """(name, parts to send, what may come, seconds). Requests that are no HTTP, or not all of it."""
    host = f"{server.host}:{server.port}"
    post = lambda *lines: "\r\n".join([f"POST {CHAT} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {server.key}", *lines, "", ""]).encode()
    get = lambda path, *lines: "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {server.key}", *lines, "", ""]).encode()
    quick = 0.05
    return [
        ("a first line that is none", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"], "closed", quick), ("HTTP/2", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], "closed", quick),
        ("HTTP/9.9", [f"GET /health HTTP/9.9\r\nHost: {host}\r\n\r\n".encode()], "closed", quick),
        ("an unknown method", [f"BREW {CHAT} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()], "refused", quick), ("GET of a POST", [get(CHAT)], "refused", quick),
        ("CONNECT", [b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n"], "refused", quick), ("a path that climbs", [get("/v1/models/../../../etc/passwd")], "refused", quick),
        ("a path of 60,000 letters", [get("/" + "a" * 60_000)], "closed", quick), ("no host", [f"GET /v1/models HTTP/1.0\r\nAuthorization: Bearer {server.key}\r\n\r\n".encode()], "any", quick),
        ("16 MB of headers", [f"GET /health HTTP/1.1\r\nHost: {host}\r\n".encode()] + [(f"X-{i}: " + "a" * 65_536 + "\r\n").encode() for i in range(256)], "closed", 1),
        ("one header of 16 MB", [f"GET /health HTTP/1.1\r\nHost: {host}\r\nX: ".encode(), b"a" * (16 << 20)], "closed", 1),
        ("1,000 headers", [get("/health", *[f"X-{i}: 1" for i in range(1_000)])], "closed", quick), ("a header with a zero byte", [get("/health", "X: a\0b")], "closed", quick),
        ("a header that folds", [get("/health", "X: a\r\n b")], "closed", quick), ("a header without a colon", [get("/health", "nothing")], "closed", quick),
        ("length -1", [post("Content-Length: -1")], "closed", quick), ("length abc", [post("Content-Length: abc")], "closed", quick),
        ("two lengths", [post("Content-Length: 5", "Content-Length: 6") + b"hello"], "closed", quick), ("a length beyond", [post("Content-Length: 99999999999999999999999")], "closed", quick),
        ("a length of 33 MiB", [post(f"Content-Length: {33 << 20}")], "refused", quick), ("the same, and asks first", [post(f"Content-Length: {33 << 20}", "Expect: 100-continue")], "refused", quick),
        ("length and chunks", [post("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n"], "refused", quick),
        ("chunks that are none", [post("Transfer-Encoding: chunked") + b"ZZZ\r\nhello\r\n0\r\n\r\n"], "refused", quick), ("a chunk beyond", [post("Transfer-Encoding: chunked") + b"FFFFFFFFFFFFFFFFF\r\n"], "refused", quick),
        ("a chunk without end", [post("Transfer-Encoding: chunked") + b"5\r\nhelloXX"], "refused", quick), ("chunked twice", [post("Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n"], "closed", quick),
        ("an encoding that is none", [post("Transfer-Encoding: rot13") + b"hello"], "closed", quick),
        ("chunks of 33 MiB", [post("Transfer-Encoding: chunked")] + [b"100000\r\n" + b" " * (1 << 20) + b"\r\n"] * 33 + [b"0\r\n\r\n"], "refused", quick),
        ("chunks with long extensions", [post("Transfer-Encoding: chunked") + (b"1;" + b"x" * 65_536 + b"\r\n \r\n") * 4 + b"0\r\n\r\n"], "refused", quick),
        ("gzip", [post("Content-Encoding: gzip", "Content-Length: 5") + b"\x1f\x8b\x08\0\0"], "refused", quick), ("another host", [b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n"], "any", quick),
        ("another origin", [get("/v1/models", "Origin: http://evil.example")], "refused", quick), ("a key of 60,000 letters", [f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nX-Api-Key: {'k' * 60_000}\r\n\r\n".encode()], "any", quick),
        ("a request id that is long", [get("/v1/models", "X-Request-Id: " + "i" * 10_000)], "any", quick),
    ]


async def pipelined(server):
    """Five in one write are answered in order; what is behind a mistake is not taken for a request."""
    reader, writer = await server.connect()
    try:
        one = f"GET /health HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode()
        last = f"BREW /health HTTP/1.1\r\nHost: {server.host}\r\nConnection: close\r\n\r\n".encode()
        at = time.perf_counter()
        writer.write(one * 4 + last)
        said = [(await asyncio.wait_for(answer(reader, at), 5)).status for _ in range(5)]
        return said == [200, 200, 200, 200, 405], f"{said}"
    finally:
        await close(writer)


async def flood(server, args):
    """40 schemas at once that take long to compile, each another; what a small request waits meanwhile."""
    def body(i):
        schema = {"type": "object", "properties": {f"p{i}_{j}": {"type": "integer"} for j in range(1500)}}
        return {"model": args.model, "messages": ASK, "max_tokens": 1,
                "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}

    many = [asyncio.create_task(server.ask("POST", CHAT, body(i), timeout=120)) for i in range(40)]
    await asyncio.sleep(0.1)
    waits = []
    while not all(t.done() for t in many):
        got = await server.ask("POST", CHAT, {"model": args.model, "messages": ASK, "max_tokens": 1}, timeout=120)
        waits.append(got.whole)
    got = await asyncio.gather(*many)
    ok = all(g.status in (200, 400, 429) for g in got) and max(waits) <= args.bounded_s
    return ok, f"{sorted({g.status for g in got})}, all in {max(g.whole for g in got):.1f} s; beside them a request waited {max(waits):.2f} s"


async def slow(server, what, limit, step=0.5):
    """Bytes one by one; seconds until the server has enough of it, and its word."""
    reader, writer = await server.connect()
    at, said = time.perf_counter(), asyncio.create_task(reader.read(4096))
    head = f"POST {CHAT} HTTP/1.1\r\nHost: {server.host}\r\nAuthorization: Bearer {server.key}\r\n"
    writer.write((head + ("X: " if what == "headers" else "Content-Length: 1000\r\n\r\n{")).encode())
    try:
        while not said.done() and time.perf_counter() - at < limit + 10:
            if what != "half a body":
                writer.write(b"a")
            await asyncio.wait([said], timeout=step)
        seconds = time.perf_counter() - at
        try:
            text = said.result() if said.done() else b"?"
        except ConnectionError:
            text = b""
        status = text.split(b" ")[1].decode() if text.startswith(b"HTTP/") else "closed" if said.done() else "nothing"
        return said.done() and seconds < limit + 1.5, f"{status} after {seconds:.1f} s (the clock says {limit})"
    finally:
        said.cancel()
        await close(writer)


def typed(path, got):
    """An error in the shape of the path's API."""
    try:
        body = got.json()
    except ValueError:
        return False
    if path.startswith(MESSAGES):
        return body.get("type") == "error" and bool(body["error"].get("message"))
    if path.startswith("/api/"):
        return isinstance(body.get("error"), str)
    return isinstance(body.get("error"), dict) and bool(body["error"].get("message")) and bool(body["error"].get("type"))


def judge(kind, path, got, seconds, limit):
    if got is None:
        return False, "no answer in time"
    said = f"{got.status} in {got.first * 1000:.1f} ms"
    in_time = got.first <= limit
    if kind == "any":
        return in_time and got.status < 500, said
    if kind == "closed" and got.status == 0:
        return in_time, "closed " + said[2:]
    if kind == "closed":
        return in_time and 400 <= got.status < 500 or got.status == 200 and in_time, said
    if kind == "bounded" and got.status == 200:
        return got.whole <= seconds, f"200 in {got.whole * 1000:.1f} ms"
    word = got.body[:160].decode("utf-8", "replace")
    if not 400 <= got.status < 500:
        return False, f"{said} {word}"
    if not typed(path, got):
        return False, f"{said}, not typed: {word!r}"
    return in_time, said + ("" if in_time else f" (limit {limit * 1000:.0f}) {word}")


async def attack(server, args, only=None):
    """All cases, one after the other: (name, as it should be, what came)."""
    out = []
    skipped = [word for word in args.skip.split(";") if word]

    def wanted(name):
        return (not only or only in name) and not any(word in name for word in skipped)

    async def note(name, ok, said):
        args.course.append((time.time(), name))
        try:
            alive = (await server.ask("GET", "/health", timeout=5)).status == 200
        except (OSError, asyncio.TimeoutError):
            alive = False
        if not alive and args.program:
            # It is started again at the same address, so that the other cases are tried too.
            args.child.kill()
            args.child.wait()
            start(args, server.port)
            server.pid = args.pid
        out.append((name, ok and alive, said if alive else said + ", and the server is gone"))
        if args.verbose:
            print(f"{'ok    ' if ok and alive else 'FAILED'} {out[-1][0]}: {out[-1][2]}", file=sys.stderr)

    quick = args.limit_ms / 1000
    for name, path, body, kind in bodies(args.model):
        if not wanted(name):
            continue
        limit = quick if kind == "refused" else args.bounded_s
        try:
            got = await server.ask("POST", path, body, timeout=args.bounded_s * 5)
        except asyncio.TimeoutError:
            got = None
        # A text must become tokens before it is too long: bounded, and refused.
        await note(name, *judge("refused" if kind == "text" else kind, path, got, args.bounded_s, limit))
    for name, parts, kind, limit in raws(server, args.model):
        if not wanted(name):
            continue
        try:
            got = await server.raw(parts, 10)
        except (asyncio.TimeoutError, OSError) as e:
            got = Answer(0, {}, b"", 0, 0) if isinstance(e, OSError) else None
        await note(name, *judge(kind, CHAT, got, limit, max(limit, quick)))
    if wanted("a flood of schemas"):
        await note("a flood of schemas", *await flood(server, args))
    if wanted("pipelining"):
        await note("pipelining", *await pipelined(server))
    return out


def canary(url, key, model):
    """Asks for ever, a line of JSON each."""

    async def run():
        from urllib.parse import urlsplit
        place = urlsplit(url)
        server = Server(place.hostname, place.port, key)
        body = {"model": model, "messages": ASK, "max_tokens": 16, "temperature": 0.7, "seed": 11, "logprobs": True}
        while True:
            began = time.time()
            try:
                got = await server.ask("POST", CHAT, body)
            except OSError:
                got = Answer(0, {}, b"", 0, 0)
            text = json.dumps(got.json().get("choices")) if got.status == 200 else ""
            print(json.dumps({"at": began, "s": got.whole, "status": got.status, "text": text}), flush=True)
            await asyncio.sleep(0.01)

    try:
        asyncio.run(run())
    except BrokenPipeError:
        pass


async def main():
    p = parser("clients that mean harm")
    p.add_argument("--limit-ms", type=float, default=50, help="for a refusal [default: %(default)s]")
    p.add_argument("--bounded-s", type=float, default=2, help="for what costs work, and is served or refused [default: %(default)s]")
    p.add_argument("--header-s", type=float, default=10, help="the server's clock for headers [default: %(default)s]")
    p.add_argument("--body-s", type=float, default=30, help="the server's clock for bodies [default: %(default)s]")
    p.add_argument("--rounds", type=int, default=2, help="hostile ones; quiet ones before, between and after [default: %(default)s]")
    p.add_argument("--only", help="cases with this in their name, without canary")
    p.add_argument("--skip", default="", help="cases with one of these words, between semicolons, in their name")
    p.add_argument("--verbose", action="store_true", help="each case as it comes")
    args = arguments(p)
    async with target(args) as server:
        args.course = []
        if args.only:
            cases = await attack(server, args, args.only)
            return report(args, {"cases": {n: s for n, _, s in cases}}, all(ok for _, ok, _ in cases))
        before = process(server.pid)
        bird = subprocess.Popen([sys.executable, __file__, "--canary", args.url, args.key, args.model], stdout=subprocess.PIPE, text=True)
        songs = asyncio.create_task(asyncio.to_thread(lambda: [json.loads(line) for line in bird.stdout]))
        bounds, cases, args.course = [], [], []
        await asyncio.sleep(1)
        quiet = 5.0
        for _ in range(args.rounds):
            at = time.time()
            await asyncio.sleep(quiet)
            bounds.append(("quiet", at, time.time()))
            at = time.time()
            cases = await attack(server, args)
            bounds.append(("hostile", at, time.time()))
            quiet = max(5.0, min(30.0, time.time() - at))
        await asyncio.sleep(0.2)
        bird.terminate()
        songs = await songs
        # The server's own clocks, all at once.
        clocks = {"slow headers": ("headers", args.header_s), "slow body": ("body", args.body_s), "half a body": ("half a body", args.body_s)}
        for name, (ok, said) in zip(clocks, await asyncio.gather(*[slow(server, *c) for c in clocks.values()])):
            cases.append((name, ok, said))
        after = process(server.pid)
        alive = (await server.ask("GET", "/ready")).status == 200
    part = lambda kind: [s["s"] for s in songs if s["status"] == 200 for k, a, b in bounds if k == kind and a <= s["at"] and s["at"] + s["s"] <= b]
    calm, beside = part("quiet"), part("hostile")
    # What was under way when the canary waited longest: the case that ended next.
    worst = sorted((s for s in songs if s["status"] == 200), key=lambda s: -s["s"])[:8]
    slowest = [{"ms": round(s["s"] * 1000, 1), "beside": next((n for t, n in args.course if t >= s["at"]), "")} for s in worst]
    ratio = percentile(beside, 99) / percentile(calm, 99)
    same, missed = len({s["text"] for s in songs if s["status"] == 200}) == 1, sum(s["status"] != 200 for s in songs)
    failed = {n: s for n, ok, s in cases if not ok}
    found = {"cases": len(cases), "as_they_should": len(cases) - len(failed), "failed": failed,
             "canary": {"same_to_the_bit": same, "not_answered": missed, "quiet_ms": spread(calm), "beside_ms": spread(beside), "p99_ratio": round(ratio, 2), "worst_ms": round(max(beside) * 1000, 1)},
             "slowest": slowest,
             "process": {"before": before or {}, "after": after or {}}, "alive": alive}
    report(args, found, not failed and same and not missed and alive and ratio <= 1.25)


if sys.argv[1:2] == ["--canary"]:
    canary(*sys.argv[2:])
else:
    asyncio.run(main())
