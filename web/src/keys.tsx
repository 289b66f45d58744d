/** Work by keyboard: what each key does, and the list that says so. */
import { probabilities } from './lib/prefs';
import { again, answering, stop } from './lib/run';
import { at, current, go, startNew } from './lib/state';
import { drawerOpen, editing, helpOpen, pickerOpen, settingsOpen } from './lib/view';
import { toggleSide } from './top';
import { Dialog, IconButton } from './ui';

const inChat = (): boolean => at.peek().page === 'chat';

/** By `code`, for with Alt some layouts type something else. */
const ALT: Record<string, () => void> = {
  KeyN: startNew,
  KeyB: toggleSide,
  KeyS: () => (settingsOpen.value = !settingsOpen.peek()),
  KeyM: () => (pickerOpen.value = !pickerOpen.peek()),
  KeyP: () => (probabilities.value = !probabilities.peek()),
  KeyR: () => {
    const c = current.peek();
    const turn = c.turns.at(-1);
    if (inChat() && turn && !answering(c)) turn.slots.forEach((s) => again(c.id, turn.id, s.model));
  },
  KeyE: () => {
    if (inChat()) editing.value = current.peek().turns.at(-1)?.id ?? null;
  },
  KeyL: () => go('#/load'),
  KeyI: () => go('#/models'),
};

export function listen(): void {
  addEventListener('keydown', (e) => {
    if (document.querySelector('dialog[open]')) return;
    const act = e.altKey && !e.ctrlKey && !e.metaKey && ALT[e.code];
    const typing = (e.target as HTMLElement).matches('input, textarea, select');
    if (act) {
      e.preventDefault();
      act();
    } else if (e.key === 'Escape') {
      const c = current.peek();
      if (drawerOpen.peek()) drawerOpen.value = false;
      else if (answering(c)) stop(c.id);
      else if (settingsOpen.peek()) settingsOpen.value = false;
    } else if (!typing && e.key === '/') {
      e.preventDefault();
      document.querySelector<HTMLElement>('#message')?.focus();
    } else if (!typing && e.key === '?') {
      helpOpen.value = true;
    }
  });
}

const LIST: [string, string][] = [
  ['Enter', 'Send'],
  ['Shift Enter', 'A new line'],
  ['Esc', 'Stop the answer, or close what is open'],
  ['/', 'Go to the field for messages'],
  ['Alt N', 'New conversation'],
  ['Alt R', 'Regenerate the last answer'],
  ['Alt E', 'Edit the last message'],
  ['Alt M', 'Choose models'],
  ['Alt P', 'Show token probabilities'],
  ['← →', 'From token to token, where they are shown'],
  ['Alt S', 'Settings'],
  ['Alt B', 'Conversations'],
  ['Alt I', 'Models'],
  ['Alt L', 'Load'],
  ['?', 'This list'],
];

export function Help() {
  if (!helpOpen.value) return null;
  const close = () => (helpOpen.value = false);
  return (
    <Dialog label="Keyboard shortcuts" onClose={close}>
      <header class="dialog-head">
        <h2>Keyboard shortcuts</h2>
        <IconButton icon="close" label="Close" onClick={close} />
      </header>
      <dl class="shortcuts">
        {LIST.map(([keys, what]) => (
          <div key={keys}>
            <dt>
              {keys.split(' ').map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
