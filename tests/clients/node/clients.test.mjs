// The official Node clients of the three APIs, newest releases, against a server of the built-in model.
//
//     cargo xtask clients                                       # installs them, builds and starts the server, runs this
//     npm ci && PONDERA_URL=http://127.0.0.1:8080 node --test   # by hand, against any server; PONDERA_MODEL names the model
//
// PONDERA is the program; where it is given, servers of its own show what keys and bounds do. What a server has not (tools,
// /v1/responses) is skipped, and said so. Not part of the test run: it needs a package index.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { Ollama } from "ollama";
import OpenAI from "openai";

const BASE = process.env.PONDERA_URL ?? "http://127.0.0.1:8080";
const PROGRAM = process.env.PONDERA;
const MODEL = process.env.PONDERA_MODEL ?? "pebble";
const ASK = [{ role: "user", content: "Tell me a story about a fox" }];
const SCHEMA = {
  type: "object", properties: { animal: { enum: ["fox", "bear"] } }, required: ["animal"], additionalProperties: false,
};
const PLACE = { type: "object", properties: { place: { enum: ["Rome", "Oslo"] } }, required: ["place"], additionalProperties: false };
const WEATHER = [{ role: "user", content: "What is the weather in Rome and in Oslo? Ask for both." }];
const NAMES = ["get_weather", "get_time"];
const OPENAI_TOOLS = NAMES.map((name) => ({ type: "function", function: { name, description: "Of a place", parameters: PLACE } }));
const RESPONSES_TOOLS = NAMES.map((name) => ({ type: "function", name, description: "Of a place", parameters: PLACE, strict: true }));
const ANTHROPIC_TOOLS = NAMES.map((name) => ({ name, description: "Of a place", input_schema: PLACE }));

const openai = new OpenAI({ baseURL: `${BASE}/v1`, apiKey: "none", maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: BASE, apiKey: "none", maxRetries: 0 });
const ollama = new Ollama({ host: BASE });

const chat = (more = {}, how = {}) =>
  openai.chat.completions.create({ model: MODEL, messages: ASK, max_tokens: 30, temperature: 0, ...more }, how);
const messages = (more = {}, how = {}) =>
  anthropic.messages.create({ model: MODEL, messages: ASK, max_tokens: 30, temperature: 0, ...more }, how);
const asked = (more = {}) => ({ model: MODEL, messages: ASK, options: { temperature: 0, num_predict: 30 }, ...more });
const respond = (more = {}, how = {}) =>
  openai.responses.create({ model: MODEL, input: ASK[0].content, max_output_tokens: 30, temperature: 0, ...more }, how);

const all = async (stream) => {
  const list = [];
  for await (const part of stream) list.push(part);
  return list;
};

/** What must fail, and as what. */
async function fails(promise, kind, status) {
  const error = await promise.then(() => assert.fail("no error"), (e) => e);
  assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
  assert.equal(error.status ?? error.status_code, status, error.message);
  return error;
}

/** Skips where the server refuses `tools` by name, as one without them does, or has no such path. */
async function unless(t, promise, refused) {
  try {
    return await promise;
  } catch (e) {
    if (!refused(e)) throw e;
    t.skip(`the server has it not: ${e.message}`);
    return null;
  }
}
const noTools = (e) => (e.status ?? e.status_code) === 400 && /\btools\b.*not supported/.test(e.message);
const noResponses = (e) => e.status === 404 && e.code === "not_found";

/** Calls of tools as OpenAI's shape has them. */
function wellFormed(calls) {
  assert.ok(calls.length >= 1);
  for (const call of calls) {
    assert.equal(call.type, "function");
    assert.equal(typeof call.function.arguments, "string");
    assert.ok(NAMES.includes(call.function.name));
    assert.ok(["Rome", "Oslo"].includes(JSON.parse(call.function.arguments).place));
    assert.ok(call.id.length > 0);
  }
  assert.equal(new Set(calls.map((c) => c.id)).size, calls.length, "ids are distinct");
}

