/** How busy the server is: from its own endpoint, or reckoned from two looks at its metrics. */
import { ApiError, ask, json } from './api';

export interface ModelLoad {
  name: string;
  /** Requests that are worked on; with those that wait where the server does not tell them apart. */
  running: number;
  waiting: number | null;
  kv: { used_pages: number; total_pages: number; page_tokens: number } | null;
  prompt_tokens_per_second: number;
  generation_tokens_per_second: number;
  requests_total: number;
}

export interface Load {
  uptime_s: number | null;
  models: ModelLoad[];
}

type Samples = Map<string, Map<string, number>>;

/** Metrics by name, of each the models' values, summed over other labels. */
export function parse(text: string): Samples {
  const out: Samples = new Map();
  for (const line of text.split('\n')) {
    const found = /^([\w:]+)\{(.*)\} (\S+)$/.exec(line);
    const model = found && /model_name="((?:[^"\\]|\\.)*)"/.exec(found[2]!);
    if (!found || !model) continue;
    const name = model[1]!.replace(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c));
    const family = out.get(found[1]!) ?? new Map<string, number>();
    family.set(name, (family.get(name) ?? 0) + Number(found[3]));
    out.set(found[1]!, family);
  }
  return out;
}

let before: { time: number; samples: Samples } | undefined;
let absent = false;

export async function load(): Promise<Load> {
  if (!absent) {
    try {
      return await json<Load>('pondera/load');
    } catch (e) {
      if (!(e instanceof ApiError) || e.problem.status !== 404) throw e;
      absent = true;
    }
  }
  const samples = parse(await (await ask('metrics')).text());
  const now = { time: performance.now(), samples };
  const of = (name: string, model: string) => samples.get(name)?.get(model) ?? 0;
  const rate = (name: string, model: string) => {
    const earlier = before?.samples.get(name)?.get(model);
    if (!before || earlier === undefined) return 0;
    return Math.max(0, ((of(name, model) - earlier) * 1000) / (now.time - before.time));
  };
  const models = [...(samples.get('vllm:num_requests_running')?.keys() ?? [])].map((name) => ({
    name,
    running: of('vllm:num_requests_running', name),
    waiting: null,
    kv: null,
    prompt_tokens_per_second: rate('vllm:prompt_tokens_total', name),
    generation_tokens_per_second: rate('vllm:generation_tokens_total', name),
    requests_total: of('pondera:requests_total', name),
  }));
  before = now;
  return { uptime_s: null, models };
}
