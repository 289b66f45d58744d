// Checks what the page weighs and that nothing in it changes from one build to the next.
import { readdirSync, readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const MOST = 120_000;
const dist = new URL('../dist/', import.meta.url);
const files = readdirSync(dist, { recursive: true, withFileTypes: true }).filter((f) => f.isFile());
let sum = 0;
for (const file of files) {
  const body = readFileSync(`${file.parentPath ?? file.path}/${file.name}`);
  if (/\.(gz|rs)$/.test(file.name)) continue;
  const size = gzipSync(body, { level: 9 }).length;
  sum += size;
  console.log(`${String(size).padStart(7)}  ${file.name}`);
  if (/\b20[2-9]\d-[01]\d-[0-3]\dT/.test(body.toString())) throw new Error(`${file.name} holds a time`);
}
console.log(`${String(sum).padStart(7)}  together, of at most ${MOST}`);
if (sum > MOST) throw new Error('the page is too large');
