import { defineConfig } from 'vite';
import { CSP } from './csp.ts';
import { embed } from './embed.ts';

// Where a running `pondera serve` answers while the page is developed.
const server = process.env.PONDERA_URL ?? 'http://127.0.0.1:8080';
const proxy = Object.fromEntries(
  ['/v1', '/api', '/pondera', '/metrics', '/ready', '/version'].map((path) => [path, { target: server }]),
);

export default defineConfig({
  // Relative, so that the page also works below a prefix of a reverse proxy.
  base: './',
  plugins: [embed()],
  build: {
    target: 'es2022',
    // A `data:` URL would need a hole in the content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: { proxy },
  preview: { proxy, headers: { 'Content-Security-Policy': CSP } },
});
