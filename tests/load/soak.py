"""Minutes of mixed load; memory, descriptors and threads must be flat once the server is warm.

    python3 tests/load/soak.py --program target/release/pondera --minutes 10

Chats, completions, streams, streams that are given up, schemas, embeddings, Anthropic's and Ollama's paths, and errors. What an
answer must be is checked: the same seed gives the same text throughout.
"""

import asyncio
import json
import random
import time
from collections import Counter

from common import Refused, arguments, ids, parser, process, report, target

ASK = [{"role": "user", "content": "Tell me a story about a fox"}]
SCHEMA = {"type": "object", "properties": {"animal": {"enum": ["fox", "bear"]}}, "required": ["animal"], "additionalProperties": False}


class Soak:
    def __init__(self, server, args):
        self.server, self.args, self.rng = server, args, random.Random(args.seed)
        self.counts, self.wrong, self.text = Counter(), [], None

    async def chat(self):
        done = await self.server.ask("POST", "/v1/chat/completions", {"model": self.args.model, "messages": ASK, "max_tokens": 24, "temperature": 0.8, "seed": 7})
        text = done.json()["choices"][0]["message"]["content"]
        self.text = self.text or text
        return done.status == 200 and text == self.text

    async def completion(self):
        body = {"model": self.args.model, "prompt": ids(self.args, self.rng.randrange(4, 128), self.rng), "max_tokens": self.rng.randrange(1, 48), "logprobs": 2, "n": self.rng.choice([1, 1, 2])}
        done = await self.server.ask("POST", "/v1/completions", body)
        return done.status == 200 and len(done.json()["choices"]) == body["n"]

    async def streamed(self, leave=None):
        body = {"model": self.args.model, "messages": ASK, "max_tokens": self.rng.randrange(8, 64), "stream": True}
        seen = 0
        async for _ in self.server.stream("/v1/chat/completions", body):
            seen += 1
            if leave is not None and seen > leave:
                break
        return seen > 0

    async def given_up(self):
        return await self.streamed(self.rng.randrange(0, 6))

    async def hung_up(self):
        """Goes away before anything came."""
        body = json.dumps({"model": self.args.model, "messages": ASK, "max_tokens": 64}).encode()
        _, writer = await self.server.connect()
        writer.write(self.server.head("POST", "/v1/chat/completions", len(body)) + body)
        await asyncio.sleep(self.rng.random() * 0.05)
        writer.close()
        return True

    async def schema(self):
        # Names of their own, so that grammars that are kept are not kept for ever.
        name = f"k{self.rng.randrange(500)}"
        form = {"type": "object", "properties": {name: {"type": "boolean"}, **SCHEMA["properties"]}, "required": [name, "animal"], "additionalProperties": False}
        body = {"model": self.args.model, "messages": ASK, "max_tokens": 100,
                "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": form}}}
        done = await self.server.ask("POST", "/v1/chat/completions", body)
        return done.status == 200 and name in json.loads(done.json()["choices"][0]["message"]["content"])

    async def embedding(self):
        done = await self.server.ask("POST", "/v1/embeddings", {"model": self.args.model, "input": ["a fox", "a bear " * self.rng.randrange(1, 40)]})
        return done.status == 200 and len(done.json()["data"]) == 2 or done.status == 400

    async def anthropic(self):
        done = await self.server.ask("POST", "/v1/messages", {"model": self.args.model, "messages": ASK, "max_tokens": 16})
        return done.status == 200

    async def ollama(self):
        done = await self.server.ask("POST", "/api/chat", {"model": self.args.model, "messages": ASK, "options": {"num_predict": 16}})
        return done.status == 200 and json.loads(done.body.splitlines()[-1])["done"]

    async def mistaken(self):
        path, body, status = self.rng.choice([
            ("/v1/chat/completions", b"{", 400), ("/v1/chat/completions", {"model": "none", "messages": ASK}, 404),
            ("/v1/chat/completions", {"model": self.args.model, "messages": ASK, "temperature": 9}, 400),
            ("/v1/completions", {"model": self.args.model, "prompt": "x " * 20000}, 400), ("/nowhere", {}, 404),
            ("/v1/messages", {"model": self.args.model, "messages": ASK}, 400)])
        return (await self.server.ask("POST", path, body)).status == status

    KINDS = ["chat", "completion", "streamed", "given_up", "hung_up", "schema", "embedding", "anthropic", "ollama", "mistaken"]

    async def client(self, end):
        while time.perf_counter() < end:
            kind = self.rng.choice(self.args.kinds.split(","))
            try:
                ok = await getattr(self, kind)()
            except (Refused, OSError, ValueError, KeyError, IndexError, asyncio.IncompleteReadError) as e:
                ok, said = False, f"{kind}: {type(e).__name__} {e}"
            else:
                said = f"{kind}: not as expected"
            self.counts[kind] += 1
            if not ok:
                self.wrong.append(said[:300])


