/** What is open on the page at the moment. */
import { signal } from '@preact/signals';

/** The turn whose message is being changed. */
export const editing = signal<string | null>(null);
export const settingsOpen = signal(false);
/** The list of conversations over the page, on a narrow screen. */
export const drawerOpen = signal(false);
export const helpOpen = signal(false);
export const pickerOpen = signal(false);
/** What is being written in the field, by conversation, while one looks elsewhere. */
export const drafts = new Map<string, string>();

export const narrow = matchMedia('(max-width: 760px)');
