/** Against a server that is slow, thinks or fails when it is asked to. */
import { readFile } from 'node:fs/promises';
import AxeBuilder from '@axe-core/playwright';
import { FAKE } from './places';
import { answers, expect, field, send, settled, test } from './help';

test.beforeEach(async ({ page }) => {
  await page.goto(FAKE);
  await expect(page.getByRole('button', { name: 'Model: slow' })).toBeVisible();
});

test('an answer streams, is stopped, and stays marked after a reload', async ({ page }) => {
  await send(page, 'slow');
  await expect(answers(page)).toContainText('word3');
  await expect(answers(page)).not.toContainText('word150');
  await page.getByRole('button', { name: /^Stop \(/ }).click();
  await expect(answers(page)).toContainText('Stopped before its end');
  await page.waitForTimeout(600);
  await page.reload();
  await expect(answers(page)).toContainText('word3');
  await expect(answers(page)).toContainText('Stopped before its end');
});

test('an answer that a reload cuts is kept and marked', async ({ page }) => {
  await send(page, 'slow');
  await expect(answers(page)).toContainText('word12');
  await page.waitForTimeout(600);
  await page.reload();
  await expect(answers(page)).toContainText('word3');
  await expect(answers(page)).toContainText('Stopped before its end');
});

test('a stopped answer goes on where it ended', async ({ page }) => {
  await send(page, 'slow');
  await expect(answers(page)).toContainText('word3');
  await page.keyboard.press('Escape');
  const asked = page.waitForRequest('**/v1/chat/completions');
  await page.getByRole('button', { name: 'Continue' }).click();
  const body = (await asked).postDataJSON();
  expect(body.continue_final_message).toBe(true);
  expect(body.messages.at(-1).content).toContain('word3');
  await settled(page);
  await expect(answers(page)).toContainText('Yes: word0');
});

test('regenerating keeps the earlier answer beside the new one', async ({ page }) => {
  await send(page, 'hello');
  await settled(page);
  await page.getByRole('button', { name: 'Regenerate' }).click();
  await settled(page);
  await expect(answers(page)).toContainText('2 of 2');
  await page.getByRole('button', { name: 'Earlier answer' }).click();
  await expect(answers(page)).toContainText('1 of 2');
});

test('editing a message cuts what follows it', async ({ page }) => {
  for (const text of ['first', 'second', 'third']) {
    await send(page, text);
    await settled(page);
  }
  await page.getByText('second', { exact: true }).hover();
  await page.getByRole('button', { name: 'Edit message' }).nth(1).click();
  await expect(page.locator('.editor')).toContainText('the message after it will be cut');
  // The caret moves to the end when it gets there: not while the text is replaced.
  await expect(page.getByLabel('Edit your message')).toBeFocused();
  await page.getByLabel('Edit your message').fill('echo');
  await page.locator('.editor').getByRole('button', { name: 'Send' }).click();
  await settled(page);
  await expect(answers(page)).toHaveCount(2);
  const body = JSON.parse((await answers(page).nth(1).locator('.prose').textContent())!);
  expect(body.messages.map((m: { content: string }) => m.content)).toEqual(['first', 'Yes: first', 'echo']);
});

test('thoughts are folded', async ({ page }) => {
  await send(page, 'think');
  await settled(page);
  await expect(answers(page)).toContainText('The answer is 42.');
  await expect(page.getByText('First I weigh')).toHaveCount(0);
  await page.getByText('Thoughts').click();
  await expect(page.getByText('First I weigh the question.')).toBeVisible();
});

test('Markdown is shown, and nothing in it acts', async ({ page, context }) => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await send(page, 'markdown');
  await settled(page);
  const prose = page.locator('.prose');
  await expect(prose.locator('strong')).toHaveText('bold');
  await expect(prose.locator('td').first()).toHaveText('small');
  await expect(prose.locator('pre .hljs-keyword').first()).toHaveText('fn');
  await expect(prose.locator('img, script')).toHaveCount(0);
  await expect(prose.locator('a')).toHaveCount(2);
  await expect(prose.locator('a').first()).toHaveAttribute('rel', /noopener/);
  await expect(prose).toContainText('<script>');
  await page.getByRole('button', { name: 'Copy code' }).click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toMatch(/^\/\/\/ The largest[\s\S]*}\n$/);
});

