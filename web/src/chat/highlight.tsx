/** Colours of code, in a chunk of its own. The trees of lowlight become nodes; there is no HTML in between. */
import bash from 'highlight.js/lib/languages/bash';
import c from 'highlight.js/lib/languages/c';
import cpp from 'highlight.js/lib/languages/cpp';
import css from 'highlight.js/lib/languages/css';
import go from 'highlight.js/lib/languages/go';
import java from 'highlight.js/lib/languages/java';
import javascript from 'highlight.js/lib/languages/javascript';
import json from 'highlight.js/lib/languages/json';
import python from 'highlight.js/lib/languages/python';
import rust from 'highlight.js/lib/languages/rust';
import sql from 'highlight.js/lib/languages/sql';
import typescript from 'highlight.js/lib/languages/typescript';
import xml from 'highlight.js/lib/languages/xml';
import yaml from 'highlight.js/lib/languages/yaml';
import { createLowlight } from 'lowlight';
import type { ComponentChildren } from 'preact';

const low = createLowlight({
  bash, c, cpp, css, go, java, javascript, json, python, rust, sql, typescript, xml, yaml,
});
low.registerAlias({ bash: ['shell', 'console'], xml: ['html', 'svg'] });

type Tree = ReturnType<typeof low.highlight>['children'][number];

const node = (tree: Tree): ComponentChildren => {
  if (tree.type === 'text') return tree.value;
  if (tree.type !== 'element') return null;
  const classes = (tree.properties.className as string[] | undefined)?.join(' ');
  return <span class={classes}>{tree.children.map(node)}</span>;
};

export function highlight(text: string, language: string): ComponentChildren {
  const name = language.toLowerCase();
  return low.registered(name) ? low.highlight(name, text).children.map(node) : text;
}
