/** What is known of a model: from the server's own endpoint, or what its older ones tell. */
import { ApiError, json } from './api';

export interface Facts {
  name: string;
  family: string | null;
  format: string | null;
  layers: number | null;
  hidden_size: number | null;
  heads: number | null;
  kv_heads: number | null;
  head_dim: number | null;
  vocab_size: number | null;
  experts: { total: number; active: number } | null;
  parameters: { total: number; active: number | null } | null;
  weights: { bytes: number; types: { type: string; bytes: number }[] } | null;
  kv: { bytes_per_token: number; type: string | null } | null;
  context: { served: number; trained: number | null } | null;
  license: string | null;
  template: boolean | null;
  encoder: boolean | null;
}

interface Shown {
  template?: string;
  capabilities?: string[];
  details?: { family?: string; format?: string; quantization_level?: string };
  model_info?: Record<string, unknown>;
}

const seen = new Map<string, Facts>();

export async function facts(name: string): Promise<Facts> {
  const known = seen.get(name);
  if (known) return known;
  let found: Facts;
  try {
    found = await json<Facts>(`pondera/model?name=${encodeURIComponent(name)}`);
  } catch (e) {
    if (!(e instanceof ApiError) || e.problem.status !== 404 || e.problem.code === 'model_not_found') throw e;
    found = await older(name);
  }
  seen.set(name, found);
  return found;
}

async function older(name: string): Promise<Facts> {
  const [shown, running] = await Promise.all([
    json<Shown>('api/show', { method: 'POST', body: JSON.stringify({ model: name }) }),
    json<{ models: { name: string; size: number }[] }>('api/ps'),
  ]);
  const info = shown.model_info ?? {};
  const number = (key: string) => (typeof info[key] === 'number' ? (info[key] as number) : null);
  const total = number('general.parameter_count');
  const served = number(`${shown.details?.family}.context_length`);
  const bytes = running.models.find((m) => m.name === name)?.size;
  const type = shown.details?.quantization_level;
  return {
    name,
    family: shown.details?.family || null,
    format: shown.details?.format || null,
    layers: null,
    hidden_size: null,
    heads: null,
    kv_heads: null,
    head_dim: null,
    vocab_size: null,
    experts: null,
    parameters: total === null ? null : { total, active: null },
    weights: bytes === undefined ? null : { bytes, types: type ? [{ type, bytes }] : [] },
    kv: null,
    context: served === null ? null : { served, trained: null },
    license: null,
    template: shown.template === undefined ? null : shown.template !== '',
    encoder: shown.capabilities ? shown.capabilities.includes('embedding') : null,
  };
}
