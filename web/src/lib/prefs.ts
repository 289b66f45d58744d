/** Small choices that outlive a visit, in localStorage. */
import { effect, signal, type Signal } from '@preact/signals';
import type { Sampling } from './types';

function kept<T>(name: string, otherwise: T): Signal<T> {
  const at = `pondera.${name}`;
  let first = otherwise;
  try {
    const text = localStorage.getItem(at);
    if (text) first = JSON.parse(text) as T;
  } catch {
    // Unreadable or not allowed: the default will do.
  }
  const value = signal(first);
  effect(() => {
    const text = JSON.stringify(value.value);
    try {
      localStorage.setItem(at, text);
    } catch {
      // Then it lasts as long as the page.
    }
  });
  return value;
}

export type Theme = 'auto' | 'light' | 'dark';

export const theme = kept<Theme>('theme', 'auto');
/** Whether answers are asked for with probabilities and shown by token. */
export const probabilities = kept('probabilities', false);
/** What a new conversation begins with: what the last one had. */
export const lastModels = kept<string[]>('models', []);
export const lastSystem = kept('system', '');
export const lastSampling = kept<Sampling>('sampling', {});
/** Whether the side with the conversations is open on a wide screen. */
export const sideOpen = kept('side', true);

effect(() => {
  const root = document.documentElement;
  if (theme.value === 'auto') delete root.dataset.theme;
  else root.dataset.theme = theme.value;
});
