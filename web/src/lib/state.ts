/** What the page shows: where it is, which conversations there are, what the server serves. */
import { batch, computed, effect, signal, type Signal } from '@preact/signals';
import * as api from './api';
import * as db from './db';
import { lastModels, lastSampling, lastSystem } from './prefs';
import { busy, type Answer, type Conversation, type Problem } from './types';

/** Models in columns beside one another. */
export const COLUMNS_MAX = 4;

export interface Listed {
  id: string;
  max_model_len?: number;
}

export const models = signal<Listed[]>([]);
export const modelsProblem = signal<Problem | null>(null);
export const modelsLoaded = signal(false);
/** What keeps the server from answering; none while it is ready. */
export const serverProblem = signal<Problem | null>(null);
/** Whether the browser lets the page keep anything. */
export const keeping = signal(true);
export const conversations = signal<Conversation[]>([]);
export const loaded = signal(false);
/** Words for those who do not see the page. */
export const said = signal('');

export const id = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(10)), (b) => b.toString(16).padStart(2, '0')).join('');

// ---- where the page is

export type Place = { page: 'chat'; id?: string } | { page: 'models'; name?: string } | { page: 'load' };

function place(): Place {
  const [page, rest] = location.hash.replace(/^#\/?/, '').split(/\/(.*)/s, 2);
  if (page === 'models') return { page, name: rest ? decodeURIComponent(rest) : undefined };
  if (page === 'load') return { page };
  return page === 'c' && rest ? { page: 'chat', id: rest } : { page: 'chat' };
}

export const at = signal<Place>(place());
addEventListener('hashchange', () => (at.value = place()));

export function go(hash: string): void {
  location.hash = hash;
  at.value = place();
}

// ---- conversations

function fresh(): Conversation {
  const now = Date.now();
  return {
    id: id(),
    title: 'New conversation',
    created: now,
    updated: now,
    models: lastModels.peek(),
    system: lastSystem.peek(),
    sampling: lastSampling.peek(),
    turns: [],
  };
}

/** The conversation that has no message yet, and so is not in the list. */
export const draft = signal(fresh());

export const current = computed<Conversation>(() => {
  const { value } = at;
  const found = value.page === 'chat' && value.id && conversations.value.find((c) => c.id === value.id);
  return found || draft.value;
});

/** Those of a conversation's models that are served; the first of all where there are none. */
export function served(c: Conversation): string[] {
  const known = c.models.filter((name) => models.value.some((m) => m.id === name));
  const first = models.value[0];
  return known.length || !first ? known : [first.id];
}

/** Answers that are being written, apart from their conversations: a token must not redraw the page. */
export const live = new Map<string, Signal<Answer>>();

function settled(c: Conversation): Conversation {
  const slot = (s: Conversation['turns'][0]['slots'][0]) => ({
    ...s,
    tries: s.tries.map((a) => live.get(a.id)?.peek() ?? a),
  });
  return { ...c, turns: c.turns.map((t) => ({ ...t, slots: t.slots.map(slot) })) };
}

const waiting = new Map<string, number>();

function save(id: string): void {
  if (waiting.has(id)) return;
  waiting.set(id, window.setTimeout(() => void write(id), 400));
}

async function write(id: string): Promise<void> {
  window.clearTimeout(waiting.get(id));
  waiting.delete(id);
  const c = conversations.peek().find((c) => c.id === id);
  if (!c) return;
  try {
    await db.put(settled(c));
  } catch {
    keeping.value = false;
  }
}

addEventListener('pagehide', () => waiting.forEach((_, id) => void write(id)));
document.addEventListener('visibilitychange', () => {
  if (document.hidden) waiting.forEach((_, id) => void write(id));
});

/** Keeps what has come of a conversation's answers so far. */
export const touch = save;

export function find(id: string): Conversation | undefined {
  return conversations.peek().find((c) => c.id === id) ?? (draft.peek().id === id ? draft.peek() : undefined);
}

export function change(id: string, f: (c: Conversation) => Conversation): void {
  if (draft.peek().id === id) {
    draft.value = f(draft.peek());
    return;
  }
  conversations.value = conversations.peek().map((c) => (c.id === id ? f(c) : c));
  save(id);
}

/** Puts the draft into the list; the next one begins with what this one had. */
export function begin(c: Conversation): void {
  batch(() => {
    conversations.value = [c, ...conversations.peek()];
    lastUsed(c.id);
    draft.value = fresh();
    go(`#/c/${c.id}`);
  });
  save(c.id);
}

/** Lets the next new conversation begin with the settings of this one. */
export function lastUsed(id: string): void {
  const c = find(id);
  if (!c) return;
  batch(() => {
    lastModels.value = c.models;
    lastSystem.value = c.system;
    lastSampling.value = c.sampling;
  });
}

export function forget(id: string): void {
  conversations.value = conversations.peek().filter((c) => c.id !== id);
  window.clearTimeout(waiting.get(id));
  waiting.delete(id);
  db.remove(id).catch(() => (keeping.value = false));
  const place = at.peek();
  if (place.page === 'chat' && place.id === id) go('#/');
}

export function startNew(): void {
  const c = draft.peek();
  // Settings of the conversation one comes from carry over; that is what people expect of "new".
  const from = current.peek();
  draft.value = { ...fresh(), models: from.models, system: from.system, sampling: from.sampling, id: c.id };
  go('#/');
}

async function load(): Promise<void> {
  try {
    const kept = await db.all();
    const cut = (a: Answer): Answer => (busy(a) ? { ...a, status: 'stopped' } : a);
    conversations.value = kept
      .map((c) => ({
        ...c,
        turns: c.turns.map((t) => ({ ...t, slots: t.slots.map((s) => ({ ...s, tries: s.tries.map(cut) })) })),
      }))
      .sort((a, b) => b.updated - a.updated);
  } catch {
    keeping.value = false;
  }
  loaded.value = true;
}

// ---- the server

export async function loadModels(): Promise<void> {
  try {
    models.value = (await api.json<{ data: Listed[] }>('v1/models')).data;
    modelsProblem.value = null;
    modelsLoaded.value = true;
  } catch (e) {
    modelsProblem.value = (e as api.ApiError).problem ?? { message: String(e), status: 0 };
  }
}

async function look(): Promise<void> {
  try {
    await api.ask('ready');
    const back = serverProblem.peek() !== null;
    serverProblem.value = null;
    // A server that was away may have come back with other models. Whoever would not give a key is not asked again.
    if ((back || !modelsLoaded.peek()) && modelsProblem.peek()?.status !== 401) await loadModels();
  } catch (e) {
    serverProblem.value = (e as api.ApiError).problem ?? null;
  }
}

/** Begins: reads what was kept, asks the server, and looks now and then whether it is still there. */
export function start(): void {
  void load();
  void loadModels();
  void look();
  setInterval(() => document.hidden || void look(), 10_000);
  effect(() => {
    const { value } = at;
    const c = current.value;
    const names = { models: 'Models', load: 'Load', chat: c.turns.length ? c.title : '' };
    document.title = names[value.page] ? `${names[value.page]} · pondera` : 'pondera';
  });
}