test('errors are shown as the server words them, before and within an answer, with a retry', async ({ page }) => {
  await send(page, 'overflow');
  await expect(page.getByRole('alert')).toContainText('900 tokens do not fit: the context holds 512');
  await send(page, 'break');
  await expect(page.getByRole('alert').last()).toContainText('the answer was not ready in time');
  await expect(answers(page).last()).toContainText('It begins');
  await send(page, 'cut');
  await expect(page.getByRole('alert').last()).toContainText(/connection/);
  await send(page, 'busy');
  await expect(page.getByRole('alert').last()).toContainText('too many requests wait');
  await expect(page.getByRole('alert').last()).toContainText('in 1 s');
  await page.getByRole('button', { name: 'Retry' }).click();
  await settled(page);
  await expect(answers(page).last()).toContainText('Yes: busy');
});

test('a limit that was reached is marked', async ({ page }) => {
  await send(page, 'long');
  await expect(answers(page)).toContainText('Reached the limit of tokens');
});

test('a server that is gone is said to be gone', async ({ page }) => {
  await page.route('**/v1/chat/completions', (route) => route.abort());
  await send(page, 'hello');
  await expect(page.getByRole('alert')).toContainText('cannot be reached');
});

test('conversations are renamed, exported and deleted', async ({ page }) => {
  await send(page, 'hello there');
  await settled(page);
  const open = () => page.getByRole('button', { name: /^More about/ }).click();
  await open();
  await page.getByRole('button', { name: 'Rename' }).click();
  await page.getByLabel('Title').fill('A greeting');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('link', { name: /A greeting/ })).toBeVisible();
  for (const [kind, ending] of [['JSON', 'json'], ['Markdown', 'md']]) {
    await open();
    const file = page.waitForEvent('download');
    await page.getByRole('button', { name: `Export as ${kind}` }).click();
    const done = await file;
    expect(done.suggestedFilename()).toBe(`a-greeting.${ending}`);
    const text = await readFile(await done.path(), 'utf8');
    expect(text).toContain('Yes: hello there');
    if (ending === 'json') expect(JSON.parse(text).turns).toHaveLength(1);
  }
  await open();
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByRole('link', { name: /A greeting/ })).toHaveCount(0);
  await page.reload();
  await expect(page.getByText('Conversations stay in this browser.')).toBeVisible();
});

test('everything can be done by keyboard', async ({ page }) => {
  await expect(field(page)).toBeFocused();
  await page.keyboard.type('hello');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('again');
  await page.keyboard.press('Enter');
  await settled(page);
  await expect(page.locator('.said-text')).toHaveText('hello\nagain');
  await page.keyboard.press('Alt+r');
  await expect(answers(page)).toContainText('2 of 2');
  await page.keyboard.press('Alt+e');
  await expect(page.getByLabel('Edit your message')).toBeFocused();
  await page.keyboard.press('Escape');
  await page.keyboard.press('Alt+s');
  await expect(page.getByLabel('System prompt')).toBeVisible();
  await page.keyboard.press('Alt+s');
  await page.keyboard.press('Alt+m');
  await expect(page.getByRole('group', { name: 'Models' })).toBeVisible();
  await page.keyboard.press('Escape');
  await page.keyboard.press('Alt+l');
  await expect(page.getByRole('heading', { name: 'Load' })).toBeVisible();
  await page.keyboard.press('Alt+i');
  await expect(page.getByRole('heading', { name: 'Models' })).toBeVisible();
  await page.keyboard.press('Alt+n');
  await expect(page.getByRole('heading', { name: 'What is on your mind?' })).toBeVisible();
  await page.locator('body').press('?');
  // In the field it is a letter.
  await expect(page.getByRole('dialog')).toHaveCount(0);
  await page.evaluate(() => (document.activeElement as HTMLElement).blur());
  await page.keyboard.press('?');
  await expect(page.getByRole('dialog', { name: 'Keyboard shortcuts' })).toBeVisible();
  await page.keyboard.press('Escape');
  await page.keyboard.press('/');
  await expect(field(page)).toBeFocused();
  // Whatever has the focus shows it.
  for (let i = 0; i < 12; i += 1) {
    await page.keyboard.press('Tab');
    const shown = await page.evaluate(() => {
      const at = document.activeElement!;
      const style = getComputedStyle(at);
      return at === document.body || at.closest('.field') !== null || style.outlineStyle !== 'none';
    });
    expect(shown).toBe(true);
  }
});