/** The parts of calls put together as clients do, by index. */
function joined(chunks) {
  const calls = [];
  for (const part of chunks.flatMap((c) => c.choices[0]?.delta.tool_calls ?? [])) {
    assert.equal(typeof part.index, "number");
    if (!calls[part.index]) {
      assert.ok(part.id && part.function.name, "the first part of a call has its id and name");
      calls[part.index] = { id: part.id, type: part.type, function: { name: part.function.name, arguments: "" } };
    } else {
      assert.ok(part.id === undefined || part.id === null || part.id === calls[part.index].id, "an id stays");
    }
    calls[part.index].function.arguments += part.function.arguments ?? "";
  }
  assert.equal(calls.length, Object.keys(calls).length, "no index is left out");
  return calls;
}

/** A server of its own, with these flags. */
async function server(...flags) {
  const child = spawn(PROGRAM, ["serve", "--port", "0", "--json", "-q", ...flags], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: child.stdout })) return { url: JSON.parse(line).listening, stop: () => child.kill() };
  throw new Error("the server said nothing");
}

describe("openai", () => {
  test("models", async () => {
    assert.ok((await all(await openai.models.list())).some((m) => m.id === MODEL));
    assert.equal((await openai.models.retrieve(MODEL)).id, MODEL);
  });

  test("chat", async () => {
    const { choices: [one], usage } = await chat();
    assert.equal(one.message.role, "assistant");
    assert.ok(one.message.content.length > 20);
    assert.equal(one.finish_reason, "length");
    assert.equal(usage.completion_tokens, 30);
    assert.equal(usage.total_tokens, usage.prompt_tokens + 30);
  });

  test("stream", async () => {
    const text = (await chat()).choices[0].message.content;
    const chunks = await all(await chat({ stream: true, stream_options: { include_usage: true } }));
    assert.equal(chunks.map((c) => c.choices[0]?.delta.content ?? "").join(""), text);
    assert.equal(chunks.at(-1).usage.completion_tokens, 30);
    assert.equal(new Set(chunks.map((c) => c.id)).size, 1);
    const helper = openai.chat.completions.stream({ model: MODEL, messages: ASK, max_tokens: 30, temperature: 0 });
    assert.equal(await helper.finalContent(), text);
  });

  test("schema", async () => {
    const response_format = { type: "json_schema", json_schema: { name: "a", strict: true, schema: SCHEMA } };
    const made = await chat({ max_tokens: 200, response_format });
    assert.ok(["fox", "bear"].includes(JSON.parse(made.choices[0].message.content).animal));
  });

  test("logprobs", async () => {
    const scored = (await chat({ logprobs: true, top_logprobs: 3 })).choices[0].logprobs.content;
    assert.equal(scored.length, 30);
    for (const token of scored) {
      assert.equal(token.top_logprobs.length, 3);
      assert.ok(token.logprob <= 0 && token.logprob <= token.top_logprobs[0].logprob);
    }
  });

  test("completions", async () => {
    const two = await openai.completions.create({ model: MODEL, prompt: "Once upon", max_tokens: 5, temperature: 0, n: 2, logprobs: 2 });
    assert.equal(two.choices[0].text, two.choices[1].text);
    assert.equal(two.choices[1].index, 1);
    assert.equal(two.choices[0].logprobs.tokens.length, 5);
  });

  test("embeddings", async () => {
    const { data, usage } = await openai.embeddings.create({ model: MODEL, input: ["a fox", "a bear"] });
    assert.equal(data.length, 2);
    assert.ok(Math.abs(data[0].embedding.reduce((sum, v) => sum + v * v, 0) - 1) < 1e-4);
    assert.ok(usage.prompt_tokens > 0);
    const float = await openai.embeddings.create({ model: MODEL, input: "a fox", encoding_format: "float" });
    // The client asks for base64 unless told otherwise, and unpacks it.
    assert.deepEqual(float.data[0].embedding.map(Math.fround), data[0].embedding.map(Math.fround));
  });

  test("errors", async () => {
    const wrong = await fails(chat({ temperature: 9 }), OpenAI.BadRequestError, 400);
    assert.equal(wrong.param, "temperature");
    assert.ok(wrong.requestID);
    const none = await fails(chat({ model: "none" }), OpenAI.NotFoundError, 404);
    assert.equal(none.code, "model_not_found");
    await fails(chat({ max_tokens: 1 << 30, messages: [{ role: "user", content: "fox ".repeat(100_000) }] }), OpenAI.BadRequestError, 400);
  });

  test("cancel", async () => {
    const text = (await chat()).choices[0].message.content;
    const stop = new AbortController();
    const stream = await chat({ stream: true, max_tokens: 400 }, { signal: stop.signal });
    let seen = 0;
    // The client ends the iteration without an error when its own signal fires.
    for await (const _ of stream) if (++seen === 3) stop.abort();
    assert.ok(seen < 400);
    await fails(chat({ max_tokens: 1500, ignore_eos: true }, { signal: AbortSignal.timeout(20) }), OpenAI.APIUserAbortError, undefined);
    assert.equal((await chat()).choices[0].message.content, text);
  });

  test("many at once", async () => {
    const texts = await Promise.all(Array.from({ length: 16 }, async () => (await chat()).choices[0].message.content));
    assert.equal(new Set(texts).size, 1);
  });

  test("tools: one", async (t) => {
    const answer = await unless(t, chat({ messages: WEATHER, tools: OPENAI_TOOLS, max_tokens: 200, parallel_tool_calls: false,
      tool_choice: { type: "function", function: { name: "get_time" } } }), noTools);
    if (!answer) return;
    const [choice] = answer.choices;
    wellFormed(choice.message.tool_calls);
    assert.deepEqual(choice.message.tool_calls.map((c) => c.function.name), ["get_time"]);
    assert.ok(!choice.message.content);
    // OpenAI itself says "stop" where a tool was named; servers and clients of it know both.
    assert.ok(["tool_calls", "stop"].includes(choice.finish_reason), choice.finish_reason);
  });

  test("tools: required, several", async (t) => {
    const more = { messages: WEATHER, tools: OPENAI_TOOLS, max_tokens: 300, tool_choice: "required" };
    const answer = await unless(t, chat(more), noTools);
    if (!answer) return;
    wellFormed(answer.choices[0].message.tool_calls);
    assert.equal(answer.choices[0].finish_reason, "tool_calls");
    const one = await chat({ ...more, parallel_tool_calls: false });
    assert.equal(one.choices[0].message.tool_calls.length, 1);
  });

  test("tools: streamed", async (t) => {
    const more = { messages: WEATHER, tools: OPENAI_TOOLS, max_tokens: 300, tool_choice: "required" };
    const whole = await unless(t, chat(more), noTools);
    if (!whole) return;
    const chunks = await all(await chat({ ...more, stream: true }));
    const calls = joined(chunks);
    wellFormed(calls);
    assert.deepEqual(calls.map((c) => c.function), whole.choices[0].message.tool_calls.map((c) => c.function));
    assert.equal(chunks.findLast((c) => c.choices[0]?.finish_reason).choices[0].finish_reason, "tool_calls");
  });

  test("tools: results, none", async (t) => {
    const call = (id, place) => ({ id, type: "function", function: { name: "get_weather", arguments: JSON.stringify({ place }) } });
    const talk = [...WEATHER, { role: "assistant", content: null, tool_calls: [call("call_a", "Rome"), call("call_b", "Oslo")] },
      { role: "tool", tool_call_id: "call_b", content: "cold" }, { role: "tool", tool_call_id: "call_a", content: "warm" }];
    const answer = await unless(t, chat({ messages: talk, tools: OPENAI_TOOLS, tool_choice: "none" }), noTools);
    if (!answer) return;
    assert.ok(answer.choices[0].message.content.length > 0 && !answer.choices[0].message.tool_calls?.length);
    assert.ok(["stop", "length"].includes(answer.choices[0].finish_reason));
  });

  test("tools: errors", async (t) => {
    if (!(await unless(t, chat({ tools: OPENAI_TOOLS, tool_choice: "none" }), noTools))) return;
    await fails(chat({ tools: OPENAI_TOOLS, tool_choice: { type: "function", function: { name: "nobody" } } }), OpenAI.BadRequestError, 400);
    await fails(chat({ tool_choice: "required" }), OpenAI.BadRequestError, 400);
  });
});

