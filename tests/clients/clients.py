"""The official clients of the three APIs, newest releases, against a server of the built-in model.

    cargo xtask clients            # installs them into target/clients, builds and starts the server, runs this

Not part of the test run: it needs a package index.
"""

import asyncio
import json
import os
import sys
import time

# Its prices of models would come from the network.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import anthropic
import litellm
import ollama
import openai

BASE = sys.argv[1]
ASK = [{"role": "user", "content": "Tell me a story about a fox"}]
SCHEMA = {"type": "object", "properties": {"animal": {"enum": ["fox", "bear"]}}, "required": ["animal"],
          "additionalProperties": False}
PLACE = {"type": "object", "properties": {"place": {"enum": ["Rome", "Oslo"]}}, "required": ["place"],
         "additionalProperties": False}
WEATHER = [{"role": "user", "content": "What is the weather in Rome and in Oslo? Ask for both."}]
NAMES = ["get_weather", "get_time"]
TOOLS = [{"type": "function", "function": {"name": n, "description": "Of a place", "parameters": PLACE}} for n in NAMES]
passed = skipped = 0


def check(what, ok):
    global passed
    if not ok:
        sys.exit(f"FAILED: {what}")
    passed += 1
    print(f"ok {what}")


def without(what, error):
    """A server without tools says so by name, and has no path for responses."""
    global skipped
    lacks = "not supported" in str(error) and "tools" in str(error) or "there is no such path" in str(error)
    if not lacks:
        sys.exit(f"FAILED: {what}: {error}")
    skipped += 1
    print(f"skipped {what}: the server has it not")


def well_formed(calls):
    """Calls of tools in OpenAI's shape."""
    places = [json.loads(c.function.arguments)["place"] for c in calls if isinstance(c.function.arguments, str)]
    return (len(calls) == len(places) == len({c.id for c in calls}) >= 1 and set(places) <= {"Rome", "Oslo"}
            and all(c.id and c.type == "function" and c.function.name in NAMES for c in calls))


def joined(chunks):
    """Calls put together from a stream by index, as (id, name, arguments); None where the parts do not fit."""
    calls = {}
    for part in [p for c in chunks if c.choices for p in c.choices[0].delta.tool_calls or []]:
        if part.index not in calls and part.id and part.function.name:
            calls[part.index] = (part.id, part.function.name, part.function.arguments or "")
        elif part.index in calls and part.id in (None, calls[part.index][0]):
            call = calls[part.index]
            calls[part.index] = (call[0], call[1], call[2] + (part.function.arguments or ""))
        else:
            return None
    return [calls[i] for i in sorted(calls)] if sorted(calls) == list(range(len(calls))) else None


def tools_of_openai():
    c = openai.OpenAI(base_url=BASE + "/v1", api_key="none", max_retries=0)
    args = dict(model="pebble", messages=WEATHER, tools=TOOLS, tool_choice="required", max_tokens=300, temperature=0)
    try:
        whole = c.chat.completions.create(**args).choices[0]
    except openai.BadRequestError as e:
        return without("openai tools", e)
    calls = whole.message.tool_calls
    check("openai tools", well_formed(calls) and whole.finish_reason == "tool_calls")
    one = c.chat.completions.create(**args, parallel_tool_calls=False).choices[0].message.tool_calls
    check("openai tools one at a time", well_formed(one) and len(one) == 1)
    named = {"type": "function", "function": {"name": "get_time"}}
    one = c.chat.completions.create(**{**args, "tool_choice": named}).choices[0].message.tool_calls
    check("openai tools by name", well_formed(one) and {call.function.name for call in one} == {"get_time"})
    chunks = list(c.chat.completions.create(**args, stream=True))
    parts = [(name, arguments) for _, name, arguments in joined(chunks) or []]
    check("openai tools streamed", parts == [(call.function.name, call.function.arguments) for call in calls])
    check("openai tools streamed reason", [x.choices[0].finish_reason for x in chunks if x.choices][-1] == "tool_calls")
    talk = WEATHER + [whole.message] + [{"role": "tool", "tool_call_id": call.id, "content": "warm"} for call in calls]
    told = c.chat.completions.create(**{**args, "messages": talk, "tool_choice": "none"}).choices[0].message
    check("openai tools results", told.content and not told.tool_calls)
    try:
        c.chat.completions.create(**{**args, "tool_choice": {"type": "function", "function": {"name": "nobody"}}})
        check("openai tools error", False)
    except openai.BadRequestError as e:
        check("openai tools error", e.param and e.param.startswith("tool_choice"))


