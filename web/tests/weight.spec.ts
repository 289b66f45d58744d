/** What a visit costs: bytes, requests and time on a phone of the middle class, as audits of pages measure them. */
import { expect, test } from './help';

/** Lighthouse's "slow 4G" and its mobile processor. */
const SLOW = { offline: false, latency: 150, downloadThroughput: (1.6 * 1024 * 1024) / 8, uploadThroughput: (0.75 * 1024 * 1024) / 8 };
const PROCESSOR = 4;

interface Vitals {
  paint: number;
  shift: number;
  blocked: number;
}

test('the first visit is light and quick', async ({ page, context }) => {
  const cdp = await context.newCDPSession(page);
  await cdp.send('Network.enable');
  await cdp.send('Network.emulateNetworkConditions', SLOW);
  await cdp.send('Emulation.setCPUThrottlingRate', { rate: PROCESSOR });
  const wire = new Map<string, number>();
  cdp.on('Network.loadingFinished', (e) => wire.set(e.requestId, e.encodedDataLength));
  await page.addInitScript(() => {
    const seen: Vitals = { paint: 0, shift: 0, blocked: 0 };
    Object.assign(window, { seen });
    new PerformanceObserver((l) => l.getEntries().forEach((e) => (seen.paint = e.startTime))).observe({ type: 'largest-contentful-paint', buffered: true });
    new PerformanceObserver((l) =>
      l.getEntries().forEach((e) => (seen.shift += (e as unknown as { value: number }).value)),
    ).observe({ type: 'layout-shift', buffered: true });
    new PerformanceObserver((l) => l.getEntries().forEach((e) => (seen.blocked += Math.max(0, e.duration - 50)))).observe({ type: 'longtask', buffered: true });
  });
  await page.goto('/', { waitUntil: 'networkidle' });
  await page.waitForTimeout(500);
  const { paint, shift, blocked } = await page.evaluate(() => (window as unknown as { seen: Vitals }).seen);
  const bytes = [...wire.values()].reduce((sum, n) => sum + n, 0);
  console.log(`${bytes} bytes in ${wire.size} requests, largest paint ${paint.toFixed(0)} ms, shift ${shift.toFixed(3)}, blocked ${blocked.toFixed(0)} ms`);
  expect(bytes).toBeLessThan(300_000);
  expect(wire.size).toBeLessThan(12);
  expect(paint).toBeGreaterThan(0);
  expect(paint).toBeLessThan(2500);
  expect(shift).toBeLessThan(0.1);
  expect(blocked).toBeLessThan(600);
});

test('a second visit fetches no asset again', async ({ page }) => {
  await page.goto('/', { waitUntil: 'networkidle' });
  await page.goto('/#/load', { waitUntil: 'networkidle' });
  await page.reload({ waitUntil: 'networkidle' });
  const moved = await page.evaluate(() =>
    (performance.getEntriesByType('resource') as PerformanceResourceTiming[]).filter((e) => e.name.includes('/assets/')).map((e) => e.transferSize),
  );
  expect(moved.length).toBeGreaterThan(0);
  expect(Math.max(...moved)).toBe(0);
});

test('search engines, readers and phones are told what this is', async ({ page }) => {
  await page.goto('/');
  await expect(page.locator('html')).toHaveAttribute('lang', 'en');
  await expect(page).toHaveTitle(/pondera/);
  expect(await page.locator('meta[name=description]').getAttribute('content')).toBeTruthy();
  const viewport = await page.locator('meta[name=viewport]').getAttribute('content');
  expect(viewport).toContain('width=device-width');
  expect(viewport).not.toMatch(/user-scalable=no|maximum-scale/);
  // Each picture and button says what it is.
  expect(await page.locator('img:not([alt])').count()).toBe(0);
  for (const button of await page.getByRole('button').all()) {
    if (await button.isVisible()) expect(await button.evaluate((b) => b.getAttribute('aria-label') || b.textContent?.trim() || b.getAttribute('title'))).toBeTruthy();
  }
  await expect(page.getByRole('main')).toHaveCount(1);
});
