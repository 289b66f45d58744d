"""Tokens per second and time to the first token at N streams, of any server of /v1/completions that takes token ids.

    python3 tests/load/throughput.py --program target/release/pondera --streams 1,4,16
    python3 tests/load/throughput.py --url http://127.0.0.1:8081 --streams 16 --prompt 256 --answer 128   # llama-server
"""

import asyncio
import random
import statistics
import time

from common import arguments, ids, parser, report, spread, target


async def one(server, args, rng):
    body = {"model": args.model, "prompt": ids(args, args.prompt, rng), "max_tokens": args.answer, "temperature": 0,
            "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
    first, last, parts, usage = None, 0.0, 0, None
    async for at, event in server.stream("/v1/completions", body):
        if event.get("choices"):
            first, last = at if first is None else first, at
            parts += 1
        usage = event.get("usage") or usage
    # Where no usage comes, every token was asked for.
    made = usage["completion_tokens"] if usage else args.answer
    return {"ttft": first, "last": last, "tokens": made, "parts": parts}


async def at(server, args, streams, rng):
    start = time.perf_counter()
    done = await asyncio.gather(*[one(server, args, rng) for _ in range(streams)])
    wall = time.perf_counter() - start
    tokens = sum(d["tokens"] for d in done)
    between = [(d["last"] - d["ttft"]) / (d["tokens"] - 1) for d in done if d["tokens"] > 1]
    return {"tokens_per_s": tokens / wall, "prompt_tokens_per_s": streams * args.prompt / wall, "wall_s": wall,
            "ttft": [d["ttft"] for d in done], "between": between, "short": sum(d["tokens"] < args.answer for d in done)}


async def main():
    p = parser("tokens per second and time to the first token at N streams")
    p.add_argument("--streams", default="1,4,16", help="[default: %(default)s]")
    p.add_argument("--prompt", type=int, default=128, help="tokens of each prompt [default: %(default)s]")
    p.add_argument("--answer", type=int, default=64, help="tokens of each answer [default: %(default)s]")
    p.add_argument("--repeat", type=int, default=3, help="[default: %(default)s]")
    args = arguments(p)
    rng = random.Random(args.seed)
    rows = []
    async with target(args) as server:
        await at(server, args, 2, rng)
        for streams in map(int, args.streams.split(",")):
            runs = [await at(server, args, streams, rng) for _ in range(args.repeat)]
            rate = [r["tokens_per_s"] for r in runs]
            rows.append({"streams": streams, "tokens_per_s": round(statistics.median(rate), 1),
                         "least": round(min(rate), 1), "most": round(max(rate), 1),
                         "prompt_tokens_per_s": round(statistics.median(r["prompt_tokens_per_s"] for r in runs), 1),
                         "ttft_ms": spread([t for r in runs for t in r["ttft"]]),
                         "between_ms": spread([t for r in runs for t in r["between"]]),
                         "short": sum(r["short"] for r in runs)})
    report(args, {"prompt": args.prompt, "answer": args.answer, "repeat": args.repeat, "rows": rows},
           not any(r["short"] for r in rows))


asyncio.run(main())