def responses_of_openai():
    c = openai.OpenAI(base_url=BASE + "/v1", api_key="none", max_retries=0)
    args = dict(model="pebble", input=ASK[0]["content"], max_output_tokens=30, temperature=0)
    try:
        whole = c.responses.create(**args)
    except openai.NotFoundError as e:
        return without("openai responses", e)
    check("openai responses", len(whole.output_text) > 20 and whole.usage.output_tokens == 30)
    check("openai responses status", (whole.status, whole.incomplete_details.reason) == ("incomplete", "max_output_tokens"))
    events = list(c.responses.create(**args, stream=True))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    check("openai responses stream", text == whole.output_text and events[0].type == "response.created")
    check("openai responses end", events[-1].type == "response.incomplete" and events[-1].response.output_text == text)
    check("openai responses order", [e.sequence_number for e in events] == list(range(len(events))))
    form = {"format": {"type": "json_schema", "name": "a", "strict": True, "schema": SCHEMA}}
    made = c.responses.create(**{**args, "max_output_tokens": 200}, text=form).output_text
    check("openai responses schema", json.loads(made)["animal"] in ("fox", "bear"))
    first = c.responses.create(**args, store=True)
    more = c.responses.create(**{**args, "input": "And then?"}, previous_response_id=first.id)
    check("openai responses previous", more.usage.input_tokens > first.usage.input_tokens)
    try:
        c.responses.create(**args, previous_response_id="resp_none")
        check("openai responses error", False)
    except (openai.BadRequestError, openai.NotFoundError):
        check("openai responses error", True)
    tools = [{"type": "function", "strict": True, **t["function"]} for t in TOOLS]
    ask = dict(model="pebble", max_output_tokens=300, temperature=0, tools=tools)
    try:
        called = c.responses.create(**ask, input=WEATHER, tool_choice="required")
    except openai.BadRequestError as e:
        return without("openai responses tools", e)
    calls = [item for item in called.output if item.type == "function_call"]
    good = all(x.name in NAMES and json.loads(x.arguments)["place"] in ("Rome", "Oslo") for x in calls)
    check("openai responses tools", good and len({x.call_id for x in calls}) == len(calls) >= 1)
    events = list(c.responses.create(**ask, input=WEATHER, tool_choice="required", stream=True))
    done = [e.arguments for e in events if e.type == "response.function_call_arguments.done"]
    check("openai responses tools streamed", done == [x.arguments for x in calls])
    talk = WEATHER + calls + [{"type": "function_call_output", "call_id": x.call_id, "output": "warm"} for x in calls]
    check("openai responses tools results", c.responses.create(**ask, input=talk, tool_choice="none").output_text)


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


def tools_of_anthropic():
    c = anthropic.Anthropic(base_url=BASE, api_key="none", max_retries=0)
    tools = [{"name": n, "description": "Of a place", "input_schema": PLACE} for n in NAMES]
    args = dict(model="pebble", max_tokens=300, messages=WEATHER, tools=tools, extra_body={"temperature": 0})
    try:
        whole = c.messages.create(**args, tool_choice={"type": "any"})
    except anthropic.BadRequestError as e:
        return without("anthropic tools", e)
    uses = [b for b in whole.content if b.type == "tool_use"]
    good = all(u.name in NAMES and u.input["place"] in ("Rome", "Oslo") for u in uses)
    check("anthropic tools", good and len({u.id for u in uses}) == len(uses) >= 1 and whole.stop_reason == "tool_use")
    one = c.messages.create(**args, tool_choice={"type": "any", "disable_parallel_tool_use": True})
    check("anthropic tools one at a time", sum(b.type == "tool_use" for b in one.content) == 1)
    one = c.messages.create(**args, tool_choice={"type": "tool", "name": "get_time"})
    check("anthropic tools by name", {b.name for b in one.content if b.type == "tool_use"} == {"get_time"})
    with c.messages.stream(**args, tool_choice={"type": "any"}) as stream:
        last = stream.get_final_message()
    check("anthropic tools streamed", [b.input for b in last.content if b.type == "tool_use"] == [u.input for u in uses])
    check("anthropic tools streamed reason", last.stop_reason == "tool_use")
    results = [{"type": "tool_result", "tool_use_id": u.id, "content": "warm"} for u in uses]
    talk = WEATHER + [{"role": "assistant", "content": whole.content}, {"role": "user", "content": results}]
    told = c.messages.create(**{**args, "messages": talk}, tool_choice={"type": "none"})
    check("anthropic tools results", told.content[0].type == "text" and told.content[0].text)


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


