"""The official clients of the three APIs, newest releases, against a server of the built-in model.

    cargo xtask clients            # installs them into target/clients, builds and starts the server, runs this

Not part of the test run: it needs a package index.
"""

import asyncio
import json
import sys

import anthropic
import litellm
import ollama
import openai

BASE = sys.argv[1]
ASK = [{"role": "user", "content": "Tell me a story about a fox"}]
SCHEMA = {"type": "object", "properties": {"animal": {"enum": ["fox", "bear"]}}, "required": ["animal"],
          "additionalProperties": False}
passed = 0


def check(what, ok):
    global passed
    if not ok:
        sys.exit(f"FAILED: {what}")
    passed += 1
    print(f"ok {what}")


def of_openai():
    c = openai.OpenAI(base_url=BASE + "/v1", api_key="none", max_retries=0)
    check("openai models", [m.id for m in c.models.list()] == ["pebble"])
    args = dict(model="pebble", messages=ASK, max_tokens=30, temperature=0)
    whole = c.chat.completions.create(**args)
    text = whole.choices[0].message.content
    check("openai chat", len(text) > 20 and whole.choices[0].finish_reason == "length")
    parts, usage = [], None
    for chunk in c.chat.completions.create(**args, stream=True, stream_options={"include_usage": True}):
        parts += [chunk.choices[0].delta.content or ""] if chunk.choices else []
        usage = chunk.usage or usage
    check("openai stream", "".join(parts) == text and usage.completion_tokens == 30)
    scored = c.chat.completions.create(**args, logprobs=True, top_logprobs=3).choices[0].logprobs.content
    check("openai logprobs", len(scored) == 30 and all(len(t.top_logprobs) == 3 and t.logprob <= 0 for t in scored))
    form = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}}
    made = c.chat.completions.create(**{**args, "max_tokens": 200}, response_format=form).choices[0].message.content
    check("openai schema", json.loads(made)["animal"] in ("fox", "bear"))
    two = c.completions.create(model="pebble", prompt="Once upon", max_tokens=5, temperature=0, n=2, logprobs=2)
    check("openai completions", two.choices[0].text == two.choices[1].text and two.choices[1].index == 1)
    vectors = c.embeddings.create(model="pebble", input=["a fox", "a bear"]).data
    check("openai embeddings", len(vectors) == 2 and abs(sum(v * v for v in vectors[0].embedding) - 1) < 1e-4)
    for what, kind, more in [("model", openai.NotFoundError, {"model": "none"}), ("temperature", openai.BadRequestError, {"temperature": 9})]:
        try:
            c.chat.completions.create(**{**args, **more})
            check(f"openai error {what}", False)
        except kind as e:
            check(f"openai error {what}", e.param == what)
    stream = c.chat.completions.create(**{**args, "max_tokens": 400}, stream=True)
    next(iter(stream))
    stream.close()
    check("openai cancel", c.chat.completions.create(**args).choices[0].message.content == text)

    async def many():
        a = openai.AsyncOpenAI(base_url=BASE + "/v1", api_key="none")
        return await asyncio.gather(*[a.chat.completions.create(**args) for _ in range(16)])

    check("openai async", {r.choices[0].message.content for r in asyncio.run(many())} == {text})
    return text


def of_anthropic(text):
    c = anthropic.Anthropic(base_url=BASE, api_key="none", max_retries=0)
    args = dict(model="pebble", max_tokens=30, messages=ASK, extra_body={"temperature": 0})
    whole = c.messages.create(**args)
    check("anthropic messages", whole.content[0].text == text and whole.stop_reason == "max_tokens")
    with c.messages.stream(**args) as stream:
        joined = "".join(stream.text_stream)
        last = stream.get_final_message()
    check("anthropic stream", joined == text and last.usage.output_tokens == 30)
    count = c.messages.count_tokens(model="pebble", messages=ASK).input_tokens
    check("anthropic count", count == whole.usage.input_tokens + whole.usage.cache_read_input_tokens)
    check("anthropic models", [m.id for m in c.models.list()] == ["pebble"])
    word = text.split(" ")[4]
    cut = c.messages.create(**args, stop_sequences=[word])
    check("anthropic stop", (cut.stop_reason, cut.stop_sequence) == ("stop_sequence", word))
    try:
        c.messages.create(**{**args, "model": "none"})
        check("anthropic error", False)
    except anthropic.NotFoundError as e:
        check("anthropic error", e.body["error"]["type"] == "not_found_error")


def of_ollama(text):
    c = ollama.Client(host=BASE)
    args = dict(model="pebble", messages=ASK, options={"temperature": 0, "num_predict": 30})
    check("ollama chat", c.chat(**args).message.content == text)
    check("ollama stream", "".join(p.message.content for p in c.chat(**args, stream=True)) == text)
    made = c.generate(model="pebble", prompt="An animal", format=SCHEMA, options={"num_predict": 200}).response
    check("ollama schema", json.loads(made)["animal"] in ("fox", "bear"))
    check("ollama lists", c.list().models[0].model == "pebble" and c.ps().models[0].context_length > 0)
    check("ollama show", c.show("pebble").details.family == "qwen3_moe")
    check("ollama embed", len(c.embed(model="pebble", input=["a", "b"]).embeddings) == 2)
    try:
        c.chat(**{**args, "model": "none"})
        check("ollama error", False)
    except ollama.ResponseError as e:
        check("ollama error", e.status_code == 404)


def of_litellm(text):
    for model, base in [("openai/pebble", BASE + "/v1"), ("ollama_chat/pebble", BASE)]:
        more = dict(api_base=base, api_key="none", messages=ASK, max_tokens=30, temperature=0)
        check(f"litellm {model}", litellm.completion(model=model, **more).choices[0].message.content == text)


said = of_openai()
of_anthropic(said)
of_ollama(said)
of_litellm(said)
print(f"{passed} passed, 0 failed")