async def main():
    p = parser("memory, descriptors and threads under mixed load")
    p.add_argument("--minutes", type=float, default=10, help="[default: %(default)s]")
    p.add_argument("--clients", type=int, default=8, help="[default: %(default)s]")
    p.add_argument("--every", type=float, default=1, help="seconds between samples [default: %(default)s]")
    p.add_argument("--growth", type=float, default=0.02, help="of memory that counts as flat [default: %(default)s]")
    p.add_argument("--kinds", default=",".join(Soak.KINDS), help="of requests [default: %(default)s]")
    args = arguments(p)
    async with target(args) as server:
        idle = process(server.pid)
        if not idle:
            p.error("memory is sampled from /proc: give --program, or --pid beside --url")
        soak, start, samples = Soak(server, args), time.perf_counter(), []
        clients = asyncio.gather(*[soak.client(start + 60 * args.minutes) for _ in range(args.clients)])
        while not clients.done():
            await asyncio.wait([clients], timeout=args.every)
            samples.append({"s": time.perf_counter() - start, **(process(server.pid) or {})})
        await clients
        for _ in range(100):
            text = (await server.ask("GET", "/metrics")).body.decode()
            under_way = sum(float(x.rsplit(" ", 1)[1]) for x in text.splitlines() if x.startswith("vllm:num_requests_running{"))
            quiet = process(server.pid)
            if not under_way and quiet["fds"] <= idle["fds"]:
                break
            await asyncio.sleep(0.1)
    # The first third is warming up.
    warm = [s for s in samples if s["s"] > 20 * args.minutes and "rss_kb" in s]
    half = len(warm) // 2
    early, late = warm[:half], warm[half:]
    mean = lambda part, what: sum(s[what] for s in part) / max(1, len(part))
    most = lambda part, what: max((s[what] for s in part), default=0)
    grown = mean(late, "rss_kb") / max(1, mean(early, "rss_kb")) - 1
    middle = sum(s["s"] for s in warm) / max(1, len(warm))
    slope = sum((s["s"] - middle) * s["rss_kb"] for s in warm) / max(1e-9, sum((s["s"] - middle) ** 2 for s in warm))
    flat = {"memory": grown <= args.growth, "threads": mean(late, "threads") <= 1.1 * mean(early, "threads") + 1,
            "descriptors": most(late, "fds") <= most(early, "fds") + args.clients and quiet["fds"] <= idle["fds"],
            "nothing_left": under_way == 0}
    found = {"minutes": args.minutes, "requests": dict(sorted(soak.counts.items())), "wrong": len(soak.wrong), "wrong_first": soak.wrong[:5],
             "rss_kb": {"idle": idle["rss_kb"], "early": round(mean(early, "rss_kb")), "late": round(mean(late, "rss_kb")),
                        "most": most(samples, "rss_kb"), "growth": round(grown, 4), "kb_per_minute": round(slope * 60, 1),
                        "course": " ".join(str(s["rss_kb"]) for s in samples[::max(1, len(samples) // 20)] if "rss_kb" in s)},
             "threads": {"idle": idle["threads"], "most": most(samples, "threads"), "after": quiet["threads"]},
             "fds": {"idle": idle["fds"], "most": most(samples, "fds"), "after": quiet["fds"]}, "flat": flat}
    report(args, found, all(flat.values()) and not soak.wrong)


asyncio.run(main())
