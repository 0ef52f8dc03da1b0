import AxeBuilder from '@axe-core/playwright';

import { expect, open, test } from '../src/fixtures.js';

const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
const SCREENS = {
  laptop: { width: 1280, height: 800 },
  phone: { width: 360, height: 740 },
  'small phone': { width: 320, height: 568 },
  'phone on its side': { width: 740, height: 360 },
};

for (const [screen, viewport] of Object.entries(SCREENS)) {
  for (const colorScheme of ['light', 'dark'] as const) {
    test(`WCAG AA on a ${screen}, ${colorScheme}`, async ({ page, edge, results }) => {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await open(page, edge);
      await results.take({ count: 20 });
      await page.evaluate(() => {
        for (const it of document.querySelectorAll('details')) it.open = true;
      });
      const { violations, passes } = await new AxeBuilder({ page }).withTags(RULES).analyze();
      expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map((it) => it.html).join(' ')}`)).toEqual([]);
      expect(passes.map((it) => it.id)).toContain('color-contrast');
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      expect(overflow, 'pixels that do not fit the width').toBeLessThanOrEqual(0);
    });
  }
}

test('every control is reached by the keyboard', async ({ page, edge, results }) => {
  await open(page, edge);
  await results.take({ count: 1 });
  const controls = await page.evaluate(() => {
    const usable = [...document.querySelectorAll<HTMLElement>('button, input, select, summary, a[href]')].filter(
      (it) => !it.matches(':disabled') && it.tabIndex >= 0 && it.checkVisibility({ visibilityProperty: true }),
    );
    return usable.map(globalThis.nameOf);
  });
  expect(controls.length).toBeGreaterThan(5);
  const reached = new Set<string>();
  for (const _ of controls) {
    await page.keyboard.press('Tab');
    reached.add(await page.evaluate(() => globalThis.nameOf(document.activeElement as HTMLElement)));
  }
  expect([...new Set(controls)].filter((it) => !reached.has(it))).toEqual([]);
});

test('a control works by the keyboard alone', async ({ page, edge, series, results }) => {
  await open(page, edge);
  await results.take({ count: 1 });
  await page.locator('#point').focus();
  await page.keyboard.press('End');
  const point = Number(await page.locator('#point').inputValue());
  expect(series.points[point]).toBeDefined();
  await results.next({ points: [point] });
});

test('the label is told to screen readers', async ({ page, edge, series, results }) => {
  await open(page, edge);
  await results.take({ count: 1 });
  await expect(page.locator('#announcement')).toHaveText(
    new RegExp(`^(Not sure: )?(${series.classes.join('|')}), \\d+ percent`),
  );
});

declare global {
  /** A name for a control; the buttons of a radio group are one. */
  var nameOf: (element: HTMLElement) => string;
}

test.beforeEach(async ({ page }) => {
  await page.addInitScript(() => {
    globalThis.nameOf = (element) => {
      if (element instanceof HTMLInputElement && element.type === 'radio') return `radio ${element.name}`;
      return `${element.tagName} ${element.id || element.textContent?.trim()}`;
    };
  });
});
