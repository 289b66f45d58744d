/** What the served models are: architecture, memory, licence. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import type { ComponentChildren } from 'preact';
import { ApiError } from '../lib/api';
import { facts, type Facts } from '../lib/facts';
import { bytes, count, whole } from '../lib/format';
import { at, change, current, go, models, modelsProblem, startNew } from '../lib/state';
import type { Problem } from '../lib/types';
import { TopBar } from '../top';
import { ErrorNote } from '../ui';

export function Models() {
  const { value } = at;
  const name = (value.page === 'models' && value.name) || models.value[0]?.id;
  return (
    <>
      <TopBar>
        <h1>Models</h1>
      </TopBar>
      <div class="page">
        {modelsProblem.value && <ErrorNote problem={modelsProblem.value} />}
        {models.value.length > 1 && (
          <nav class="tabs" aria-label="Served models">
            {models.value.map((m) => (
              <a
                key={m.id}
                href={`#/models/${encodeURIComponent(m.id)}`}
                aria-current={m.id === name ? 'page' : undefined}
              >
                {m.id}
              </a>
            ))}
          </nav>
        )}
        {name && <Model key={name} name={name} />}
      </div>
    </>
  );
}

function Model({ name }: { name: string }) {
  const known = useSignal<Facts | null>(null);
  const problem = useSignal<Problem | null>(null);
  useEffect(() => {
    facts(name)
      .then((f) => (known.value = f))
      .catch((e) => (problem.value = e instanceof ApiError ? e.problem : { message: String(e), status: 0 }));
  }, []);
  if (problem.value) return <ErrorNote problem={problem.value} />;
  const f = known.value;
  if (!f) return null;
  const ask = () => {
    startNew();
    change(current.peek().id, (c) => ({ ...c, models: [name] }));
    go('#/');
  };
  return (
    <article class="model">
      <header>
        <div>
          <h2>{name}</h2>
          <p class="soft">
            {[f.family, f.parameters && `${count(f.parameters.total)} parameters`, f.format].filter(Boolean).join(' · ')}
          </p>
        </div>
        {!f.encoder && f.template !== false && (
          <button type="button" class="primary" onClick={ask}>
            Start a conversation
          </button>
        )}
      </header>
      <Memory f={f} />
      <section class="card">
        <h3>Architecture</h3>
        <dl>
          <Fact name="Family" value={f.family} />
          <Fact name="Layers" value={f.layers} />
          <Fact name="Width" value={f.hidden_size} />
          <Fact
            name="Attention heads"
            value={f.heads && `${f.heads}${f.kv_heads && f.kv_heads !== f.heads ? `, ${f.kv_heads} for keys and values` : ''}`}
          />
          <Fact name="Width of a head" value={f.head_dim} />
          <Fact name="Experts" value={f.experts && `${f.experts.total}, ${f.experts.active} per token`} />
          <Fact name="Vocabulary" value={f.vocab_size && whole(f.vocab_size)} />
          <Fact name="Parameters" value={f.parameters && whole(f.parameters.total)} />
          <Fact name="of these per token" value={f.parameters?.active && whole(f.parameters.active)} />
        </dl>
      </section>
      <section class="card">
        <h3>Use</h3>
        <dl>
          <Fact name="Context served" value={f.context && `${whole(f.context.served)} tokens`} />
          <Fact name="Context trained for" value={f.context?.trained && `${whole(f.context.trained)} tokens`} />
          <Fact name="Conversations" value={f.template === null ? null : f.template ? 'has a chat template' : 'no chat template'} />
          <Fact name="Purpose" value={f.encoder === null ? null : f.encoder ? 'embeddings' : 'text'} />
          <Fact name="Licence" value={f.license ?? 'not stated in the model’s files'} />
        </dl>
      </section>
    </article>
  );
}

function Fact({ name, value }: { name: string; value: ComponentChildren }) {
  if (value === null || value === undefined || value === 0 || value === '') return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

/** Bytes of the weights and of a full context, to the same scale. */
function Memory({ f }: { f: Facts }) {
  if (!f.weights) return null;
  const kv = f.kv && f.context ? f.kv.bytes_per_token * f.context.served : null;
  const whole = f.weights.bytes + (kv ?? 0);
  return (
    <section class="card">
      <h3>Memory</h3>
      <svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" role="img" aria-label={`Weights ${bytes(f.weights.bytes)}${kv ? `, a full context ${bytes(kv)}` : ''}`}>
        <rect class="bar-back" width={100} height={4} />
        <rect class="bar-weights" width={(f.weights.bytes / whole) * 100} height={4} />
        {kv && <rect class="bar-kv" x={(f.weights.bytes / whole) * 100} width={(kv / whole) * 100} height={4} />}
      </svg>
      <dl>
        <div>
          <dt>
            <span class="swatch weights" aria-hidden="true" />
            Weights
          </dt>
          <dd>
            {bytes(f.weights.bytes)}
            {f.weights.types.length > 0 && (
              <span class="soft"> · {f.weights.types.map((t) => (f.weights!.types.length > 1 ? `${t.type} ${bytes(t.bytes)}` : t.type)).join(', ')}</span>
            )}
          </dd>
        </div>
        {f.kv && (
          <div>
            <dt>KV cache per token</dt>
            <dd>
              {bytes(f.kv.bytes_per_token)} <span class="soft">{f.kv.type && `· ${f.kv.type}`}</span>
            </dd>
          </div>
        )}
        {kv && (
          <div>
            <dt>
              <span class="swatch kv-swatch" aria-hidden="true" />A full context
            </dt>
            <dd>{bytes(kv)}</dd>
          </div>
        )}
      </dl>
    </section>
  );
}
