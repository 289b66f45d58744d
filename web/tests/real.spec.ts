/** Against the program itself, with the model that it carries. */
import { KEY, KEYED } from './places';
import { CSP } from '../csp';
import { answers, expect, field, send, settled, test } from './help';

test('the page comes with its headers, and other clients get a line of text', async ({ page, request }) => {
  const response = (await page.goto('/'))!;
  const headers = response.headers();
  expect(headers['content-security-policy']).toBe(CSP);
  expect(headers['x-content-type-options']).toBe('nosniff');
  expect(headers['referrer-policy']).toBe('no-referrer');
  expect(headers['x-frame-options']).toBe('DENY');
  const script = await page.locator('script[type=module]').getAttribute('src');
  const asset = await request.get(script!.replace('./', '/'));
  expect(asset.headers()['cache-control']).toContain('immutable');
  expect(asset.headers()['content-encoding']).toBe('gzip');
  const plain = await request.get('/', { headers: { accept: '*/*' } });
  expect(plain.headers()['content-type'] ?? 'text/plain').toContain('text/plain');
  expect(await plain.text()).toContain('is running');
});

test('a message is sent, its answer comes, and both are there after a reload', async ({ page }) => {
  await page.goto('/');
  await expect(field(page)).toBeFocused();
  await send(page, 'Who are you?');
  await settled(page);
  await expect(answers(page)).toContainText(/pebble/i);
  await expect(answers(page)).toContainText(/tokens · /);
  await expect(page).toHaveTitle('Who are you? · pondera');
  await expect(page.locator('.context')).toContainText('of 512 tokens');
  const text = await answers(page).locator('.prose').textContent();
  await page.waitForTimeout(600);
  await page.reload();
  await expect(answers(page).locator('.prose')).toHaveText(text!);
  await page.goto('/');
  await page.getByRole('link', { name: /Who are you/ }).click();
  await expect(answers(page)).toHaveCount(1);
});

test('the values of sampling and the system prompt are sent as they are set, and no others', async ({ page }) => {
  await page.goto('/');
  await page.getByRole('button', { name: /^Settings/ }).click();
  await page.getByLabel('System prompt').fill('Be brief.');
  for (const [name, value] of [['Temperature', '0'], ['Top p', '0.9'], ['Top k', '40'], ['Min p', '0.05'], ['Seed', '7'], ['Max tokens', '12']]) {
    await page.getByRole('spinbutton', { name: new RegExp(`^${name}`) }).fill(value!);
  }
  await page.getByLabel(/^Stop/).fill('END\n\\n\\n');
  const asked = page.waitForRequest('**/v1/chat/completions');
  await send(page, 'Hello');
  const body = (await asked).postDataJSON();
  expect(body).toEqual({
    model: 'pebble',
    messages: [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'Hello' }],
    temperature: 0, top_p: 0.9, top_k: 40, min_p: 0.05, seed: 7, max_tokens: 12, stop: ['END', '\n\n'],
    stream: true, stream_options: { include_usage: true },
  });
  await settled(page);
  await expect(answers(page).locator('.note.error')).toHaveCount(0);
});

test('what the server refuses is shown in its words', async ({ page }) => {
  await page.goto('/');
  await page.getByRole('button', { name: /^Settings/ }).click();
  await page.getByRole('spinbutton', { name: /^Temperature/ }).fill('9');
  await send(page, 'Hello');
  await expect(page.getByRole('alert')).toContainText('temperature');
  await page.getByRole('button', { name: 'Reset' }).click();
  await page.getByRole('button', { name: 'Retry' }).click();
  await settled(page);
  await expect(page.getByRole('alert')).toHaveCount(0);
  await expect(answers(page).locator('.prose')).not.toBeEmpty();
});

test('a text that does not fit the context is an error that says so', async ({ page }) => {
  await page.goto('/');
  await send(page, 'a long text '.repeat(400));
  await expect(page.getByRole('alert')).toContainText('do not fit');
  await expect(page.getByRole('button', { name: 'New conversation' })).toHaveCount(2);
});

