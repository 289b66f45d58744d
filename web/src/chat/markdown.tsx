/**
 * Markdown as nodes of the page. The text of a model never becomes HTML: markdown-it gives tokens, and what each kind of
 * token shows is listed here. Links lead only to where links of people lead; pictures are links, for nothing is fetched.
 */
import MarkdownIt from 'markdown-it';
import type { ComponentChildren, VNode } from 'preact';
import { useMemo } from 'preact/hooks';
import { Code } from './code';

const parser = new MarkdownIt({ html: false, linkify: true, breaks: false });
type Parsed = ReturnType<typeof parser.parse>[number];

const BLOCKS: Record<string, string> = {
  paragraph_open: 'p',
  blockquote_open: 'blockquote',
  bullet_list_open: 'ul',
  ordered_list_open: 'ol',
  list_item_open: 'li',
  table_open: 'table',
  thead_open: 'thead',
  tbody_open: 'tbody',
  tr_open: 'tr',
  th_open: 'th',
  td_open: 'td',
  em_open: 'em',
  strong_open: 'strong',
  s_open: 's',
};

/** An address that a link may have; others are shown as text. */
export function safe(href: string): string | null {
  return /^(https?:|mailto:)/i.test(href) ? href : null;
}

function Link({ href, children }: { href: string; children: ComponentChildren }) {
  const good = safe(href);
  if (!good) return <span>{children}</span>;
  return (
    <a href={good} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  );
}

/** The nodes of `tokens` from `i` on, up to the end of what is open there. */
function nodes(tokens: Parsed[], from: number): [ComponentChildren[], number] {
  const out: ComponentChildren[] = [];
  let i = from;
  while (i < tokens.length) {
    const token = tokens[i]!;
    if (token.nesting === -1) return [out, i];
    if (token.nesting === 1) {
      const [inner, end] = nodes(tokens, i + 1);
      out.push(open(token, inner));
      i = end + 1;
    } else {
      out.push(single(token));
      i += 1;
    }
  }
  return [out, i];
}

function open(token: Parsed, inner: ComponentChildren[]): ComponentChildren {
  if (token.type === 'paragraph_open' && token.hidden) return inner;
  if (token.type === 'link_open') return <Link href={String(token.attrGet('href') ?? '')}>{inner}</Link>;
  // The page has headings of its own; those of an answer come below them.
  if (token.type === 'heading_open') return element(`h${Math.min(6, Number(token.tag[1]) + 2)}`, inner);
  if (token.type === 'table_open') {
    return (
      <div class="table" tabIndex={0} role="region" aria-label="Table">
        {element('table', inner)}
      </div>
    );
  }
  if (token.type === 'ordered_list_open') return <ol start={Number(token.attrGet('start') ?? 1)}>{inner}</ol>;
  return element(BLOCKS[token.type] ?? 'div', inner);
}

function element(Tag: string, inner: ComponentChildren[]): VNode {
  const Named = Tag as 'div';
  return <Named>{inner}</Named>;
}

function single(token: Parsed): ComponentChildren {
  switch (token.type) {
    case 'inline':
      return nodes(token.children ?? [], 0)[0];
    case 'fence':
      return <Code text={token.content} language={token.info.trim().split(/\s+/)[0] ?? ''} />;
    case 'code_block':
      return <Code text={token.content} language="" />;
    case 'code_inline':
      return <code>{token.content}</code>;
    case 'softbreak':
      return '\n';
    case 'hardbreak':
      return <br />;
    case 'hr':
      return <hr />;
    case 'image':
      return <Link href={String(token.attrGet('src') ?? '')}>{`Image: ${token.content || token.attrGet('src')}`}</Link>;
    default:
      return token.content;
  }
}

export function Markdown({ text }: { text: string }) {
  return useMemo(() => <div class="prose" dir="auto">{nodes(parser.parse(text, {}), 0)[0]}</div>, [text]);
}