describe("openai responses", () => {
  test("create", async (t) => {
    const answer = await unless(t, respond(), noResponses);
    if (!answer) return;
    assert.ok(answer.id && answer.object === "response");
    assert.ok(answer.output_text.length > 20);
    assert.deepEqual([answer.status, answer.incomplete_details?.reason], ["incomplete", "max_output_tokens"]);
    assert.equal(answer.usage.output_tokens, 30);
  });

  test("stream", async (t) => {
    const whole = await unless(t, respond(), noResponses);
    if (!whole) return;
    const events = await all(await respond({ stream: true }));
    assert.equal(events[0].type, "response.created");
    assert.ok(["response.completed", "response.incomplete"].includes(events.at(-1).type), events.at(-1).type);
    assert.equal(events.filter((e) => e.type === "response.output_text.delta").map((e) => e.delta).join(""), whole.output_text);
    assert.deepEqual(events.map((e) => e.sequence_number), events.map((_, i) => i));
  });

  test("schema", async (t) => {
    const text = { format: { type: "json_schema", name: "a", strict: true, schema: SCHEMA } };
    const answer = await unless(t, respond({ text, max_output_tokens: 200 }), noResponses);
    if (answer) assert.ok(["fox", "bear"].includes(JSON.parse(answer.output_text).animal));
  });

  test("goes on from an earlier one", async (t) => {
    const first = await unless(t, respond({ store: true }), noResponses);
    if (!first) return;
    const next = await respond({ previous_response_id: first.id, input: "And then?" });
    assert.equal(next.previous_response_id, first.id);
    assert.ok(next.usage.input_tokens > first.usage.input_tokens);
    const lost = await respond({ previous_response_id: "resp_none" }).then(() => assert.fail("no error"), (e) => e);
    assert.ok([400, 404].includes(lost.status), lost.message);
  });

  test("tools", async (t) => {
    if (!(await unless(t, respond(), noResponses))) return;
    const more = { input: WEATHER[0].content, tools: RESPONSES_TOOLS, tool_choice: "required", max_output_tokens: 300 };
    const answer = await unless(t, respond(more), noTools);
    if (!answer) return;
    const calls = answer.output.filter((item) => item.type === "function_call");
    assert.ok(calls.length >= 1);
    for (const call of calls) {
      assert.ok(call.call_id && NAMES.includes(call.name) && typeof call.arguments === "string");
      assert.ok(["Rome", "Oslo"].includes(JSON.parse(call.arguments).place));
    }
    assert.equal(new Set(calls.map((c) => c.call_id)).size, calls.length);
    const input = [...WEATHER, ...calls, ...calls.map((c) => ({ type: "function_call_output", call_id: c.call_id, output: "warm" }))];
    assert.ok((await respond({ input, tools: RESPONSES_TOOLS, tool_choice: "none" })).output_text.length > 0);
  });

  test("tools: streamed", async (t) => {
    if (!(await unless(t, respond(), noResponses))) return;
    const more = { input: WEATHER[0].content, tools: RESPONSES_TOOLS, tool_choice: "required", max_output_tokens: 300, stream: true };
    const stream = await unless(t, respond(more), noTools);
    if (!stream) return;
    const events = await all(stream);
    const dones = events.filter((e) => e.type === "response.function_call_arguments.done");
    assert.ok(dones.length >= 1);
    for (const done of dones) {
      const deltas = events.filter((e) => e.type === "response.function_call_arguments.delta" && e.item_id === done.item_id);
      assert.equal(deltas.map((e) => e.delta).join(""), done.arguments);
    }
    assert.equal(new Set(dones.map((e) => e.output_index)).size, dones.length);
  });
});

