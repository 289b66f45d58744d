import { expect, test as plain, type Page } from '@playwright/test';

/** A test whose page must ask nobody else for anything and say nothing of its policy being broken. */
export const test = plain.extend<{ strict: void }>({
  strict: [
    async ({ page, context }, use) => {
      const wrong: string[] = [];
      await context.addInitScript(() =>
        addEventListener('securitypolicyviolation', (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI}`)),
      );
      page.on('request', (r) => {
        const { hostname, protocol } = new URL(r.url());
        if (hostname !== '127.0.0.1' && protocol !== 'blob:') wrong.push(`asked ${r.url()}`);
      });
      page.on('pageerror', (e) => wrong.push(`error ${e.message}`));
      page.on('console', (m) => /policy|Refused to|TrustedHTML/i.test(m.text()) && wrong.push(m.text()));
      await use();
      expect(wrong).toEqual([]);
    },
    { auto: true },
  ],
});

export { expect };

export const field = (page: Page) => page.getByRole('textbox', { name: 'Message', exact: true });
export const answers = (page: Page) => page.getByRole('article', { name: /^Answer of/ });

export async function send(page: Page, text: string): Promise<void> {
  await field(page).fill(text);
  await page.getByRole('button', { name: /^Send/ }).click();
}

/** Waits until nothing is being written any more. */
export async function settled(page: Page): Promise<void> {
  await expect(page.getByRole('button', { name: /^Send/ })).toBeVisible();
  await expect(page.locator('[aria-busy=true]')).toHaveCount(0);
}
