"""A beginning that many share: one request computes it, the others start when its first token is there.

    python3 tests/load/prefix.py --program target/release/pondera -- --ctx 4096
"""

import asyncio
import random

from common import arguments, ids, parser, percentile, report, spread, target


async def ask(server, args, prompt, began=None):
    body = {"model": args.model, "prompt": prompt, "max_tokens": args.answer, "temperature": 0, "ignore_eos": True,
            "stream": True, "stream_options": {"include_usage": True}}
    first, usage = None, None
    async for at, event in server.stream("/v1/completions", body):
        if event.get("choices") and first is None:
            first = at
            if began:
                began.set()
        usage = event.get("usage") or usage
    return first, (usage or {}).get("prompt_tokens_details", {}).get("cached_tokens")


async def main():
    p = parser("time to the first token of requests that share a beginning")
    p.add_argument("--prompt", type=int, default=2000, help="tokens that all share [default: %(default)s]")
    p.add_argument("--own", type=int, default=16, help="tokens of each alone, behind them [default: %(default)s]")
    p.add_argument("--answer", type=int, default=32, help="[default: %(default)s]")
    p.add_argument("--clients", type=int, default=16, help="[default: %(default)s]")
    p.add_argument("--repeat", type=int, default=3, help="each with a beginning of its own [default: %(default)s]")
    p.add_argument("--most", type=float, default=0.5, help="the others' median may be this part of the first's [default: %(default)s]")
    args = arguments(p)
    rng = random.Random(args.seed)
    runs = []
    async with target(args) as server:
        await ask(server, args, ids(args, 64, rng))
        for _ in range(args.repeat):
            shared, began = ids(args, args.prompt, rng), asyncio.Event()
            first = asyncio.create_task(ask(server, args, shared + ids(args, args.own, rng), began))
            await asyncio.wait({first, asyncio.create_task(began.wait())}, return_when=asyncio.FIRST_COMPLETED)
            others = await asyncio.gather(*[ask(server, args, shared + ids(args, args.own, rng)) for _ in range(args.clients - 1)])
            alone, cached = await first
            times = [t for t, _ in others]
            runs.append({"first_ms": round(alone * 1000, 1), "others_ms": spread(times),
                         "of_the_first": round(percentile(times, 50) / alone, 3),
                         "from_the_cache": [c for _, c in others], "first_from_the_cache": cached})
    ratio = percentile([r["of_the_first"] for r in runs], 50)
    report(args, {"prompt": args.prompt, "clients": args.clients, "runs": runs, "of_the_first": ratio}, ratio <= args.most)


asyncio.run(main())
