/** Requests to the server; errors keep its words. */
import { signal } from '@preact/signals';
import type { Problem, Token, Usage } from './types';

const KEY = 'pondera.key';

/** The key that is shown to the server; it lives as long as the tab. */
export const key = signal(stored());
/** Whether the server wants another key than this one. */
export const keyAsked = signal(false);

function stored(): string {
  try {
    return sessionStorage.getItem(KEY) ?? '';
  } catch {
    return '';
  }
}

export function setKey(value: string): void {
  key.value = value;
  try {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  } catch {
    // Without storage the key lives in the page alone.
  }
}

/** A refusal or failure. */
export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.message);
  }
}

interface Wire {
  message?: string;
  code?: string | null;
  param?: string | null;
}

function problem(body: unknown, status: number, after?: number): Problem {
  const error = (body as { error?: Wire | string } | null)?.error;
  const wire: Wire = typeof error === 'string' ? { message: error } : (error ?? {});
  return {
    message: wire.message ?? `The server answered with status ${status}.`,
    status,
    code: wire.code ?? undefined,
    param: wire.param ?? undefined,
    after,
  };
}

/** Asks; a status that is no success is thrown. */
export async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (key.value) headers.set('authorization', `Bearer ${key.value}`);
  if (init.body) headers.set('content-type', 'application/json');
  let response: Response;
  try {
    // Relative to the page, so that a prefix of a reverse proxy stays.
    response = await fetch(new URL(path, document.baseURI), { ...init, headers });
  } catch (e) {
    if ((e as Error).name === 'AbortError') throw e;
    throw new ApiError({ message: 'The server cannot be reached.', status: 0 });
  }
  if (response.ok) return response;
  if (response.status === 401) keyAsked.value = true;
  const text = await response.text();
  let body: unknown = null;
  try {
    body = JSON.parse(text);
  } catch {
    // A proxy in between may answer with something else; the status says enough.
  }
  const after = Number(response.headers.get('retry-after')) || undefined;
  throw new ApiError(problem(body, response.status, after));
}

export async function json<T>(path: string, init?: RequestInit): Promise<T> {
  return (await ask(path, init)).json() as Promise<T>;
}

/** What a stream brings. */
export type Piece =
  | { kind: 'text'; text: string; thought: string; tokens: Token[] }
  | { kind: 'finish'; reason: string }
  | { kind: 'usage'; usage: Usage };

interface WireToken {
  token: string;
  logprob: number;
  bytes: number[] | null;
  top_logprobs?: WireToken[];
}

interface Chunk {
  error?: Wire;
  usage?: Usage | null;
  choices?: {
    delta?: { content?: string | null; reasoning_content?: string | null };
    logprobs?: { content?: WireToken[] | null } | null;
    finish_reason?: string | null;
  }[];
}

function token(wire: WireToken, thought: boolean): Token {
  const out: Token = {
    t: wire.token,
    p: wire.logprob,
    a: (wire.top_logprobs ?? []).map((other) => [other.token, other.logprob]),
  };
  if (wire.bytes && wire.token.includes('\uFFFD')) out.b = wire.bytes;
  if (thought) out.th = true;
  return out;
}

/** The pieces of an answer as they come. */
export async function* chat(body: unknown, abort: AbortSignal): AsyncGenerator<Piece> {
  const response = await ask('v1/chat/completions', { method: 'POST', body: JSON.stringify(body), signal: abort });
  for await (const data of events(response)) {
    if (data === '[DONE]') return;
    const chunk = JSON.parse(data) as Chunk;
    if (chunk.error) throw new ApiError(problem(chunk, 200));
    if (chunk.usage) yield { kind: 'usage', usage: chunk.usage };
    const choice = chunk.choices?.[0];
    if (!choice) continue;
    const text = choice.delta?.content ?? '';
    const thought = choice.delta?.reasoning_content ?? '';
    const tokens = (choice.logprobs?.content ?? []).map((wire) => token(wire, thought !== '' && text === ''));
    if (text || thought || tokens.length) yield { kind: 'text', text, thought, tokens };
    if (choice.finish_reason) yield { kind: 'finish', reason: choice.finish_reason };
  }
  // The server says when it is done; a stream that just ends was cut.
  throw new ApiError({ message: 'The connection ended before the answer did.', status: 0 });
}

/** The data of server-sent events; comments keep the connection alive and say nothing. */
async function* events(response: Response): AsyncGenerator<string> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += value;
      const lines = rest.split('\n');
      rest = lines.pop()!;
      for (const line of lines) {
        if (line.startsWith('data:')) yield line.slice(5).trim();
      }
    }
  } catch (e) {
    if ((e as Error).name === 'AbortError') throw e;
    throw new ApiError({ message: 'The connection broke while the answer came.', status: 0 });
  } finally {
    reader.cancel().catch(() => {});
  }
}
