import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { ElementHandle, Page } from 'puppeteer-core';

import { startEdge } from '../src/edge.js';
import { FIREFOX, withFirefox } from '../src/firefox.js';
import { expect, test } from '../src/fixtures.js';
import { SHIPPED, TOY } from '../src/places.js';

/** A camera that shows a test card, and that nobody has to allow. */
const CAMERA = { 'media.navigator.streams.fake': true, 'media.navigator.permission.disabled': true };

test.skip(!FIREFOX, 'FIREFOX names no Firefox to try');

test('stock Firefox shows a label too', async ({ edge, series }) => {
  await withFirefox(async (page) => {
    await page.goto(new URL('?source=sample', edge.url).href);
    await expectLabel(page, series.classes);
    expect(await textOf(page, '#probability')).toMatch(/^\d{1,3}\.\d %$/);
    await expect.poll(() => textOf(page, '#state')).toBe('connected');
    expect(await textOf(page, '#error')).toBe('');
  });
});

test('Firefox recognises a picture that is chosen, and one that is sent as a file', async ({ edge, series }) => {
  const folder = await mkdtemp(join(tmpdir(), 'picture-'));
  await withFirefox(async (page) => {
    await page.goto(new URL('?source=none&mode=edge', edge.url).href);
    const file = join(folder, 'picture.png');
    await writeFile(file, await page.screenshot());
    const input = await page.$('input#file');
    await (input as ElementHandle<HTMLInputElement> | null)?.uploadFile(file);
    await expectLabel(page, series.classes);
    expect(await textOf(page, '#source-detail')).toBe('picture.png');
    // As WebP or JPEG, whichever this browser writes.
    const sent = async () => Number((await textOf(page, '#bytes'))?.replace(',', ''));
    await expect.poll(sent, { timeout: 15_000 }).toBeGreaterThan(0);
  });
  await rm(folder, { recursive: true });
});

test('Firefox runs a camera, and stops it', async ({ edge, series }) => {
  await withFirefox(async (page) => {
    await page.goto(new URL('?source=camera', edge.url).href);
    await expectLabel(page, series.classes);
    const measured = async () => Number.parseInt((await textOf(page, '#session')) ?? '', 10);
    await expect.poll(measured, { timeout: 15_000 }).toBeGreaterThan(5);
    await page.click('#camera');
    await expect.poll(() => textOf(page, '#source-detail')).toBe('The camera is off.');
  }, CAMERA);
});

test('Firefox splits, and changes to another series', async ({ series }) => {
  const models = await mkdtemp(join(tmpdir(), 'models-'));
  await symlink(TOY, join(models, 'toy'));
  await symlink(SHIPPED, join(models, 'shipped'));
  const both = await startEdge(models, { args: ['--default-series', 'toy'] });
  try {
    await withFirefox(async (page) => {
      await page.goto(new URL('?source=sample&mode=split', both.url).href);
      await expect.poll(() => textOf(page, '#in-use'), { timeout: 30_000 }).toMatch(/^Split after layer/);
      await expect.poll(() => page.$eval('#series', (it) => it.children.length)).toBe(2);
      const other = await page.$eval('#series', (it) => {
        const { value, options } = it as HTMLSelectElement;
        return [...options].map((it) => it.value).find((it) => it !== value) ?? '';
      });
      await page.select('#series', other);
      await expectLabel(page, series.classes);
      await expect.poll(() => textOf(page, '#in-use'), { timeout: 30_000 }).toMatch(/^Split after layer/);
    });
  } finally {
    await both.kill();
    await rm(models, { recursive: true });
  }
});

async function expectLabel(page: Page, classes: string[]): Promise<void> {
  const label = new RegExp(`^(${classes.join('|')})$`);
  await expect.poll(() => textOf(page, '#label'), { timeout: 30_000 }).toMatch(label);
}

function textOf(page: Page, selector: string): Promise<string | undefined> {
  return page.$eval(selector, (it) => it.textContent?.trim());
}
