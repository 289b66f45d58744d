/** Sends messages and writes down what comes back. */
import { signal } from '@preact/signals';
import { ApiError, chat } from './api';
import { title } from './format';
import { probabilities } from './prefs';
import { begin, change, draft, find, id, live, said, served, touch } from './state';
import { busy, shown, type Answer, type Conversation, type Slot, type Turn } from './types';

const running = new Map<string, AbortController>();

const blank = (): Answer => ({ id: id(), text: '', thoughts: '', status: 'waiting' });

function slotAt(c: Conversation, turn: string, model: string, f: (s: Slot) => Slot): Conversation {
  const turns = c.turns.map((t) =>
    t.id === turn ? { ...t, slots: t.slots.map((s) => (s.model === model ? f(s) : s)) } : t,
  );
  return { ...c, turns };
}

/** Sends `text` as the next message of a conversation. */
export function send(conversation: string, text: string): void {
  const c = find(conversation);
  if (!c) return;
  const slots = served(c).map((model) => ({ model, tries: [blank()], shown: 0 }));
  const turn: Turn = { id: id(), user: text, slots };
  const add = (c: Conversation): Conversation => ({
    ...c,
    title: c.turns.length || c.named ? c.title : title(text),
    updated: Date.now(),
    turns: [...c.turns, turn],
  });
  if (draft.peek().id === conversation) begin(add({ ...c, models: served(c) }));
  else change(conversation, add);
  for (const slot of slots) void write(conversation, turn.id, slot.model, slot.tries[0]!.id);
}

/** Replaces a message; what followed it is cut. */
export function edit(conversation: string, turn: string, text: string): void {
  stop(conversation);
  change(conversation, (c) => ({ ...c, turns: c.turns.slice(0, c.turns.findIndex((t) => t.id === turn)) }));
  send(conversation, text);
}

/** Asks again. An answer that failed is replaced, another is kept beside the new one. */
export function again(conversation: string, turn: string, model: string): void {
  const answer = blank();
  change(conversation, (c) =>
    slotAt(c, turn, model, (s) => {
      const tries = [...s.tries.filter((a) => a.status !== 'error' || a.text), answer];
      return { ...s, tries, shown: tries.length - 1 };
    }),
  );
  void write(conversation, turn, model, answer.id);
}

/** Lets the model go on where its answer ended. */
export function goOn(conversation: string, turn: string, model: string, answer: Answer): void {
  const { finish: _, problem: __, ...rest } = answer;
  put(conversation, turn, model, { ...rest, status: 'streaming' });
  void write(conversation, turn, model, answer.id, true);
}

/** Shows another of the answers to the same message. */
export function show(conversation: string, turn: string, model: string, index: number): void {
  change(conversation, (c) => slotAt(c, turn, model, (s) => ({ ...s, shown: index })));
}

/** Stops one answer, or all of a conversation; what has come stays and is marked. */
export function stop(conversation: string, answer?: string): void {
  for (const t of find(conversation)?.turns ?? []) {
    for (const s of t.slots) for (const a of s.tries) if (!answer || a.id === answer) running.get(a.id)?.abort();
  }
}

/** Whether any answer of a conversation is being written. */
export const answering = (c: Conversation): boolean =>
  c.turns.some((t) => t.slots.some((s) => s.tries.some((a) => busy(a))));

/** Asks again for what was refused for want of a key. */
export function afterKey(c: Conversation): void {
  for (const s of c.turns.at(-1)?.slots ?? []) {
    if (shown(s)?.problem?.status === 401) again(c.id, c.turns.at(-1)!.id, s.model);
  }
}

function put(conversation: string, turn: string, model: string, answer: Answer): void {
  change(conversation, (c) =>
    slotAt(c, turn, model, (s) => ({ ...s, tries: s.tries.map((a) => (a.id === answer.id ? answer : a)) })),
  );
}

interface Message {
  role: string;
  content: string;
}

/**
 * What `model` is told before its answer in `turn`. Of an earlier turn it sees its own answer, or the first that there is:
 * so a conversation goes on when its model changes. A message that got no answer is left out, as templates want turns.
 */
function messages(c: Conversation, turn: string, model: string): Message[] {
  const out: Message[] = c.system.trim() ? [{ role: 'system', content: c.system }] : [];
  for (const t of c.turns) {
    if (t.id === turn) {
      out.push({ role: 'user', content: t.user });
      return out;
    }
    const answered = t.slots.filter((s) => shown(s)?.text);
    const slot = answered.find((s) => s.model === model) ?? answered[0];
    if (slot) out.push({ role: 'user', content: t.user }, { role: 'assistant', content: shown(slot)!.text });
  }
  return out;
}

function request(c: Conversation, turn: string, model: string, tail: string | null): Record<string, unknown> {
  const list = messages(c, turn, model);
  const body: Record<string, unknown> = { model, messages: list };
  // What is not set is not sent: then the model's own recommendation holds.
  for (const [name, value] of Object.entries(c.sampling)) {
    if (value !== undefined && !(Array.isArray(value) && !value.length)) body[name] = value;
  }
  if (tail !== null) {
    list.push({ role: 'assistant', content: tail });
    body.continue_final_message = true;
  }
  if (probabilities.peek()) Object.assign(body, { logprobs: true, top_logprobs: 5 });
  return { ...body, stream: true, stream_options: { include_usage: true } };
}

async function write(conversation: string, turn: string, model: string, answerId: string, goesOn = false) {
  const c = find(conversation);
  const slot = c?.turns.find((t) => t.id === turn)?.slots.find((s) => s.model === model);
  const before = slot?.tries.find((a) => a.id === answerId);
  if (!c || !before) return;
  const body = request(c, turn, model, goesOn ? before.text : null);
  const abort = new AbortController();
  running.set(answerId, abort);
  // Pieces gather here; the page sees them once a frame.
  let now: Answer = { ...before };
  const seen = signal(now);
  live.set(answerId, seen);
  let drawing = false;
  const draw = () => {
    if (drawing) return;
    drawing = true;
    const act = () => {
      drawing = false;
      if (live.get(answerId) !== seen) return;
      seen.value = now = { ...now, tokens: tokens?.slice() };
      touch(conversation);
    };
    // A page that nobody sees has no frames, but what comes is to be kept all the same.
    if (document.hidden) setTimeout(act, 500);
    else requestAnimationFrame(act);
  };
  const begun = performance.now();
  // Tokens that came before without probabilities leave those that follow without a place.
  let tokens = goesOn ? before.tokens?.slice() : undefined;
  const keep = !goesOn || tokens !== undefined;
  try {
    for await (const piece of chat(body, abort.signal)) {
      if (piece.kind === 'text') {
        now = { ...now, status: 'streaming', text: now.text + piece.text, thoughts: now.thoughts + piece.thought };
        now.first ??= performance.now() - begun;
        if (piece.tokens.length && keep) (tokens ??= []).push(...piece.tokens);
      } else if (piece.kind === 'finish') now.finish = piece.reason;
      else now.usage = piece.usage;
      draw();
    }
    now = { ...now, status: 'done' };
    said.value = `${model} has answered.`;
  } catch (e) {
    if (abort.signal.aborted) {
      now = { ...now, status: 'stopped' };
      said.value = `The answer of ${model} was stopped.`;
    } else {
      const problem = e instanceof ApiError ? e.problem : { message: (e as Error).message, status: 0 };
      now = { ...now, status: 'error', problem };
      said.value = `Error: ${problem.message}`;
    }
  }
  now = { ...now, tokens, time: performance.now() - begun };
  running.delete(answerId);
  live.delete(answerId);
  put(conversation, turn, model, now);
}
