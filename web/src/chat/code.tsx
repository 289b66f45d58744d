/** A block of code: its language, a button that copies it, and colours once the highlighter has been loaded. */
import type { ComponentChildren } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import { CopyButton } from '../ui';

type Highlight = typeof import('./highlight').highlight;
let highlighter: Highlight | undefined;

export function Code({ text, language }: { text: string; language: string }) {
  const [highlight, setHighlight] = useState<Highlight | undefined>(() => highlighter);
  useEffect(() => {
    if (!language || highlight) return;
    // Fetched when the first code comes; without it code is plain, which reads well too.
    import('./highlight')
      .then((m) => {
        highlighter = m.highlight;
        setHighlight(() => m.highlight);
      })
      .catch(() => {});
  }, [language, highlight]);
  const body = useMemo<ComponentChildren>(
    () => (highlight && language && text.length < 20_000 ? highlight(text, language) : text),
    [highlight, text, language],
  );
  return (
    <figure class="code">
      <figcaption>
        <span>{language || 'text'}</span>
        <CopyButton text={text} label="Copy code" />
      </figcaption>
      <pre tabIndex={0} aria-label={`Code${language ? `, ${language}` : ''}`}>
        <code>{body}</code>
      </pre>
    </figure>
  );
}
