import { existsSync } from 'node:fs';
import { defineConfig, devices } from '@playwright/test';
import { FAKE, KEY, KEYED, REAL } from './tests/places';

const pondera = process.env.PONDERA ?? '../target/release/pondera';
const model = '../models/pebble/pebble.gguf';
// Playwright's own browser cannot be fetched everywhere; a distribution's does as well.
const browser = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/google-chrome'].find((path) => existsSync(path));

const port = (url: string): string => new URL(url).port;
const server = (command: string, url: string) => ({ command, url: `${url}/ready`, reuseExistingServer: false });

export default defineConfig({
  testDir: 'tests',
  outputDir: 'test-results',
  reporter: [['list']],
  // Machines that build beside it are slow.
  timeout: 90_000,
  expect: { timeout: 15_000 },
  workers: 1,
  fullyParallel: false,
  use: {
    ...devices['Desktop Chrome'],
    viewport: { width: 1280, height: 800 },
    baseURL: REAL,
    launchOptions: { executablePath: browser, args: ['--no-sandbox'] },
  },
  webServer: [
    server(`${pondera} serve -q pebble=${model} second=${model} --port ${port(REAL)}`, REAL),
    server(`${pondera} serve -q pebble=${model} --api-key ${KEY} --port ${port(KEYED)}`, KEYED),
    server(`node tests/fake.mjs ${port(FAKE)}`, FAKE),
  ],
});