describe("anthropic", () => {
  test("models", async () => assert.ok((await all(anthropic.models.list())).some((m) => m.id === MODEL)));

  test("messages", async () => {
    const text = (await chat()).choices[0].message.content;
    const whole = await messages();
    assert.equal(whole.content[0].text, text);
    assert.deepEqual([whole.role, whole.stop_reason, whole.usage.output_tokens], ["assistant", "max_tokens", 30]);
    const { input_tokens } = await anthropic.messages.countTokens({ model: MODEL, messages: ASK });
    assert.equal(input_tokens, whole.usage.input_tokens + (whole.usage.cache_read_input_tokens ?? 0));
  });

  test("stream", async () => {
    const text = (await messages()).content[0].text;
    const stream = anthropic.messages.stream({ model: MODEL, messages: ASK, max_tokens: 30, temperature: 0 });
    let seen = "";
    stream.on("text", (part) => (seen += part));
    const last = await stream.finalMessage();
    assert.equal(seen, text);
    assert.equal(last.content[0].text, text);
    assert.equal(last.usage.output_tokens, 30);
    const kinds = (await all(await messages({ stream: true }))).map((e) => e.type);
    assert.deepEqual([kinds[0], kinds.at(-1)], ["message_start", "message_stop"]);
  });

  test("schema", async () => {
    const made = await messages({ max_tokens: 200, output_config: { format: { type: "json_schema", schema: SCHEMA } } });
    assert.ok(["fox", "bear"].includes(JSON.parse(made.content[0].text).animal));
  });

  test("stop", async () => {
    const word = (await messages()).content[0].text.split(" ")[4];
    const cut = await messages({ stop_sequences: [word] });
    assert.deepEqual([cut.stop_reason, cut.stop_sequence], ["stop_sequence", word]);
  });

  test("errors", async () => {
    const none = await fails(messages({ model: "none" }), Anthropic.NotFoundError, 404);
    assert.equal(none.error.error.type, "not_found_error");
    const wrong = await fails(messages({ temperature: 9 }), Anthropic.BadRequestError, 400);
    assert.equal(wrong.error.error.type, "invalid_request_error");
  });

  test("cancel", async () => {
    const text = (await messages()).content[0].text;
    const stream = anthropic.messages.stream({ model: MODEL, messages: ASK, max_tokens: 400 });
    stream.once("text", () => stream.abort());
    await fails(stream.finalMessage(), Anthropic.APIUserAbortError, undefined);
    assert.equal((await messages()).content[0].text, text);
  });

  const wellFormedUses = (uses) => {
    assert.ok(uses.length >= 1);
    for (const use of uses) {
      assert.ok(use.id && NAMES.includes(use.name));
      assert.ok(["Rome", "Oslo"].includes(use.input.place));
    }
    assert.equal(new Set(uses.map((u) => u.id)).size, uses.length);
  };
  const usesOf = (message) => message.content.filter((b) => b.type === "tool_use");

  test("tools: one", async (t) => {
    const answer = await unless(t, messages({ messages: WEATHER, tools: ANTHROPIC_TOOLS, max_tokens: 200,
      tool_choice: { type: "tool", name: "get_time" } }), noTools);
    if (!answer) return;
    wellFormedUses(usesOf(answer));
    assert.ok(usesOf(answer).every((u) => u.name === "get_time"));
    assert.equal(answer.stop_reason, "tool_use");
  });

  test("tools: any, several", async (t) => {
    const more = { messages: WEATHER, tools: ANTHROPIC_TOOLS, max_tokens: 300 };
    const answer = await unless(t, messages({ ...more, tool_choice: { type: "any" } }), noTools);
    if (!answer) return;
    wellFormedUses(usesOf(answer));
    assert.equal(answer.stop_reason, "tool_use");
    const one = await messages({ ...more, tool_choice: { type: "any", disable_parallel_tool_use: true } });
    assert.equal(usesOf(one).length, 1);
  });

  test("tools: streamed", async (t) => {
    const more = { model: MODEL, messages: WEATHER, tools: ANTHROPIC_TOOLS, max_tokens: 300, temperature: 0, tool_choice: { type: "any" } };
    const whole = await unless(t, messages(more), noTools);
    if (!whole) return;
    const stream = anthropic.messages.stream(more);
    const parts = new Map();
    stream.on("streamEvent", (e) => {
      if (e.delta?.type === "input_json_delta") parts.set(e.index, (parts.get(e.index) ?? "") + e.delta.partial_json);
    });
    const last = await stream.finalMessage();
    wellFormedUses(usesOf(last));
    assert.equal(last.stop_reason, "tool_use");
    assert.deepEqual(usesOf(last).map((u) => u.input), usesOf(whole).map((u) => u.input));
    assert.deepEqual([...parts.values()].map((p) => JSON.parse(p)), usesOf(last).map((u) => u.input));
  });

  test("tools: results", async (t) => {
    const use = (id, place) => ({ type: "tool_use", id, name: "get_weather", input: { place } });
    const result = (id, content) => ({ type: "tool_result", tool_use_id: id, content });
    const talk = [...WEATHER, { role: "assistant", content: [use("toolu_a", "Rome"), use("toolu_b", "Oslo")] },
      { role: "user", content: [result("toolu_a", "warm"), result("toolu_b", [{ type: "text", text: "cold" }])] }];
    const answer = await unless(t, messages({ messages: talk, tools: ANTHROPIC_TOOLS, tool_choice: { type: "none" } }), noTools);
    if (answer) assert.ok(answer.content[0].text.length > 0 && usesOf(answer).length === 0);
  });
});

