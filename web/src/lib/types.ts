/** What the page keeps: conversations, their turns, the answers of each model. */

/** A token as it was chosen, with the likeliest others. */
export interface Token {
  /** Its text; a part of a character shows as its bytes. */
  t: string;
  /** Its log probability. */
  p: number;
  /** The likeliest tokens at that place with their log probabilities. */
  a: [string, number][];
  /** Bytes, where the text alone does not give them back. */
  b?: number[];
  /** Whether it belongs to a thought. */
  th?: boolean;
}

/** Tokens of a request, as the server counts them. */
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details?: { cached_tokens?: number };
}

/** What went wrong, as the server words it. */
export interface Problem {
  message: string;
  status: number;
  code?: string;
  param?: string;
  /** Seconds after which the server says that another try makes sense. */
  after?: number;
}

export type Status = 'waiting' | 'streaming' | 'done' | 'stopped' | 'error';

/** One answer of one model. */
export interface Answer {
  id: string;
  text: string;
  thoughts: string;
  status: Status;
  /** `stop` or `length`. */
  finish?: string;
  tokens?: Token[];
  problem?: Problem;
  usage?: Usage;
  /** Milliseconds to the first token, and to the last. */
  first?: number;
  time?: number;
}

/** The answers of one model to one message; a new try is put beside the earlier ones. */
export interface Slot {
  model: string;
  tries: Answer[];
  shown: number;
}

/** A message and what came back. */
export interface Turn {
  id: string;
  user: string;
  slots: Slot[];
}

/** Values of sampling; what is absent is the model's own. */
export interface Sampling {
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  seed?: number;
  max_tokens?: number;
  stop?: string[];
  reasoning_effort?: string;
}

export interface Conversation {
  id: string;
  title: string;
  /** Whether a person gave the title. */
  named?: boolean;
  created: number;
  updated: number;
  models: string[];
  system: string;
  sampling: Sampling;
  turns: Turn[];
}

/** The answer that a slot shows. */
export const shown = (slot: Slot): Answer | undefined => slot.tries[slot.shown];

/** Whether an answer is still being written. */
export const busy = (answer: Answer | undefined): boolean =>
  answer?.status === 'waiting' || answer?.status === 'streaming';
