"""Clients that go away at random moments: nothing of theirs may be left a moment after the last.

    python3 tests/load/disconnects.py --program target/release/pondera --clients 10000
"""

import asyncio
import json
import time

from common import arguments, ids, parser, percentile, process, report, target

import random


async def gone(server, args, rng):
    """A request whose client leaves after `--within` milliseconds at most: before, in or after its prompt, or while it is answered."""
    stream = rng.random() < 0.7
    body = json.dumps({"model": args.model, "prompt": ids(args, rng.randrange(1, args.prompt), rng), "max_tokens": args.answer,
                       "ignore_eos": True, "stream": stream, "n": rng.choice([1, 1, 1, 2])}).encode()
    try:
        reader, writer = await server.connect()
    except OSError:
        return False
    data = server.head("POST", "/v1/completions", len(body)) + body
    if rng.random() < 0.1:
        data = data[:rng.randrange(len(data))]
    writer.write(data)
    await asyncio.sleep(rng.random() * args.within / 1000)
    if rng.random() < 0.5:
        # A reset instead of a farewell.
        writer.transport.abort()
    else:
        writer.close()
    return True


async def gauge(server):
    text = (await server.ask("GET", "/metrics")).body.decode()
    values = {x.split("{")[0]: float(x.rsplit(" ", 1)[1]) for x in text.splitlines() if x and x[0] != "#" and "{model_name=" in x and "_bucket" not in x}
    return {k: values[k] for k in ("vllm:num_requests_running", "vllm:num_requests_waiting", "pondera:requests_under_way")}


async def main():
    p = parser("what is left of clients that went away")
    p.add_argument("--clients", type=int, default=10_000, help="[default: %(default)s]")
    p.add_argument("--together", type=int, default=64, help="at a time [default: %(default)s]")
    p.add_argument("--within", type=float, default=50, help="milliseconds that a client stays at most [default: %(default)s]")
    p.add_argument("--prompt", type=int, default=200, help="tokens of a prompt at most [default: %(default)s]")
    p.add_argument("--answer", type=int, default=200, help="tokens that are asked for [default: %(default)s]")
    p.add_argument("--bar", type=float, default=250, help="milliseconds until all are forgotten [default: %(default)s]")
    args = arguments(p)
    rng = random.Random(args.seed)
    async with target(args) as server:
        ask = {"model": args.model, "prompt": ids(args, 100, rng), "max_tokens": 32, "temperature": 0, "ignore_eos": True}
        text = lambda done: done.json()["choices"][0]["text"]
        before, idle = text(await server.ask("POST", "/v1/completions", ask)), process(server.pid)
        start, lags, connected = time.perf_counter(), [], 0
        for done in range(0, args.clients, args.clients // 10 or 1):
            wave = min(args.clients // 10 or 1, args.clients - done)
            limit = asyncio.Semaphore(args.together)

            async def one():
                async with limit:
                    return await gone(server, args, rng)

            connected += sum(await asyncio.gather(*[one() for _ in range(wave)]))
            last = time.perf_counter()
            while any((await gauge(server)).values()):
                if time.perf_counter() - last > 30:
                    break
                await asyncio.sleep(0.002)
            lags.append((time.perf_counter() - last) * 1000)
        took = time.perf_counter() - start
        left = await gauge(server)
        await asyncio.sleep(0.5)
        after, same = process(server.pid), text(await server.ask("POST", "/v1/completions", ask)) == before
    ok = not any(left.values()) and max(lags) <= args.bar and same and (not idle or after["fds"] <= idle["fds"] + 1)
    report(args, {"clients": args.clients, "connected": connected, "seconds": round(took, 1), "until_forgotten_ms": {"p50": round(percentile(lags, 50), 1), "most": round(max(lags), 1)},
                  "left": left, "before": idle or {}, "after": after or {}, "same_answer": same}, ok)


asyncio.run(main())
