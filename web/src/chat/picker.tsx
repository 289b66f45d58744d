/** Which models answer; several answer side by side. */
import { change, COLUMNS_MAX, lastUsed, models, served } from '../lib/state';
import { whole } from '../lib/format';
import type { Conversation } from '../lib/types';
import { pickerOpen } from '../lib/view';
import { Icon, useOutside } from '../ui';

export function Picker({ c }: { c: Conversation }) {
  const box = useOutside(pickerOpen.value, () => (pickerOpen.value = false));
  const chosen = served(c);
  const choose = (list: string[]) => {
    change(c.id, (c) => ({ ...c, models: list }));
    lastUsed(c.id);
  };
  const toggle = (name: string) => {
    const list = chosen.includes(name) ? chosen.filter((n) => n !== name) : [...chosen, name];
    // In the server's order, so that columns do not move about.
    if (list.length) choose(models.value.map((m) => m.id).filter((n) => list.includes(n)));
  };
  return (
    <div class="picker" ref={box}>
      <button
        type="button"
        class="picker-button"
        aria-expanded={pickerOpen.value}
        aria-label={`Model: ${chosen.join(', ') || 'none'}`}
        onClick={() => (pickerOpen.value = !pickerOpen.value)}
      >
        <span>{chosen.join(' · ') || 'No model'}</span>
        <Icon name="down" />
      </button>
      {pickerOpen.value && (
        <div class="menu-list models" role="group" aria-label="Models">
          {models.value.map((m) => (
            <div key={m.id} class="model-row">
              <button
                type="button"
                aria-pressed={chosen.length === 1 && chosen[0] === m.id}
                onClick={() => {
                  choose([m.id]);
                  pickerOpen.value = false;
                }}
              >
                <span class="title">{m.id}</span>
                {m.max_model_len && <span class="soft small">context {whole(m.max_model_len)}</span>}
              </button>
              {models.value.length > 1 && (
                <label title="Show side by side">
                  <input
                    type="checkbox"
                    aria-label={`${m.id} side by side`}
                    checked={chosen.includes(m.id)}
                    disabled={
                      chosen.includes(m.id) ? chosen.length === 1 : chosen.length >= COLUMNS_MAX
                    }
                    onChange={() => toggle(m.id)}
                  />
                </label>
              )}
            </div>
          ))}
          <p class="soft small">
            {models.value.length > 1
              ? 'Tick several to compare them side by side.'
              : 'This server serves one model. Start it with several to compare them.'}
          </p>
        </div>
      )}
    </div>
  );
}