test('colours follow the system and the person', async ({ page }) => {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.emulateMedia({ colorScheme: 'dark' });
  const dark = await ground();
  expect(dark).not.toBe(light);
  await page.getByRole('button', { name: /^Colours/ }).click();
  expect(await ground()).toBe(light);
  await page.reload();
  expect(await ground()).toBe(light);
  await page.getByRole('button', { name: /^Colours/ }).click();
  await page.emulateMedia({ colorScheme: 'light' });
  expect(await ground()).toBe(dark);
});

test('on a phone everything has its place', async ({ page }) => {
  await page.setViewportSize({ width: 360, height: 740 });
  await page.getByRole('button', { name: /^Model:/ }).click();
  await page.getByRole('checkbox', { name: 'other side by side' }).check();
  await page.keyboard.press('Escape');
  await send(page, 'markdown');
  await settled(page);
  const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
  expect(await fits()).toBe(true);
  const [one, two] = await Promise.all([0, 1].map((i) => answers(page).nth(i).boundingBox()));
  expect(two!.y).toBeGreaterThan(one!.y + one!.height);
  await page.getByRole('button', { name: /^Conversations/ }).click();
  await page.getByRole('link', { name: 'Load' }).click();
  await expect(page.getByRole('region', { name: 'Load of slow' })).toBeVisible();
  expect(await fits()).toBe(true);
  await page.goto(`${FAKE}/#/models`);
  await expect(page.locator('.model')).toBeVisible();
  expect(await fits()).toBe(true);
});

for (const colorScheme of ['light', 'dark'] as const) {
  test(`nothing serious stands in the way of anybody, ${colorScheme}`, async ({ page }) => {
    await page.emulateMedia({ colorScheme });
    const look = async (what: string) => {
      const { violations } = await new AxeBuilder({ page }).analyze();
      const serious = violations.filter((v) => v.impact === 'serious' || v.impact === 'critical');
      expect(serious.map((v) => `${what}: ${v.id} ${v.nodes.map((n) => n.html).join(' ')}`)).toEqual([]);
    };
    await look('start');
    await page.getByRole('button', { name: 'Probabilities' }).click();
    await send(page, 'markdown');
    await settled(page);
    await send(page, 'think');
    await settled(page);
    await send(page, 'overflow');
    await expect(page.getByRole('alert')).toBeVisible();
    await page.getByRole('button', { name: /^Settings/ }).click();
    await look('chat');
    await page.getByRole('button', { name: /^Model:/ }).click();
    await look('models to choose');
    await page.goto(`${FAKE}/#/models`);
    await expect(page.locator('.model')).toBeVisible();
    await look('models');
    await page.goto(`${FAKE}/#/load`);
    await expect(page.getByRole('region', { name: 'Load of slow' })).toBeVisible();
    await look('load');
    await page.getByRole('button', { name: /^Keyboard/ }).click();
    await look('keys');
  });
}
