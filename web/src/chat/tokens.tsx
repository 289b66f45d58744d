/** An answer by its tokens, tinted by how likely each was; the likeliest others are shown for the one pointed at. */
import { useMemo, useRef, useState } from 'preact/hooks';
import { percent } from '../lib/format';
import type { Token } from '../lib/types';
import { Meter } from '../ui';

/** Lower ends of the tints, from sure to surprising. */
const ENDS = [0.9, 0.6, 0.3, 0.1, 0];
export const tint = (p: number): number => ENDS.findIndex((end) => Math.exp(p) >= end);

/** Tokens that steer and are no text, as most vocabularies spell them. */
const CONTROL = /^<(\|.+\||\/?[a-z_]+)>$/;

/** A token as one can read it: white space and parts of characters too. */
function readable(text: string, bytes?: number[]): string {
  if (bytes) return bytes.map((b) => b.toString(16).toUpperCase().padStart(2, '0')).join(' ');
  return text.replace(/\n/g, '↵').replace(/\t/g, '⇥').replace(/ /g, '·') || '∅';
}

/** What each token adds to the text: a character of several tokens stands where it becomes whole. */
function pieces(tokens: Token[]): string[] {
  const decoder = new TextDecoder();
  let open = false;
  return tokens.map((token) => {
    if (!token.b && !open) return token.t;
    const bytes = token.b ? new Uint8Array(token.b) : new TextEncoder().encode(token.t);
    const text = decoder.decode(bytes, { stream: true });
    open = text === '';
    return text;
  });
}

interface Spot {
  index: number;
  x: number;
  y: number;
  below: boolean;
}

export function Tokens({ tokens, label }: { tokens: Token[]; label: string }) {
  const box = useRef<HTMLDivElement>(null);
  const [spot, setSpot] = useState<Spot | null>(null);
  const texts = useMemo(() => pieces(tokens), [tokens]);

  const point = (index: number) => {
    const token = box.current?.querySelector<HTMLElement>(`[data-i="${index}"]`);
    if (!box.current || !token) return;
    const here = box.current.getBoundingClientRect();
    const there = token.getClientRects()[0] ?? token.getBoundingClientRect();
    const below = there.top < 260;
    const x = Math.max(0, Math.min(there.left - here.left, here.width - 256));
    setSpot({ index, x, y: below ? there.bottom - here.top + 6 : here.bottom - there.top + 6, below });
  };
  const over = (e: Event) => {
    const at = (e.target as HTMLElement).dataset.i;
    if (at) point(Number(at));
  };
  const press = (e: KeyboardEvent) => {
    const now = spot?.index ?? -1;
    const to = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: tokens.length - 1 }[e.key];
    if (to !== undefined && tokens[to]) {
      e.preventDefault();
      point(to);
    } else if (e.key === 'Escape' && spot) {
      e.stopPropagation();
      setSpot(null);
    }
  };
  const drawn = useMemo(
    () =>
      tokens.map((token, i) => (
        <span
          key={i}
          data-i={i}
          class={`tok t${tint(token.p)}${token.th || CONTROL.test(token.t) ? ' thought' : ''}`}
        >
          {texts[i]}
        </span>
      )),
    [tokens, texts],
  );
  return (
    <div
      ref={box}
      class="tokens"
      tabIndex={0}
      role="group"
      aria-label={`${label}. Arrow keys go from token to token.`}
      onPointerOver={over}
      onPointerLeave={() => setSpot(null)}
      onClick={over}
      onKeyDown={press}
      onBlur={() => setSpot(null)}
    >
      {drawn}
      {spot && tokens[spot.index] && <Card token={tokens[spot.index]!} spot={spot} />}
    </div>
  );
}

function Card({ token, spot }: { token: Token; spot: Spot }) {
  const others = token.a.some(([text]) => text === token.t) ? token.a : [[token.t, token.p] as const, ...token.a];
  // Set through the object model, which the content security policy allows.
  const place = { left: `${spot.x}px`, [spot.below ? 'top' : 'bottom']: `${spot.y}px` };
  return (
    <div class="token-card" role="status" style={place}>
      <p class="token-head">
        <code>{readable(token.t, token.b)}</code>
        <span>{percent(Math.exp(token.p))}</span>
      </p>
      <ol>
        {others.map(([text, p], i) => (
          <li key={i} class={text === token.t ? 'chosen' : ''}>
            <code>{readable(text)}</code>
            <Meter max={1} value={Math.exp(p)} label={`Probability of ${readable(text)}`} />
            <span>{percent(Math.exp(p))}</span>
          </li>
        ))}
      </ol>
      <p class="soft">log probability {token.p.toFixed(3).replace('-0.000', '0.000')}</p>
    </div>
  );
}

/** What the tints mean. */
export function Legend() {
  const names = ['over 90 %', '60 to 90', '30 to 60', '10 to 30', 'under 10 %'];
  return (
    <p class="legend">
      {names.map((name, i) => (
        <span key={name}>
          <span class={`tok t${i}`} aria-hidden="true">
            {'\u2003'}
          </span>
          {name}
        </span>
      ))}
    </p>
  );
}
