/** Conversations as files, and text on the clipboard. */
import { shown, type Conversation } from './types';

export function markdown(c: Conversation): string {
  const out = [`# ${c.title}`, ''];
  if (c.system) out.push('**System**', '', c.system, '');
  for (const t of c.turns) {
    out.push('**You**', '', t.user, '');
    for (const s of t.slots) {
      const a = shown(s);
      if (!a) continue;
      const marks = { stopped: ' (stopped)', error: ' (failed)', done: '', waiting: '', streaming: '' };
      out.push(`**${s.model}**${marks[a.status]}`, '', a.text || a.problem?.message || '', '');
    }
  }
  return out.join('\n');
}

/** Hands the person a file. */
export function download(c: Conversation, kind: 'json' | 'md'): void {
  const text = kind === 'json' ? JSON.stringify(c, null, 2) : markdown(c);
  const blob = new Blob([text], { type: kind === 'json' ? 'application/json' : 'text/markdown' });
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  const name = c.title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '');
  link.download = `${name || 'conversation'}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Over plain HTTP from another machine there is no clipboard; the old way still works.
    const area = document.createElement('textarea');
    area.value = text;
    area.className = 'offscreen';
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}
