/** A message, which can be changed, and the answers to it side by side. */
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { edit } from '../lib/run';
import { editing } from '../lib/view';
import type { Conversation, Turn } from '../lib/types';
import { CopyButton, IconButton } from '../ui';
import { AnswerView } from './answer';

export function TurnView({ c, turn, last }: { c: Conversation; turn: Turn; last: boolean }) {
  return (
    <section class="turn">
      {editing.value === turn.id ? <Editor c={c} turn={turn} /> : <Said turn={turn} />}
      <div class={`answers cols-${turn.slots.length}`}>
        {turn.slots.map((slot) => (
          <AnswerView key={slot.model} c={c} turn={turn} slot={slot} last={last} />
        ))}
      </div>
    </section>
  );
}

function Said({ turn }: { turn: Turn }) {
  return (
    <div class="said" role="article" aria-label="Your message">
      <div class="said-text" dir="auto">{turn.user}</div>
      <div class="said-actions">
        <CopyButton text={turn.user} label="Copy message" />
        <IconButton icon="edit" label="Edit message" onClick={() => (editing.value = turn.id)} />
      </div>
    </div>
  );
}

function Editor({ c, turn }: { c: Conversation; turn: Turn }) {
  const text = useSignal(turn.user);
  const ref = useRef<HTMLTextAreaElement>(null);
  const follows = c.turns.length - 1 - c.turns.indexOf(turn);
  useEffect(() => {
    ref.current?.focus();
    ref.current?.setSelectionRange(text.peek().length, text.peek().length);
  }, []);
  const close = () => (editing.value = null);
  const send = () => {
    if (!text.value.trim()) return;
    close();
    edit(c.id, turn.id, text.value.trim());
  };
  const press = (e: KeyboardEvent) => {
    if (e.key === 'Escape') {
      e.stopPropagation();
      close();
    } else if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) {
      e.preventDefault();
      send();
    }
  };
  return (
    <div class="editor">
      <textarea
        ref={ref}
        aria-label="Edit your message"
        value={text}
        rows={3}
        onInput={(e) => (text.value = e.currentTarget.value)}
        onKeyDown={press}
      />
      <div class="editor-foot">
        <p class="soft small">
          {follows === 0
            ? 'Its answer will be replaced.'
            : `Its answer and ${follows === 1 ? 'the message' : `the ${follows} messages`} after it will be cut.`}
        </p>
        <button type="button" class="quiet" onClick={close}>
          Cancel
        </button>
        <button type="button" class="primary" disabled={!text.value.trim()} onClick={send}>
          Send
        </button>
      </div>
    </div>
  );
}
