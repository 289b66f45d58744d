"""What the load scripts share: a server of their own or another's, HTTP as bytes, figures. Python's standard library alone."""

import argparse
import asyncio
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from urllib.parse import urlsplit


def parser(about):
    p = argparse.ArgumentParser(description=about, epilog="What follows -- goes to the server that --program starts.")
    p.add_argument("--url", help="a server that runs, as http://127.0.0.1:8080")
    p.add_argument("--program", help="the program of a server of its own: target/release/pondera")
    p.add_argument("--pid", type=int, help="the process of --url, where memory is sampled")
    p.add_argument("--model", help="name of the model [default: the first that is served]")
    p.add_argument("--key", default=os.environ.get("PONDERA_API_KEY", "none"), help="[default: PONDERA_API_KEY]")
    p.add_argument("--ids", default="300:1500", help="prompts are drawn from these token ids [default: %(default)s]")
    p.add_argument("--seed", type=int, default=1, help="of everything that is drawn [default: %(default)s]")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    return p


def arguments(p, *flags):
    """The arguments, and those for the server: `flags` before what the caller says behind `--`."""
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    args = p.parse_args(words[:at])
    if bool(args.url) == bool(args.program):
        p.error("give either --url or --program")
    args.server = [*flags, *words[at + 1:]]
    return args


@contextlib.asynccontextmanager
async def target(args):
    """The server to ask: `args.url`, or one that is started here and ends here."""
    if args.program:
        start(args)
    place = urlsplit(args.url)
    server = Server(place.hostname, place.port or 80, args.key, args.pid)
    try:
        if not args.model:
            args.model = (await server.ask("GET", "/v1/models")).json()["data"][0]["id"]
        yield server
    finally:
        if args.program:
            args.child.send_signal(signal.SIGTERM)
            try:
                args.child.wait(40)
            except subprocess.TimeoutExpired:
                args.child.kill()


def start(args, port=0):
    """Starts `args.program`, which says where it listens."""
    args.child = subprocess.Popen([args.program, "serve", "--port", str(port), "--json", "-q", *args.server], stdout=subprocess.PIPE)
    line = args.child.stdout.readline()
    if not line:
        sys.exit("the server did not start")
    args.url, args.pid = json.loads(line)["listening"], args.child.pid


class Answer:
    def __init__(self, status, headers, body, first, whole):
        self.status, self.headers, self.body = status, headers, body
        # Seconds to the first byte, and to the last.
        self.first, self.whole = first, whole

    def json(self):
        return json.loads(self.body)


class Server:
    def __init__(self, host, port, key="none", pid=None):
        self.host, self.port, self.key, self.pid = host, port, key, pid

    async def connect(self):
        return await asyncio.open_connection(self.host, self.port, limit=1 << 24)

    def head(self, method, path, length, more=()):
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}", "Connection: close",
                 f"Authorization: Bearer {self.key}", *more]
        if length is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {length}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def ask(self, method, path, body=None, headers=(), timeout=600):
        """A request, whole; `body` as bytes or what becomes JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return await self.raw([self.head(method, path, None if data is None else len(data), headers) + (data or b"")], timeout)

    async def raw(self, parts, timeout=600):
        """Bytes, part by part; what comes back to the last of them. Status 0: the connection ended without an answer."""
        reader, writer = await self.connect()
        try:
            for part in parts:
                if writer.is_closing() or reader.at_eof():
                    break
                writer.write(part)
                try:
                    await writer.drain()
                except ConnectionError:
                    break
            start = time.perf_counter()
            return await asyncio.wait_for(answer(reader, start), timeout)
        finally:
            await close(writer)

    async def stream(self, path, body, timeout=600):
        """Events of a stream as (seconds since the request, event); ends at [DONE]. Raises Refused on another status."""
        data = json.dumps(body).encode()
        reader, writer = await self.connect()
        try:
            writer.write(self.head("POST", path, len(data)) + data)
            start = time.perf_counter()
            status, headers = await asyncio.wait_for(head(reader), timeout)
            if status != 200:
                raise Refused(status, headers, await rest(reader, headers), time.perf_counter() - start)
            async for line in lines(reader, headers):
                if line.startswith(b"data: "):
                    if line[6:] == b"[DONE]":
                        return
                    yield time.perf_counter() - start, json.loads(line[6:])
        finally:
            await close(writer)


class Refused(Exception):
    def __init__(self, status, headers, body, seconds):
        super().__init__(f"{status} {body[:200]!r}")
        self.status, self.headers, self.body, self.seconds = status, headers, body, seconds


async def close(writer):
    writer.close()
    with contextlib.suppress(Exception):
        await asyncio.wait_for(writer.wait_closed(), 1)


async def head(reader):
    line = await reader.readline()
    if not line:
        return 0, {}
    status, headers = int(line.split()[1]), {}
    while (line := (await reader.readline()).strip()):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return status, headers


async def chunks(reader, headers):
    if headers.get("transfer-encoding") != "chunked":
        length = headers.get("content-length")
        yield await (reader.readexactly(int(length)) if length is not None else reader.read())
        return
    while (size := int((await reader.readline()).strip() or b"0", 16)):
        yield await reader.readexactly(size)
        await reader.readline()
    await reader.readline()


async def lines(reader, headers):
    left = b""
    async for chunk in chunks(reader, headers):
        *whole, left = (left + chunk).split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r")


async def rest(reader, headers):
    return b"".join([c async for c in chunks(reader, headers)])


async def answer(reader, start):
    try:
        status, headers = await head(reader)
        first = time.perf_counter() - start
        body = await rest(reader, headers) if status else b""
    except (ConnectionError, asyncio.IncompleteReadError):
        return Answer(0, {}, b"", time.perf_counter() - start, time.perf_counter() - start)
    return Answer(status, headers, body, first, time.perf_counter() - start)


def percentile(values, p):
    """The least value that p per cent of them do not exceed."""
    values = sorted(values)
    return values[max(0, math.ceil(len(values) * p / 100) - 1)] if values else None


def spread(values, unit=1000):
    """p50, p95, p99 and the number, in milliseconds unless told otherwise."""
    short = {f"p{p}": round(percentile(values, p) * unit, 2) for p in (50, 95, 99)} if values else {}
    return {**short, "n": len(values)}


def ids(args, n, rng):
    low, high = map(int, args.ids.split(":"))
    return [rng.randrange(low, high) for _ in range(n)]


def process(pid):
    """Resident kilobytes, descriptors and threads of a process; nothing where the system does not tell."""
    try:
        with open(f"/proc/{pid}/status") as f:
            said = dict(line.split(":", 1) for line in f if ":" in line)
        return {"rss_kb": int(said["VmRSS"].split()[0]), "threads": int(said["Threads"]), "fds": len(os.listdir(f"/proc/{pid}/fd"))}
    except (OSError, KeyError):
        return None


def report(args, found, ok=True):
    """Prints what was found and ends with 0 where it is as it should be."""
    if args.json:
        print(json.dumps(found))
    else:
        show(found)
    sys.exit(0 if ok else 1)


def show(found, depth=0):
    for key, value in found.items():
        if isinstance(value, dict) and any(isinstance(v, (dict, list)) for v in value.values()):
            print("  " * depth + f"{key}:")
            show(value, depth + 1)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            print("  " * depth + f"{key}:")
            for item in value:
                print("  " * (depth + 1) + "  ".join(f"{k} {v}" for k, v in item.items()))
        elif isinstance(value, dict):
            print("  " * depth + f"{key}: " + "  ".join(f"{k} {v}" for k, v in value.items()))
        else:
            print("  " * depth + f"{key}: {value}")