def tools_of_ollama():
    """There is no tool_choice: what must hold is the shape, whether or not the model calls."""
    c = ollama.Client(host=BASE)
    args = dict(model="pebble", messages=WEATHER, tools=TOOLS, options={"temperature": 0, "num_predict": 200})
    try:
        whole = c.chat(**args).message.tool_calls or []
    except ollama.ResponseError as e:
        return without("ollama tools", e)
    check("ollama tools", all(isinstance(x.function.arguments, dict) for x in whole))
    parts = [x.function.arguments for p in c.chat(**args, stream=True) for x in p.message.tool_calls or []]
    check("ollama tools streamed", parts == [x.function.arguments for x in whole])
    call = {"function": {"name": "get_weather", "arguments": {"place": "Rome"}}}
    talk = WEATHER + [{"role": "assistant", "content": "", "tool_calls": [call]},
                      {"role": "tool", "tool_name": "get_weather", "content": "warm"}]
    check("ollama tools results", c.chat(**{**args, "messages": talk}).done)


def tools_of_litellm():
    args = dict(model="openai/pebble", api_base=BASE + "/v1", api_key="none", messages=WEATHER, tools=TOOLS,
                tool_choice="required", max_tokens=300, temperature=0, num_retries=0)
    try:
        whole = litellm.completion(**args).choices[0]
    except litellm.BadRequestError as e:
        return without("litellm tools", e)
    check("litellm tools", well_formed(whole.message.tool_calls) and whole.finish_reason == "tool_calls")
    parts = [(name, arguments) for _, name, arguments in joined(list(litellm.completion(**args, stream=True))) or []]
    check("litellm tools streamed", parts == [(x.function.name, x.function.arguments) for x in whole.message.tool_calls])


def of_litellm(text):
    for model, base in [("openai/pebble", BASE + "/v1"), ("ollama_chat/pebble", BASE)]:
        more = dict(api_base=base, api_key="none", messages=ASK, max_tokens=30, temperature=0)
        check(f"litellm {model}", litellm.completion(model=model, **more).choices[0].message.content == text)


def batches_of_openai():
    c = openai.OpenAI(base_url=BASE + "/v1", api_key="none", max_retries=0)
    args = dict(model="pebble", messages=ASK, max_tokens=20, temperature=0)
    lines = [{"custom_id": f"r{i}", "method": "POST", "url": "/v1/chat/completions", "body": {**args, "seed": i}}
             for i in range(5)] + [{"custom_id": "none", "method": "POST", "url": "/v1/chat/completions", "body": {}}]
    content = "\n".join(map(json.dumps, lines)).encode()
    try:
        file = c.files.create(file=("in.jsonl", content), purpose="batch")
    except openai.NotFoundError:
        return without("openai batches", "there is no such path")
    check("openai files create", (file.bytes, file.filename, file.purpose) == (len(content), "in.jsonl", "batch"))
    check("openai files content", c.files.content(file.id).read() == content)
    check("openai files list", file.id in [f.id for f in c.files.list(purpose="batch", limit=1)])
    ask = dict(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    batch = c.batches.create(**ask, metadata={"a": "b"})
    for _ in range(600):
        batch = c.batches.retrieve(batch.id)
        if batch.completed_at:
            break
        time.sleep(0.1)
    n = batch.request_counts
    check("openai batches", (batch.status, n.total, n.completed, n.failed) == ("completed", 6, 5, 1))
    got = [json.loads(line) for line in c.files.content(batch.output_file_id).text.splitlines()]
    want = c.chat.completions.create(**args, seed=0).choices[0].message.content
    check("openai batches output", {x["custom_id"] for x in got} == {f"r{i}" for i in range(5)}
          and {x["response"]["body"]["choices"][0]["message"]["content"] for x in got} == {want})
    wrong = json.loads(c.files.content(batch.error_file_id).text)
    check("openai batches errors", (wrong["custom_id"], wrong["response"]["status_code"]) == ("none", 400))
    check("openai batches list", batch.id in [b.id for b in c.batches.list(limit=1)])
    try:
        c.batches.cancel(batch.id)
        check("openai batches cancel", False)
    except openai.ConflictError:
        check("openai batches cancel", True)
    check("openai files delete", c.files.delete(file.id).deleted)


said = of_openai()
of_anthropic(said)
of_ollama(said)
of_litellm(said)
tools_of_openai()
responses_of_openai()
batches_of_openai()
tools_of_anthropic()
tools_of_ollama()
tools_of_litellm()
print(f"{passed} passed, 0 failed, {skipped} skipped")
