/** The page of a conversation. */
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { count, whole } from '../lib/format';
import { probabilities } from '../lib/prefs';
import { answering } from '../lib/run';
import { current, keeping, loadModels, models, modelsLoaded, modelsProblem, served } from '../lib/state';
import { facts, type Facts } from '../lib/facts';
import type { Conversation } from '../lib/types';
import { settingsOpen } from '../lib/view';
import { ErrorNote, Icon, IconButton } from '../ui';
import { TopBar } from '../top';
import { Composer } from './composer';
import { Picker } from './picker';
import { Settings } from './settings';
import { Legend } from './tokens';
import { TurnView } from './turn';

export function Chat() {
  const c = current.value;
  const scroll = useRef<HTMLDivElement>(null);
  const low = useSignal(true);

  // The end stays in sight as long as one has not scrolled away from it.
  useEffect(() => {
    const box = scroll.current;
    if (!box) return;
    const down = () => low.peek() && (box.scrollTop = box.scrollHeight);
    const watch = new ResizeObserver(down);
    watch.observe(box.firstElementChild!);
    watch.observe(box);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    low.value = true;
    scroll.current?.scrollTo(0, scroll.current.scrollHeight);
  }, [c.id, c.turns.length]);

  return (
    <>
      <TopBar>
        <Picker c={c} />
        <span class="grow" />
        <button
          type="button"
          class="toggle"
          aria-pressed={probabilities.value}
          title="Show how likely each token was (Alt+P)"
          onClick={() => (probabilities.value = !probabilities.value)}
        >
          <Icon name="drop" /> <span>Probabilities</span>
        </button>
        <IconButton
          icon="sliders"
          label="Settings (Alt+S)"
          aria-expanded={settingsOpen.value}
          onClick={() => (settingsOpen.value = !settingsOpen.value)}
        />
      </TopBar>
      <div class="chat">
        <div class={`column${c.turns.length ? '' : ' at-start'}`}>
          <div
            class="scroll"
            ref={scroll}
            tabIndex={-1}
            onScroll={(e) => {
              const box = e.currentTarget;
              low.value = box.scrollHeight - box.scrollTop - box.clientHeight < 80;
            }}
          >
            <div class={`turns${wide(c) ? ' wide' : ''}`} role="log" aria-label="Conversation" aria-live="polite">
              {c.turns.map((turn, i) => (
                <TurnView key={turn.id} c={c} turn={turn} last={i === c.turns.length - 1} />
              ))}
              {!c.turns.length && <Start c={c} />}
            </div>
          </div>
          <div class="foot">
            {!low.value && c.turns.length > 0 && (
              <button
                type="button"
                class="to-end"
                onClick={() => scroll.current?.scrollTo({ top: scroll.current.scrollHeight })}
              >
                <Icon name="down" /> {answering(c) ? 'Follow the answer' : 'To the end'}
              </button>
            )}
            {probabilities.value && c.turns.length > 0 && <Legend />}
            <Composer c={c} />
            {!keeping.value && (
              <p class="soft small">This browser keeps nothing for the page: conversations end with it.</p>
            )}
          </div>
        </div>
        {settingsOpen.value && <Settings c={c} />}
      </div>
    </>
  );
}

const wide = (c: Conversation): boolean => served(c).length > 1 || c.turns.some((t) => t.slots.length > 1);

/** Before the first message: who will answer. */
function Start({ c }: { c: Conversation }) {
  const known = useSignal<Facts[]>([]);
  const names = served(c);
  useEffect(() => {
    let here = true;
    void Promise.all(names.map((name) => facts(name).catch(() => null))).then((list) => {
      if (here) known.value = list.filter((f) => f !== null);
    });
    return () => (here = false);
  }, [names.join('\n')]);
  if (modelsProblem.value) {
    return (
      <ErrorNote problem={modelsProblem.value}>
        <button type="button" class="quiet small" onClick={() => void loadModels()}>
          <Icon name="again" /> Retry
        </button>
      </ErrorNote>
    );
  }
  if (!modelsLoaded.value) return null;
  return (
    <div class="start">
      <h1>{names.length > 1 ? 'Ask them side by side' : 'What is on your mind?'}</h1>
      {names.map((name) => {
        const f = known.value.find((f) => f.name === name);
        const size = models.value.find((m) => m.id === name)?.max_model_len;
        return (
          <p key={name} class="soft">
            <a href={`#/models/${encodeURIComponent(name)}`}>{name}</a>
            {f?.parameters && ` · ${count(f.parameters.total)} parameters`}
            {size && ` · context ${whole(size)}`}
            {f?.template === false && ' · no chat template, so no conversations'}
          </p>
        );
      })}
    </div>
  );
}