describe("ollama", () => {
  test("models", async () => {
    assert.ok((await ollama.list()).models.some((m) => m.model === MODEL));
    assert.ok((await ollama.ps()).models[0].context_length > 0);
    assert.ok((await ollama.show({ model: MODEL })).details.family);
    assert.ok((await ollama.version()).version);
  });

  test("chat", async () => {
    const answer = await ollama.chat(asked());
    assert.equal(answer.message.content, (await chat()).choices[0].message.content);
    assert.deepEqual([answer.done, answer.done_reason, answer.eval_count], [true, "length", 30]);
  });

  test("stream", async () => {
    const text = (await ollama.chat(asked())).message.content;
    const parts = await all(await ollama.chat(asked({ stream: true })));
    assert.equal(parts.map((p) => p.message.content).join(""), text);
    assert.equal(parts.at(-1).eval_count, 30);
  });

  test("schema", async () => {
    const made = await ollama.generate({ model: MODEL, prompt: "An animal", format: SCHEMA, options: { num_predict: 200 } });
    assert.ok(["fox", "bear"].includes(JSON.parse(made.response).animal));
  });

  test("logprobs", async (t) => {
    const answer = await unless(t, ollama.chat(asked({ logprobs: true, top_logprobs: 2 })), (e) => e.status_code === 400 && /logprobs/.test(e.message));
    if (answer) assert.ok(answer.logprobs.length === 30 && answer.logprobs.every((l) => l.logprob <= 0));
  });

  test("embeddings", async () => {
    const { embeddings } = await ollama.embed({ model: MODEL, input: ["a fox", "a bear"] });
    assert.equal(embeddings.length, 2);
    const [ours] = (await openai.embeddings.create({ model: MODEL, input: "a fox" })).data;
    assert.ok(embeddings[0].every((v, i) => Math.abs(v - ours.embedding[i]) < 1e-6));
  });

  test("errors", async () => {
    const error = await fails(ollama.chat(asked({ model: "none" })), Error, 404);
    assert.equal(error.name, "ResponseError");
    await fails(ollama.chat(asked({ options: { temperature: -9 } })), Error, 400);
  });

  test("cancel", async () => {
    const text = (await ollama.chat(asked())).message.content;
    const stream = await ollama.chat(asked({ stream: true, options: { num_predict: 400 } }));
    let seen = 0;
    await assert.rejects(async () => { for await (const _ of stream) if (++seen === 3) stream.abort(); }, { name: "AbortError" });
    assert.equal((await ollama.chat(asked())).message.content, text);
  });

  test("tools", async (t) => {
    // Ollama has no tool_choice: what must hold is the shape, whether or not the model calls.
    const more = { messages: WEATHER, tools: OPENAI_TOOLS, options: { temperature: 0, num_predict: 200 } };
    const answer = await unless(t, ollama.chat(asked(more)), noTools);
    if (!answer) return;
    for (const call of answer.message.tool_calls ?? []) assert.equal(typeof call.function.arguments, "object");
    const parts = await all(await ollama.chat(asked({ ...more, stream: true })));
    assert.deepEqual(parts.flatMap((p) => p.message.tool_calls ?? []).map((c) => c.function.arguments),
      (answer.message.tool_calls ?? []).map((c) => c.function.arguments));
    const talk = [...WEATHER, { role: "assistant", content: "", tool_calls: [{ function: { name: "get_weather", arguments: { place: "Rome" } } }] },
      { role: "tool", tool_name: "get_weather", content: "warm" }];
    assert.ok((await ollama.chat(asked({ ...more, messages: talk }))).done);
  });
});

