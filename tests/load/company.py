"""Many different requests at once: each answer is, to the bit of its log-probabilities, the one that it gets alone.

    python3 tests/load/company.py --program target/release/pondera -- --ctx 2048

Texts and chats, greedy and seeded, with log-probabilities, schemas, stops, several choices, long and short; alone one after
another, then all of them at once in a different order each time, some arriving late.
"""

import asyncio
import json
import random

from common import arguments, ids, parser, report, target

WORDS = ["fox", "river", "owl", "garden", "storm", "bridge", "lantern", "apple"]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {
    "type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
    "required": ["name", "age"], "additionalProperties": False}}}


def request(args, i, rng):
    """Path and body of the `i`th."""
    kind, length = i % 8, rng.choice([4, 8, 16, 48, 96])
    sampled = {"temperature": 0.8, "top_p": 0.9, "seed": i} if i % 3 == 0 else {"temperature": 0}
    both = {"model": args.model, "max_tokens": length, **sampled}
    if kind < 3:
        prompt = ids(args, rng.choice([1, 7, 40, 300, 700]), rng)
        return "/v1/completions", {**both, "prompt": prompt, "logprobs": 3, "ignore_eos": kind == 0, "echo": kind == 1}
    word = rng.choice(WORDS)
    messages = [{"role": "user", "content": f"Tell me a story about a {word}. " * rng.choice([1, 3, 20])}]
    if rng.random() < 0.5:
        messages.insert(0, {"role": "system", "content": "You are brief."})
    more = [{"logprobs": True, "top_logprobs": 5}, {"response_format": SCHEMA}, {"stop": ["the", "."]}, {"n": 3},
            {"frequency_penalty": 0.5, "logit_bias": {"400": 5}}][kind - 3]
    return "/v1/chat/completions", {**both, "messages": messages, **more}


def said(answer):
    """What must be equal: all but the answer's own name and time, and what came from a cache."""
    found = answer.json()
    for key in ("id", "created"):
        found.pop(key, None)
    found.get("usage", {}).pop("prompt_tokens_details", None)
    return json.dumps(found, sort_keys=True)


async def main():
    p = parser("answers in company against answers alone")
    p.add_argument("--requests", type=int, default=64, help="[default: %(default)s]")
    p.add_argument("--rounds", type=int, default=5, help="all at once, each in another order [default: %(default)s]")
    args = arguments(p, "--max-requests", "128")
    rng = random.Random(args.seed)
    wrong, tokens = [], 0
    async with target(args) as server:
        requests = [request(args, i, rng) for i in range(args.requests)]
        alone = []
        for path, body in requests:
            done = await server.ask("POST", path, body)
            assert done.status == 200, (body, done.body)
            tokens += done.json()["usage"]["completion_tokens"]
            alone.append(said(done))

        async def later(i, seconds):
            await asyncio.sleep(seconds)
            return i, await server.ask("POST", *requests[i])

        for r in range(args.rounds):
            order = rng.sample(range(args.requests), args.requests)
            late = r % 2 * 0.01
            for i, done in await asyncio.gather(*[later(i, late * n * rng.random()) for n, i in enumerate(order)]):
                if done.status != 200 or said(done) != alone[i]:
                    wrong.append({"round": r, "request": i, "status": done.status})
    report(args, {"requests": args.requests, "rounds": args.rounds, "tokens_alone": tokens,
                  "different_answers_alone": len(set(alone)), "wrong": wrong or 0}, not wrong)


asyncio.run(main())