test('models answer side by side, and another can take over', async ({ page }) => {
  await page.goto('/');
  await page.getByRole('button', { name: /^Model:/ }).click();
  await page.getByRole('checkbox', { name: 'second side by side' }).check();
  await page.keyboard.press('Escape');
  await send(page, 'Who are you?');
  await settled(page);
  await expect(answers(page)).toHaveCount(2);
  const [one, two] = await Promise.all([0, 1].map((i) => answers(page).nth(i).boundingBox()));
  expect(one!.y).toBe(two!.y);
  expect(two!.x).toBeGreaterThan(one!.x + one!.width);

  await page.getByRole('button', { name: /^Model:/ }).click();
  await page.getByRole('button', { name: /^second/ }).click();
  const asked = page.waitForRequest('**/v1/chat/completions');
  await send(page, 'And what can you do?');
  const body = (await asked).postDataJSON();
  expect(body.model).toBe('second');
  expect(body.messages.map((m: { role: string }) => m.role)).toEqual(['user', 'assistant', 'user']);
  await settled(page);
  await expect(answers(page)).toHaveCount(3);
});

test('probabilities of tokens are tinted and shown for the one pointed at', async ({ page }) => {
  await page.goto('/');
  await page.getByRole('button', { name: 'Probabilities' }).click();
  await send(page, 'Tell me a story.');
  await settled(page);
  const tokens = page.locator('.tokens .tok');
  expect(await tokens.count()).toBeGreaterThan(10);
  await tokens.nth(12).hover();
  const card = page.locator('.token-card');
  await expect(card.locator('li')).toHaveCount(5);
  await expect(card).toContainText('%');
  const [at, shown] = await Promise.all([tokens.nth(12).boundingBox(), card.boundingBox()]);
  expect(Math.min(Math.abs(shown!.y - at!.y - at!.height), Math.abs(at!.y - shown!.y - shown!.height))).toBeLessThan(20);
  // The same by keyboard.
  await page.mouse.move(0, 0);
  await page.locator('.tokens').focus();
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowRight');
  await expect(card).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(card).toHaveCount(0);
  await page.getByRole('button', { name: 'Probabilities' }).click();
  await expect(page.locator('.prose')).not.toBeEmpty();
});

test('a key is asked for, kept for the tab, and used at once', async ({ page }) => {
  await page.goto(KEYED);
  const dialog = page.getByRole('dialog', { name: 'Key' });
  await dialog.getByLabel('Key').fill('wrong');
  await dialog.getByRole('button', { name: 'Use the key' }).click();
  await expect(dialog).toContainText('does not know the key');
  await dialog.getByLabel('Key').fill(KEY);
  await page.keyboard.press('Enter');
  await expect(dialog).toHaveCount(0);
  await expect(page.getByRole('button', { name: 'Model: pebble' })).toBeVisible();
  await send(page, 'Hello');
  await settled(page);
  await expect(answers(page).locator('.prose')).not.toBeEmpty();
  await page.reload();
  await expect(page.getByRole('button', { name: 'Model: pebble' })).toBeVisible();
  await expect(dialog).toHaveCount(0);
  expect(await page.evaluate(() => JSON.stringify(localStorage))).not.toContain(KEY);
});

test('the pages of models and of the load show what the server knows', async ({ page }) => {
  await page.goto('/#/models');
  await expect(page.getByRole('heading', { name: 'pebble' })).toBeVisible();
  for (const text of ['qwen3_moe', '4.7 MiB', '512 tokens', 'Licence', 'Layers', 'Experts', 'KV cache per token']) {
    await expect(page.locator('.model')).toContainText(text);
  }
  await page.getByRole('button', { name: 'Start a conversation' }).click();
  await send(page, 'Tell me a story.');
  await settled(page);
  await page.goto('/#/load');
  const card = page.getByRole('region', { name: 'Load of pebble' });
  await expect(card).toContainText('Written, tokens/s');
  await expect(card).toContainText('pages');
  await expect(card.locator('.tile', { hasText: 'Requests taken' }).locator('.tile-value')).not.toHaveText('0');
});

test('whoever gives no key is not asked again and again', async ({ page }) => {
  await page.goto(`${KEYED}/#/load`);
  const dialog = page.getByRole('dialog', { name: 'Key' });
  await dialog.getByRole('button', { name: 'Not now' }).click();
  await expect(page.getByRole('alert')).toContainText('the key is missing');
  await page.waitForTimeout(2500);
  await expect(dialog).toHaveCount(0);
});
