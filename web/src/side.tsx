/** The side: conversations, and the ways to the other pages. */
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { download } from './lib/export';
import { when } from './lib/format';
import { theme, type Theme } from './lib/prefs';
import { stop } from './lib/run';
import { at, change, conversations, forget, loaded, startNew } from './lib/state';
import type { Conversation } from './lib/types';
import { drawerOpen, helpOpen } from './lib/view';
import { Dialog, Icon, IconButton, useOutside } from './ui';

export function Side() {
  const filter = useSignal('');
  const words = filter.value.trim().toLowerCase();
  const list = conversations.value.filter(
    (c) => !words || c.title.toLowerCase().includes(words) || c.turns.some((t) => t.user.toLowerCase().includes(words)),
  );
  const { value } = at;
  return (
    <nav class="side" aria-label="Conversations and pages">
      <header>
        <a class="brand" href="#/">
          pondera
        </a>
        <IconButton icon="close" label="Close the list" class="drawer-close" onClick={() => (drawerOpen.value = false)} />
      </header>
      <button type="button" class="new" onClick={startNew}>
        <Icon name="plus" /> New conversation
      </button>
      {conversations.value.length > 6 && (
        <input
          type="search"
          placeholder="Find a conversation"
          aria-label="Find a conversation"
          value={filter}
          onInput={(e) => (filter.value = e.currentTarget.value)}
        />
      )}
      <ul class="conversations" aria-label="Conversations">
        {list.map((c) => (
          <Row key={c.id} c={c} current={value.page === 'chat' && value.id === c.id} />
        ))}
        {loaded.value && !list.length && (
          <li class="soft empty">{words ? 'None with these words.' : 'Conversations stay in this browser.'}</li>
        )}
      </ul>
      <footer>
        <a href="#/models" aria-current={value.page === 'models' ? 'page' : undefined}>
          <Icon name="box" /> Models
        </a>
        <a href="#/load" aria-current={value.page === 'load' ? 'page' : undefined}>
          <Icon name="chart" /> Load
        </a>
        <div class="row">
          <ThemeButton />
          <IconButton icon="help" label="Keyboard shortcuts (?)" onClick={() => (helpOpen.value = true)} />
        </div>
      </footer>
    </nav>
  );
}

const THEMES: Record<Theme, { next: Theme; icon: 'auto' | 'sun' | 'moon'; label: string }> = {
  auto: { next: 'light', icon: 'auto', label: 'Colours: as the system' },
  light: { next: 'dark', icon: 'sun', label: 'Colours: light' },
  dark: { next: 'auto', icon: 'moon', label: 'Colours: dark' },
};

function ThemeButton() {
  const now = THEMES[theme.value];
  return <IconButton icon={now.icon} label={now.label} onClick={() => (theme.value = now.next)} />;
}

function Row({ c, current }: { c: Conversation; current: boolean }) {
  const open = useSignal(false);
  const naming = useSignal(false);
  const deleting = useSignal(false);
  const menu = useOutside(open.value, () => (open.value = false));
  const pick = (act: () => void) => () => {
    open.value = false;
    act();
  };
  const remove = () => {
    stop(c.id);
    forget(c.id);
  };
  if (naming.value) return <Naming c={c} done={() => (naming.value = false)} />;
  return (
    <li class={current ? 'current' : ''}>
      <a href={`#/c/${c.id}`} aria-current={current ? 'page' : undefined} title={c.title}>
        <span class="title">{c.title}</span>
        <span class="when">{when(c.updated)}</span>
      </a>
      <div class="menu" ref={menu}>
        <IconButton
          icon="more"
          label={`More about ${c.title}`}
          aria-expanded={open.value}
          onClick={() => (open.value = !open.value)}
        />
        {open.value && (
          <div class="menu-list">
            <button type="button" onClick={pick(() => (naming.value = true))}>
              <Icon name="edit" /> Rename
            </button>
            <button type="button" onClick={pick(() => download(c, 'md'))}>
              <Icon name="download" /> Export as Markdown
            </button>
            <button type="button" onClick={pick(() => download(c, 'json'))}>
              <Icon name="download" /> Export as JSON
            </button>
            <button type="button" class="danger" onClick={pick(() => (deleting.value = true))}>
              <Icon name="trash" /> Delete
            </button>
          </div>
        )}
      </div>
      {deleting.value && (
        <Dialog label="Delete conversation" onClose={() => (deleting.value = false)}>
          <h2>Delete this conversation?</h2>
          <p>“{c.title}” is kept in this browser alone and cannot be brought back.</p>
          <div class="dialog-actions">
            <button type="button" class="quiet" onClick={() => (deleting.value = false)}>
              Cancel
            </button>
            <button type="button" class="primary danger" onClick={remove}>
              Delete
            </button>
          </div>
        </Dialog>
      )}
    </li>
  );
}

function Naming({ c, done }: { c: Conversation; done: () => void }) {
  const ref = useRef<HTMLInputElement>(null);
  useEffect(() => ref.current?.select(), []);
  const keep = () => {
    const title = ref.current?.value.trim();
    if (title && title !== c.title) change(c.id, (c) => ({ ...c, title, named: true }));
    done();
  };
  return (
    <li class="naming">
      <input
        ref={ref}
        aria-label="Title"
        defaultValue={c.title}
        maxLength={120}
        onBlur={keep}
        onKeyDown={(e) => {
          if (e.key === 'Enter') keep();
          if (e.key === 'Escape') {
            e.stopPropagation();
            done();
          }
        }}
      />
    </li>
  );
}
