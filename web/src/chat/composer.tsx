/** The field for the next message. */
import { useSignal } from '@preact/signals';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { whole } from '../lib/format';
import { answering, send, stop } from '../lib/run';
import { models, served } from '../lib/state';
import { shown, type Conversation } from '../lib/types';
import { drafts } from '../lib/view';
import { IconButton, Meter } from '../ui';

/** Where a touch keyboard has no other key for a new line, Enter is one. */
const touch = matchMedia('(pointer: coarse)');

export function Composer({ c }: { c: Conversation }) {
  const text = useSignal(drafts.get(c.id) ?? '');
  const ref = useRef<HTMLTextAreaElement>(null);
  const writing = answering(c);
  const ready = served(c).length > 0;

  useEffect(() => {
    text.value = drafts.get(c.id) ?? '';
    if (!touch.matches) ref.current?.focus();
  }, [c.id]);
  useLayoutEffect(() => {
    const field = ref.current;
    if (!field) return;
    field.style.height = 'auto';
    field.style.height = `${Math.min(field.scrollHeight, 240)}px`;
  }, [text.value]);

  const write = (value: string) => {
    text.value = value;
    drafts.set(c.id, value);
  };
  const submit = () => {
    if (!text.value.trim() || writing || !ready) return;
    const message = text.value.trim();
    write('');
    send(c.id, message);
  };
  const press = (e: KeyboardEvent) => {
    if (e.key === 'Enter' && !e.shiftKey && !e.isComposing && !touch.matches) {
      e.preventDefault();
      submit();
    }
  };
  return (
    <form
      class="composer"
      onSubmit={(e) => {
        e.preventDefault();
        submit();
      }}
    >
      <div class="field">
        <textarea
          ref={ref}
          id="message"
          rows={1}
          aria-label="Message"
          placeholder={ready ? `Message ${served(c).join(', ')}` : 'No model is there yet'}
          value={text}
          onInput={(e) => write(e.currentTarget.value)}
          onKeyDown={press}
        />
        {writing ? (
          <IconButton icon="stop" label="Stop (Esc)" class="send filled" onClick={() => stop(c.id)} />
        ) : (
          <IconButton
            icon="send"
            label="Send (Enter)"
            class="send"
            type="submit"
            disabled={!text.value.trim() || !ready}
          />
        )}
      </div>
      <ContextUse c={c} />
    </form>
  );
}

/** How full the contexts are after the last answers. */
function ContextUse({ c }: { c: Conversation }) {
  const uses = (c.turns.at(-1)?.slots ?? []).flatMap((slot) => {
    const used = shown(slot)?.usage?.total_tokens;
    const size = models.value.find((m) => m.id === slot.model)?.max_model_len;
    return used !== undefined && size ? [{ model: slot.model, used, size }] : [];
  });
  return (
    <div class="context" role="group" aria-label="Context in use">
      {uses.map(({ model, used, size }) => (
        <span key={model} class={used > size * 0.85 ? 'warn' : ''}>
          {uses.length > 1 && `${model} `}
          <Meter max={size} high={size * 0.85} value={used} label={`Context of ${model}`} />
          {whole(used)} of {whole(size)} tokens
        </span>
      ))}
    </div>
  );
}
