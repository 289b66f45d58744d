/** The system prompt and the values of sampling of a conversation. */
import { useSignal } from '@preact/signals';
import { change, lastUsed } from '../lib/state';
import type { Conversation, Sampling } from '../lib/types';
import { settingsOpen } from '../lib/view';
import { IconButton } from '../ui';

type Numeric = 'temperature' | 'top_p' | 'top_k' | 'min_p' | 'seed' | 'max_tokens';

const FIELDS: { name: Numeric; label: string; hint: string; min?: number; max?: number; step: number }[] = [
  { name: 'temperature', label: 'Temperature', hint: '0 takes the likeliest token', min: 0, max: 2, step: 0.1 },
  { name: 'top_p', label: 'Top p', hint: 'likeliest tokens up to this sum', min: 0, max: 1, step: 0.05 },
  { name: 'top_k', label: 'Top k', hint: 'this many of the likeliest', min: 0, step: 1 },
  { name: 'min_p', label: 'Min p', hint: 'at least this part of the likeliest', min: 0, max: 1, step: 0.01 },
  { name: 'seed', label: 'Seed', hint: 'the same answer each time', step: 1 },
  { name: 'max_tokens', label: 'Max tokens', hint: 'of an answer', min: 1, step: 1 },
];

const EFFORTS = ['none', 'minimal', 'low', 'medium', 'high', 'xhigh'];

export function Settings({ c }: { c: Conversation }) {
  const set = (patch: Partial<Sampling>) => {
    change(c.id, (c) => ({ ...c, sampling: { ...c.sampling, ...patch } }));
    lastUsed(c.id);
  };
  const any = Object.values(c.sampling).some((v) => v !== undefined && !(Array.isArray(v) && !v.length));
  return (
    <aside class="settings" aria-label="Settings of this conversation">
      <header>
        <h2>Settings</h2>
        <IconButton icon="close" label="Close settings" onClick={() => (settingsOpen.value = false)} />
      </header>
      <label class="stacked">
        <span>System prompt</span>
        <textarea
          rows={5}
          placeholder="What the model should keep to"
          value={c.system}
          onInput={(e) => {
            const { value } = e.currentTarget;
            change(c.id, (c) => ({ ...c, system: value }));
            lastUsed(c.id);
          }}
        />
      </label>
      <div class="heading">
        <h3>Sampling</h3>
        <button
          type="button"
          class="quiet small"
          disabled={!any}
          onClick={() => {
            change(c.id, (c) => ({ ...c, sampling: {} }));
            lastUsed(c.id);
          }}
        >
          Reset
        </button>
      </div>
      <p class="soft small">An empty field leaves the value to the model.</p>
      <div class="fields">
        {FIELDS.map((field) => (
          <NumberField key={`${c.id}${field.name}`} {...field} value={c.sampling[field.name]} set={set} />
        ))}
      </div>
      <label class="stacked">
        <span>
          Stop <em>one per line; \n is a line break</em>
        </span>
        <Stops key={c.id} value={c.sampling.stop} set={set} />
      </label>
      <label class="stacked">
        <span>
          Thinking <em>for models that can</em>
        </span>
        <select
          value={c.sampling.reasoning_effort ?? ''}
          onChange={(e) => set({ reasoning_effort: e.currentTarget.value || undefined })}
        >
          <option value="">As the model does</option>
          {EFFORTS.map((effort) => (
            <option key={effort}>{effort}</option>
          ))}
        </select>
      </label>
    </aside>
  );
}

type NumberProps = (typeof FIELDS)[0] & { value?: number; set: (patch: Partial<Sampling>) => void };

function NumberField({ name, label, hint, min, max, step, value, set }: NumberProps) {
  return (
    <label class="stacked">
      <span>
        {label} <em>{hint}</em>
      </span>
      <input
        type="number"
        inputMode="decimal"
        // Any value may be typed: what is wrong with one is the server's to say.
        step="any"
        placeholder="default"
        value={value ?? ''}
        onInput={(e) => {
          const { value, valueAsNumber } = e.currentTarget;
          if (value === '' || Number.isFinite(valueAsNumber)) {
            set({ [name]: value === '' ? undefined : valueAsNumber });
          }
        }}
        onKeyDown={(e) => {
          const way = { ArrowUp: 1, ArrowDown: -1 }[e.key];
          if (!way) return;
          // `step="any"` would go by one.
          e.preventDefault();
          const to = Math.round(((value ?? (way > 0 ? (min ?? 0) - step : (max ?? min ?? 0) + step)) + way * step) / step);
          set({ [name]: Math.min(max ?? Infinity, Math.max(min ?? -Infinity, Number((to * step).toFixed(4)))) });
        }}
      />
    </label>
  );
}

function Stops({ value, set }: { value?: string[]; set: (patch: Partial<Sampling>) => void }) {
  const text = useSignal((value ?? []).map((s) => s.replace(/\n/g, '\\n')).join('\n'));
  return (
    <textarea
      rows={2}
      value={text}
      onInput={(e) => {
        text.value = e.currentTarget.value;
        const stop = text.value
          .split('\n')
          .filter(Boolean)
          .map((line) => line.replace(/\\n/g, '\n'));
        set({ stop: stop.length ? stop : undefined });
      }}
    />
  );
}
