/** The frame around the pages. */
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { Chat } from './chat/chat';
import { Help } from './keys';
import { key, keyAsked, setKey } from './lib/api';
import { sideOpen } from './lib/prefs';
import { afterKey } from './lib/run';
import { at, current, loadModels, said } from './lib/state';
import { drawerOpen } from './lib/view';
import { LoadPage } from './pages/load';
import { Models } from './pages/models';
import { Side } from './side';
import { Dialog, Icon } from './ui';

export function App() {
  const { value } = at;
  // Whoever has gone somewhere from the drawer wants to see it.
  useEffect(() => void (drawerOpen.value = false), [value]);
  return (
    <div class={`app${sideOpen.value ? '' : ' side-closed'}${drawerOpen.value ? ' drawer-open' : ''}`}>
      <a class="skip" href="#message" onClick={skip}>
        To the message field
      </a>
      <Side />
      <div class="shade" onClick={() => (drawerOpen.value = false)} />
      <main>
        {value.page === 'chat' && <Chat />}
        {value.page === 'models' && <Models />}
        {value.page === 'load' && <LoadPage />}
      </main>
      <p class="offscreen" role="status" aria-live="polite">
        {said.value}
      </p>
      <Help />
      {keyAsked.value && <KeyDialog />}
    </div>
  );
}

/** The address of the page holds where one is, so the link must not change it. */
function skip(e: Event): void {
  e.preventDefault();
  document.querySelector<HTMLElement>('#message')?.focus();
}

function KeyDialog() {
  const text = useSignal('');
  const refused = key.value !== '';
  const submit = (e: Event) => {
    e.preventDefault();
    if (!text.value.trim()) return;
    setKey(text.value.trim());
    keyAsked.value = false;
    void loadModels();
    afterKey(current.peek());
  };
  return (
    <Dialog label="Key" onClose={() => (keyAsked.value = false)}>
      <form onSubmit={submit}>
        <h2>
          <Icon name="key" /> This server asks for a key
        </h2>
        <p>
          {refused ? 'The server does not know the key that was given.' : 'Whoever runs the server can give you one.'} It
          stays in this tab and is forgotten when the tab is closed.
        </p>
        <label class="stacked">
          <span>Key</span>
          <input
            type="password"
            autoComplete="off"
            autoFocus
            value={text}
            onInput={(e) => (text.value = e.currentTarget.value)}
          />
        </label>
        <div class="dialog-actions">
          <button type="button" class="quiet" onClick={() => (keyAsked.value = false)}>
            Not now
          </button>
          <button type="submit" class="primary" disabled={!text.value.trim()}>
            Use the key
          </button>
        </div>
      </form>
    </Dialog>
  );
}