describe("keys", { skip: !PROGRAM && "PONDERA is not set" }, () => {
  const secret = "a-secret-of-enough-bytes";
  let locked;
  before(async () => (locked = await server("--api-key", secret)));
  after(() => locked.stop());

  test("openai", async () => {
    const of = (apiKey) => new OpenAI({ baseURL: `${locked.url}/v1`, apiKey, maxRetries: 0 });
    assert.equal((await all(await of(secret).models.list())).length, 1);
    const error = await fails((async () => all(await of("wrong").models.list()))(), OpenAI.AuthenticationError, 401);
    assert.equal(error.code, "invalid_api_key");
  });

  test("anthropic", async () => {
    const of = (how) => new Anthropic({ baseURL: locked.url, maxRetries: 0, ...how }).messages.create({ model: "pebble", max_tokens: 3, messages: ASK });
    assert.equal((await of({ apiKey: secret })).role, "assistant");
    assert.equal((await of({ apiKey: null, authToken: secret })).role, "assistant");
    assert.equal((await fails(of({ apiKey: "wrong" }), Anthropic.AuthenticationError, 401)).error.error.type, "authentication_error");
  });

  test("ollama", async () => {
    const of = (key) => new Ollama({ host: locked.url, headers: { Authorization: `Bearer ${key}` } }).list();
    assert.equal((await of(secret)).models.length, 1);
    await fails(of("wrong"), Error, 401);
  });
});

