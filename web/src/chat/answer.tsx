/** One model's answer: its thoughts folded, its text, what became of it, and what can be done with it. */
import { useSignal } from '@preact/signals';
import { rate, seconds, whole } from '../lib/format';
import { probabilities } from '../lib/prefs';
import { again, goOn, show, stop } from '../lib/run';
import { live, models, startNew } from '../lib/state';
import { busy, shown, type Answer, type Conversation, type Slot, type Turn } from '../lib/types';
import { CopyButton, ErrorNote, Icon, IconButton } from '../ui';
import { Markdown } from './markdown';
import { Tokens } from './tokens';

interface Props {
  c: Conversation;
  turn: Turn;
  slot: Slot;
  last: boolean;
}

export function AnswerView({ c, turn, slot, last }: Props) {
  const kept = shown(slot);
  if (!kept) return null;
  const answer = live.get(kept.id)?.value ?? kept;
  const writing = busy(answer);
  const tokens = probabilities.value && answer.tokens?.length ? answer.tokens : null;
  return (
    <article class="answer" aria-label={`Answer of ${slot.model}`} aria-busy={writing}>
      <header>
        <span class="model-name">{slot.model}</span>
        {writing && (
          <button type="button" class="quiet small" onClick={() => stop(c.id, answer.id)}>
            Stop
          </button>
        )}
      </header>
      {answer.thoughts && <Thoughts answer={answer} />}
      {answer.status === 'waiting' && (
        <p class="waiting">
          <span class="dot" aria-hidden="true" /> Waiting for {slot.model}
        </p>
      )}
      {tokens ? <Tokens tokens={tokens} label={`Tokens of ${slot.model}`} /> : <Markdown text={answer.text} />}
      {probabilities.value && !tokens && !writing && answer.text && (
        <p class="soft small">This answer came without probabilities. Ask again to see them.</p>
      )}
      <Outcome c={c} turn={turn} slot={slot} answer={answer} last={last} />
      {!writing && <Actions c={c} turn={turn} slot={slot} answer={answer} last={last} />}
    </article>
  );
}

function Thoughts({ answer }: { answer: Answer }) {
  const thinking = busy(answer) && !answer.text;
  const open = useSignal(false);
  return (
    <details class="thoughts" onToggle={(e) => (open.value = (e.target as HTMLDetailsElement).open)}>
      <summary>
        <Icon name="right" />
        {thinking ? 'Thinking…' : 'Thoughts'}
      </summary>
      {open.value && <Markdown text={answer.thoughts} />}
    </details>
  );
}

/** How an answer ended, where that is not simply the end. */
function Outcome({ c, turn, slot, answer, last }: Props & { answer: Answer }) {
  const { problem } = answer;
  const goes = last && answer.text && (
    <button type="button" class="quiet small" onClick={() => goOn(c.id, turn.id, slot.model, answer)}>
      <Icon name="play" /> Continue
    </button>
  );
  if (answer.status === 'error' && problem) {
    const full = problem.code === 'context_length_exceeded';
    return (
      <ErrorNote problem={problem}>
        {full && <p class="soft">Shorten your message with Edit, or start anew: nothing is cut in silence.</p>}
        {last && (
          <button type="button" class="quiet small" onClick={() => again(c.id, turn.id, slot.model)}>
            <Icon name="again" /> Retry
          </button>
        )}
        {full && (
          <button type="button" class="quiet small" onClick={startNew}>
            <Icon name="plus" /> New conversation
          </button>
        )}
      </ErrorNote>
    );
  }
  if (answer.status === 'stopped') {
    return (
      <p class="mark">
        <Icon name="stop" /> Stopped {answer.text ? 'before its end' : 'before it began'} {goes}
      </p>
    );
  }
  if (answer.finish === 'length') {
    const size = models.value.find((m) => m.id === slot.model)?.max_model_len;
    const full = size !== undefined && (answer.usage?.total_tokens ?? 0) >= size;
    return (
      <p class="mark">
        <Icon name="stop" />
        {full ? `The context of ${whole(size)} tokens is full` : 'Reached the limit of tokens'} {!full && goes}
      </p>
    );
  }
  return null;
}

function Actions({ c, turn, slot, answer, last }: Props & { answer: Answer }) {
  const { tries, shown: at, model } = slot;
  return (
    <footer class="actions">
      {tries.length > 1 && (
        <span class="tries">
          <IconButton
            icon="left"
            label="Earlier answer"
            disabled={at === 0}
            onClick={() => show(c.id, turn.id, model, at - 1)}
          />
          <span>
            {at + 1} of {tries.length}
          </span>
          <IconButton
            icon="right"
            label="Later answer"
            disabled={at === tries.length - 1}
            onClick={() => show(c.id, turn.id, model, at + 1)}
          />
        </span>
      )}
      {answer.text && <CopyButton text={answer.text} label="Copy answer" />}
      {last && answer.status !== 'error' && (
        <IconButton icon="again" label="Regenerate" onClick={() => again(c.id, turn.id, model)} />
      )}
      <Timing answer={answer} />
    </footer>
  );
}

function Timing({ answer }: { answer: Answer }) {
  const { usage, first, time } = answer;
  if (!usage || first === undefined || time === undefined) return null;
  const parts = [`${whole(usage.completion_tokens)} tokens`];
  // The first token has no interval before it; what comes all at once has no rate.
  if (usage.completion_tokens > 1 && time - first > 50) {
    parts.push(`${rate(((usage.completion_tokens - 1) * 1000) / (time - first))} tokens/s`);
  }
  parts.push(`first after ${seconds(first)}`);
  return <span class="timing">{parts.join(' · ')}</span>;
}
