/** How busy the server is, second by second. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { ApiError, key } from '../lib/api';
import { duration, rate, whole } from '../lib/format';
import { load, type Load, type ModelLoad } from '../lib/load';
import type { Problem } from '../lib/types';
import { TopBar } from '../top';
import { ErrorNote, Meter } from '../ui';

/** Seconds between two looks, and looks that are drawn. */
const EVERY = 1000;
const KEPT = 120;

type Past = { prompt: number; generation: number };

export function LoadPage() {
  const now = useSignal<Load | null>(null);
  const problem = useSignal<Problem | null>(null);
  const past = useSignal<Record<string, Past[]>>({});
  useEffect(() => {
    let timer = 0;
    let here = true;
    const look = async () => {
      try {
        const seen = await load();
        if (!here) return;
        const all = { ...past.peek() };
        for (const m of seen.models) {
          const point = { prompt: m.prompt_tokens_per_second, generation: m.generation_tokens_per_second };
          all[m.name] = [...(all[m.name] ?? []), point].slice(-KEPT);
        }
        past.value = all;
        now.value = seen;
        problem.value = null;
      } catch (e) {
        problem.value = e instanceof ApiError ? e.problem : { message: String(e), status: 0 };
      }
      // Without a key there is nothing to see until one is given.
      const refused = [401, 403].includes(problem.peek()?.status ?? 0);
      if (here && !refused) timer = window.setTimeout(() => void look(), EVERY);
    };
    void look();
    return () => {
      here = false;
      clearTimeout(timer);
    };
  }, [key.value]);
  return (
    <>
      <TopBar>
        <h1>Load</h1>
        <span class="grow" />
        {now.value?.uptime_s != null && <span class="soft small">up {duration(now.value.uptime_s)}</span>}
      </TopBar>
      <div class="page">
        {problem.value && (
          <ErrorNote problem={problem.value}>
            {problem.value.status === 403 && <p class="soft">The load asks for a key of scope admin.</p>}
          </ErrorNote>
        )}
        {now.value?.models.map((m) => <ModelCard key={m.name} m={m} past={past.value[m.name] ?? []} />)}
      </div>
    </>
  );
}

function ModelCard({ m, past }: { m: ModelLoad; past: Past[] }) {
  const kv = m.kv && m.kv.total_pages > 0 ? m.kv : null;
  return (
    <section class="card load" aria-label={`Load of ${m.name}`}>
      <h2>{m.name}</h2>
      <div class="tiles">
        <Tile label={m.waiting === null ? 'Running or waiting' : 'Running'} value={whole(m.running)} />
        {m.waiting !== null && <Tile label="Waiting" value={whole(m.waiting)} />}
        <Tile label="Written, tokens/s" value={rate(m.generation_tokens_per_second)} />
        <Tile label="Read, tokens/s" value={rate(m.prompt_tokens_per_second)} />
        <Tile label="Requests taken" value={whole(m.requests_total)} />
      </div>
      <Chart past={past} />
      {kv && (
        <div class="kv">
          <span>KV cache</span>
          <Meter max={kv.total_pages} value={kv.used_pages} label="KV cache in use" />
          <span>
            {whole(kv.used_pages)} of {whole(kv.total_pages)} pages
            <span class="soft"> · {whole(kv.total_pages * kv.page_tokens)} tokens</span>
          </span>
        </div>
      )}
    </section>
  );
}

function Tile({ label, value }: { label: string; value: string }) {
  return (
    <div class="tile">
      <span class="tile-value">{value}</span>
      <span class="tile-label">{label}</span>
    </div>
  );
}

/** Tokens per second over the last two minutes; the newest at the right. */
function Chart({ past }: { past: Past[] }) {
  const most = Math.max(1, ...past.map((p) => Math.max(p.generation, p.prompt)));
  const x = (i: number) => KEPT - past.length + i;
  const y = (v: number) => 40 - (v / most) * 38;
  const line = (of: keyof Past) => past.map((p, i) => `${i ? 'L' : 'M'}${x(i)} ${y(p[of]).toFixed(2)}`).join('');
  const area = past.length ? `${line('generation')}L${x(past.length - 1)} 40L${x(0)} 40Z` : '';
  return (
    <figure class="chart">
      <svg viewBox={`0 0 ${KEPT - 1} 40`} preserveAspectRatio="none" role="img" aria-label="Tokens per second, last two minutes">
        <path class="chart-area" d={area} />
        <path class="chart-line" d={line('generation')} />
        <path class="chart-line second" d={line('prompt')} />
      </svg>
      <figcaption>
        <span class="key-written">written</span>
        <span class="key-read">read</span>
        <span class="grow" />
        <span>most {rate(most)} tokens/s · two minutes</span>
      </figcaption>
    </figure>
  );
}
