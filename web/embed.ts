import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Plugin } from 'vite';

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

function gzip(body: Buffer): Buffer {
  const packed = gzipSync(body, { level: 9 });
  // The byte for the operating system is "unknown", or the build would differ between machines.
  packed[9] = 255;
  return packed;
}

/** Writes each file's compressed form, and the table of them that the server includes: so it needs neither to build. */
export function embed(): Plugin {
  let folder = 'dist';
  return {
    name: 'embed',
    apply: 'build',
    configResolved: (config) => void (folder = config.build.outDir),
    closeBundle() {
      const names = readdirSync(folder, { recursive: true, encoding: 'utf8' })
        .map((name) => name.replaceAll('\\', '/'))
        .filter((name) => extname(name) in TYPES)
        .sort();
      const rows = names.map((name) => {
        const body = readFileSync(join(folder, name));
        writeFileSync(join(folder, `${name}.gz`), gzip(body));
        const tag = createHash('sha256').update(body).digest('hex').slice(0, 16);
        return `    File {
        path: "/${name}",
        kind: "${TYPES[extname(name)]}",
        tag: "${tag}",
        plain: include_bytes!("${name}"),
        gzip: include_bytes!("${name}.gz"),
    },`;
      });
      const head = '// Written by the build of `web/`: the files of the page, for `crates/server/src/page.rs`.';
      writeFileSync(join(folder, 'page.rs'), `${head}\n&[\n${rows.join('\n')}\n]\n`);
    },
  };
}
