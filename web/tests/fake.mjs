// A server that serves the built page and answers as the last message asks: slowly, with thoughts, with an error. What a
// small and fast model cannot be made to do is tested against this.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';

const dist = new URL('../dist', import.meta.url).pathname;
const source = readFileSync(new URL('../csp.ts', import.meta.url), 'utf8');
const CSP = [...source.matchAll(/^ {2}"(.*)",$/gm)].map((m) => m[1]).join('; ');
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

const MARKDOWN = `# A title

Some **bold**, *slanted* and \`inline\` text with a [link](https://example.org/) and a [trap](javascript:alert(1)).

<img src="x" onerror="document.title='owned'"><script>document.title='owned'</script>

![a picture](https://example.org/picture.png)

| Model | Layers |
| --- | --- |
| small | 6 |

\`\`\`rust
/// The largest of them.
fn largest(list: &[f32]) -> Option<f32> {
    list.iter().copied().reduce(f32::max) // none where there is none
}
\`\`\`

1. first
2. second
`;

const MODEL = {
  family: 'qwen3_moe', format: 'safetensors', layers: 48, hidden_size: 2048, heads: 32, kv_heads: 4, head_dim: 128,
  vocab_size: 151936, experts: { total: 128, active: 8 }, parameters: { total: 30532122624, active: 3353000000 },
  weights: { bytes: 18556689408, types: [{ type: 'Q4_K', bytes: 15556689408 }, { type: 'Q6_K', bytes: 3000000000 }] },
  kv: { bytes_per_token: 98304, type: 'f16' }, context: { served: 32768, trained: 262144 }, license: 'apache-2.0',
  template: true, encoder: false,
};

let looks = 0;
let turnedAway = 0;

function load() {
  looks += 1;
  const wave = (k) => Math.max(0, 40 + 22 * Math.sin(looks / 5 + k) + 6 * Math.sin(looks * 1.7));
  const of = (name, k) => ({
    name, running: 3 + k, waiting: k, kv: { used_pages: 311 + 10 * k, total_pages: 1024, page_tokens: 16 },
    prompt_tokens_per_second: wave(k + 2) * 2, generation_tokens_per_second: wave(k), requests_total: 1284 + looks,
  });
  return { uptime_s: 93784 + looks, models: [of('slow', 0), of('other', 1)] };
}

const answers = {
  async slow(say) {
    for (let i = 0; i < 200; i += 1) {
      say({ content: `word${i} ` });
      await wait(40);
    }
  },
  async think(say) {
    say({ reasoning_content: 'First I weigh ' });
    say({ reasoning_content: 'the question.' });
    await wait(50);
    say({ content: 'The answer is 42.' });
  },
  async markdown(say) {
    for (const part of MARKDOWN.match(/[\s\S]{1,24}/g)) say({ content: part });
  },
  async echo(say, body) {
    say({ content: JSON.stringify(body) });
  },
};

async function chat(body, response) {
  const asked = body.messages.at(-1).content;
  const refuse = (status, error, headers = {}) =>
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify({ error }));
  if (asked.startsWith('overflow')) {
    const message = 'messages: 900 tokens do not fit: the context holds 512';
    return refuse(400, { message, type: 'invalid_request_error', param: 'messages', code: 'context_length_exceeded' });
  }
  if (asked.startsWith('busy') && turnedAway++ % 2 === 0) {
    return refuse(429, { message: 'too many requests wait', type: 'rate_limit_error' }, { 'retry-after': '1' });
  }
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const event = (value) => response.write(`data: ${JSON.stringify(value)}\n\n`);
  const say = (delta) => event({ choices: [{ index: 0, delta, logprobs: null, finish_reason: null }] });
  if (asked.startsWith('break')) {
    say({ content: 'It begins ' });
    await wait(50);
    event({ error: { message: 'the answer was not ready in time', type: 'server_error' } });
    return response.end();
  }
  if (asked.startsWith('cut')) {
    say({ content: 'It begins ' });
    await wait(100);
    return response.destroy();
  }
  let gone = false;
  response.on('close', () => (gone = true));
  const name = Object.keys(answers).find((name) => asked.startsWith(name));
  await (answers[name] ?? (async (say) => say({ content: `Yes: ${asked}` })))((delta) => gone || say(delta), body);
  event({ choices: [{ index: 0, delta: {}, logprobs: null, finish_reason: asked.startsWith('long') ? 'length' : 'stop' }] });
  event({ choices: [], usage: { prompt_tokens: 300, completion_tokens: 160, total_tokens: 460 } });
  return response.end('data: [DONE]\n\n');
}

createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  const json = (value) => response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
  if (pathname === '/ready') return json({ status: 'ready' });
  if (pathname === '/v1/models') return json({ data: ['slow', 'other'].map((id) => ({ id, max_model_len: 512 })) });
  if (pathname === '/pondera/model') return json({ name: searchParams.get('name'), ...MODEL });
  if (pathname === '/pondera/load') return json(load());
  if (pathname === '/v1/chat/completions') {
    let text = '';
    for await (const part of request) text += part;
    return chat(JSON.parse(text), response);
  }
  const file = join(dist, normalize(pathname === '/' ? '/index.html' : pathname));
  try {
    const body = readFileSync(file);
    response.writeHead(200, { 'content-type': TYPES[extname(file)], 'content-security-policy': CSP }).end(body);
  } catch {
    response.writeHead(404, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ error: { message: 'there is no such path', code: 'not_found' } }));
  }
  return undefined;
}).listen(Number(process.argv[2]), '127.0.0.1');
