/** Small parts that everything is made of. */
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { copy } from './lib/export';
import { said } from './lib/state';
import type { Problem } from './lib/types';

const PATHS = {
  plus: 'M12 5v14M5 12h14',
  menu: 'M4 7h16M4 12h16M4 17h16',
  sliders: 'M4 8h9M19 8h1M4 16h2M12 16h8M16 8m-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0M9 16m-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0',
  send: 'M12 19V5M6 11l6-6 6 6',
  stop: 'M7 7h10v10H7z',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  again: 'M20 11a8 8 0 1 0-.6 4M20 5v6h-6',
  edit: 'M4 20l1-4L16 5l3 3L8 19zM13.5 7.5l3 3',
  more: 'M6 12h.01M12 12h.01M18 12h.01',
  trash: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13',
  download: 'M12 4v11M7 11l5 5 5-5M5 20h14',
  close: 'M6 6l12 12M18 6L6 18',
  left: 'M14.5 6l-6 6 6 6',
  right: 'M9.5 6l6 6-6 6',
  down: 'M6 9.5l6 6 6-6',
  sun: 'M12 8a4 4 0 1 0 0 8a4 4 0 0 0 0-8M12 3v1.5M12 19.5V21M3 12h1.5M19.5 12H21M5.6 5.600l1.1 1.100M17.3 17.300l1.1 1.100M5.6 18.400l1.1-1.100M17.3 6.700l1.1-1.1',
  moon: 'M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z',
  auto: 'M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16',
  chart: 'M4 20h16M7 16v-4M12 16V6M17 16v-7',
  box: 'M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9',
  key: 'M14.5 9.5m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0M11 13l-7 7M6.5 17.5l2.5 2.5',
  help: 'M9 9.5a3 3 0 1 1 4.5 2.600c-1 .6-1.5 1.2-1.5 2.400M12 18h.01',
  drop: 'M12 4c3.5 4 6 6.8 6 10a6 6 0 0 1-12 0c0-3.2 2.5-6 6-10zM12 20a6 6 0 0 0 0-12',
  play: 'M8 5.5v13l10-6.5z',
};
export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

type ButtonProps = Omit<JSX.IntrinsicElements['button'], 'icon'> & { icon: IconName; label: string };

/** A button that is a picture alone; its name is for those who point at it or do not see it. */
export function IconButton({ icon, label, class: classes, ...rest }: ButtonProps) {
  return (
    <button type="button" class={`icon-button ${classes ?? ''}`} aria-label={label} title={label} {...rest}>
      <Icon name={icon} />
    </button>
  );
}

export function CopyButton({ text, label }: { text: string; label: string }) {
  const [done, setDone] = useState(false);
  const act = async () => {
    if (!(await copy(text))) return;
    said.value = 'Copied.';
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return <IconButton icon={done ? 'check' : 'copy'} label={done ? 'Copied' : label} onClick={act} />;
}

/** A dialog of the browser's own: it keeps the focus and closes with Escape. */
export function Dialog(props: { label: string; onClose: () => void; children: ComponentChildren; class?: string }) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const { current } = ref;
    if (current && !current.open) current.showModal();
  }, []);
  const outside = (e: MouseEvent) => e.target === ref.current && ref.current?.close();
  return (
    <dialog ref={ref} class={props.class} aria-label={props.label} onClose={props.onClose} onClick={outside}>
      <div class="dialog-body">{props.children}</div>
    </dialog>
  );
}

/** A part of a whole. Browsers draw their own `meter` too differently to be styled. */
export function Meter({ value, max, label, high }: { value: number; max: number; label: string; high?: number }) {
  const part = Math.min(100, Math.max(0, (value / max) * 100));
  return (
    <svg
      class={`meter${high !== undefined && value > high ? ' high' : ''}`}
      viewBox="0 0 100 1"
      preserveAspectRatio="none"
      role="meter"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={max}
      aria-valuenow={value}
    >
      <rect class="meter-back" width={100} height={1} />
      <rect class="meter-part" width={part} height={1} />
    </svg>
  );
}

/** An error in the server's words, and what can be done. */
export function ErrorNote({ problem, children }: { problem: Problem; children?: ComponentChildren }) {
  return (
    <div class="note error" role="alert">
      <p>{problem.message}</p>
      {problem.after && <p class="soft">The server says to try again in {problem.after} s.</p>}
      {children && <div class="note-actions">{children}</div>}
    </div>
  );
}

/** Calls `close` when a press or the focus goes elsewhere, or with Escape. */
export function useOutside(open: boolean, close: () => void) {
  const ref = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const elsewhere = (e: Event) => !ref.current?.contains(e.target as Node) && close();
    const escape = (e: KeyboardEvent) => {
      if (e.key !== 'Escape') return;
      e.stopPropagation();
      close();
      ref.current?.querySelector<HTMLElement>('button')?.focus();
    };
    document.addEventListener('pointerdown', elsewhere);
    document.addEventListener('focusin', elsewhere);
    document.addEventListener('keydown', escape, true);
    return () => {
      document.removeEventListener('pointerdown', elsewhere);
      document.removeEventListener('focusin', elsewhere);
      document.removeEventListener('keydown', escape, true);
    };
  }, [open]);
  return ref;
}
