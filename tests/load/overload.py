"""More than the server can do: arrivals that do not wait for answers, at k times the measured peak.

    python3 tests/load/overload.py --program target/release/pondera --times 4 --seconds 20

Who is refused must be told so at once, with Retry-After; what is taken must come as fast as without the others.
"""

import asyncio
import random
import time

from common import Refused, arguments, ids, parser, process, report, spread, target


async def one(server, args, rng):
    """Status, seconds, tokens, whether Retry-After was there."""
    body = {"model": args.model, "prompt": ids(args, args.prompt, rng), "max_tokens": args.answer, "temperature": 0,
            "ignore_eos": True}
    start = time.perf_counter()
    try:
        done = await server.ask("POST", "/v1/completions", body)
    except (OSError, asyncio.TimeoutError, Refused):
        return 0, time.perf_counter() - start, 0, False
    made = done.json()["usage"]["completion_tokens"] if done.status == 200 else 0
    return done.status, done.whole, made, "retry-after" in done.headers


async def peak(server, args, seconds, rng):
    """Requests and tokens per second of clients that wait for their answers, as many as run at once."""
    end, done = time.perf_counter() + seconds, []

    async def client():
        while time.perf_counter() < end:
            done.append(await one(server, args, rng))

    start = time.perf_counter()
    await asyncio.gather(*[client() for _ in range(args.clients)])
    wall = time.perf_counter() - start
    good = [d for d in done if d[0] == 200]
    return len(good) / wall, sum(d[2] for d in good) / wall


async def main():
    p = parser("rejections and goodput at k times the peak")
    p.add_argument("--times", type=float, default=4, help="of the measured peak [default: %(default)s]")
    p.add_argument("--seconds", type=float, default=20, help="[default: %(default)s]")
    p.add_argument("--clients", type=int, default=16, help="that wait, for the peak [default: %(default)s]")
    p.add_argument("--prompt", type=int, default=64, help="[default: %(default)s]")
    p.add_argument("--answer", type=int, default=64, help="[default: %(default)s]")
    p.add_argument("--least", type=float, default=0.8, help="part of the peak that must be left [default: %(default)s]")
    p.add_argument("--reject-ms", type=float, default=50, help="p99 of rejections [default: %(default)s]")
    args = arguments(p, "--max-requests", "32")
    rng = random.Random(args.seed)
    async with target(args) as server:
        await peak(server, args, min(2, args.seconds), rng)
        requests, tokens = await peak(server, args, args.seconds / 2, rng)
        before, tasks, late = process(server.pid), [], 0.0
        rate, start = args.times * requests, time.perf_counter()
        most, due = (before or {}).get("rss_kb", 0), 0.0
        while (due := due + rng.expovariate(rate)) < args.seconds:
            now = time.perf_counter() - start
            await asyncio.sleep(max(0, due - now))
            late = max(late, time.perf_counter() - start - due)
            tasks.append(asyncio.create_task(one(server, args, rng)))
            if len(tasks) % 50 == 0:
                most = max(most, (process(server.pid) or {}).get("rss_kb", 0))
        in_time = sum(t.result()[2] for t in tasks if t.done()) / (time.perf_counter() - start)
        done = await asyncio.gather(*tasks)
        wall = time.perf_counter() - start
        after = await peak(server, args, min(5, args.seconds / 2), rng)
        end = process(server.pid)
    by = {}
    for status, *_ in done:
        by[status] = by.get(status, 0) + 1
    refused = [d[1] for d in done if d[0] == 429]
    told = all(d[3] for d in done if d[0] == 429)
    goodput = sum(d[2] for d in done) / wall
    found = {
        "peak": {"requests_per_s": round(requests, 1), "tokens_per_s": round(tokens, 1)},
        "offered": {"requests_per_s": round(rate, 1), "times": args.times, "seconds": args.seconds, "latest_ms": round(late * 1000, 1)},
        "statuses": by,
        "rejections_ms": spread(refused), "retry_after_always": told,
        "answers_ms": spread([d[1] for d in done if d[0] == 200]),
        "goodput": {"tokens_per_s": round(goodput, 1), "of_peak": round(goodput / tokens, 3), "while_offered": round(in_time / tokens, 3),
                    "afterwards": round(after[1] / tokens, 3)},
        "rss_kb": {"before": (before or {}).get("rss_kb"), "most": most, "after": (end or {}).get("rss_kb")},
    }
    p99 = found["rejections_ms"].get("p99", 0)
    ok = told and set(by) <= {200, 429} and goodput >= args.least * tokens and p99 <= args.reject_ms
    report(args, found, ok)


asyncio.run(main())