describe("bounds", { skip: !PROGRAM && "PONDERA is not set" }, () => {
  let small;
  before(async () => (small = await server("--max-requests", "1")));
  after(() => small.stop());

  test("too many at once", async () => {
    const one = new OpenAI({ baseURL: `${small.url}/v1`, apiKey: "none", maxRetries: 0 });
    const two = new Anthropic({ baseURL: small.url, apiKey: "none", maxRetries: 0 });
    const args = { model: "pebble", messages: ASK, max_tokens: 400, ignore_eos: true };
    const stream = await one.chat.completions.create({ ...args, stream: true });
    const error = await fails(one.chat.completions.create(args), OpenAI.RateLimitError, 429);
    assert.ok(Number(error.headers.get("retry-after")) >= 1);
    await fails(two.messages.create({ model: "pebble", messages: ASK, max_tokens: 5 }), Anthropic.RateLimitError, 429);
    await fails(new Ollama({ host: small.url }).chat({ model: "pebble", messages: ASK }), Error, 429);
    stream.controller.abort();
    // With retries, as clients have them by default, the answer comes once the place is free.
    const patient = new OpenAI({ baseURL: `${small.url}/v1`, apiKey: "none", maxRetries: 5 });
    assert.ok((await patient.chat.completions.create({ ...args, max_tokens: 3 })).choices[0].message.content.length > 0);
  });
});
