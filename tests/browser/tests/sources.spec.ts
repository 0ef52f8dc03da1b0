import type { Page } from '@playwright/test';

import { errorsOf, expect, open, test } from '../src/fixtures.js';
import { recordClip } from '../src/recording.js';

/** A picture, as a file that the page can open. */
async function picture(page: Page, name: string) {
  return { name, mimeType: 'image/png', buffer: await page.locator('h1').screenshot() };
}

test('a pause stops frames until it ends', async ({ page, edge, results }) => {
  await open(page, edge);
  await results.take({ count: 3 });
  await page.click('#pause');
  await expect(page.locator('#pause')).toHaveAttribute('aria-pressed', 'true');
  const paused = () => page.evaluate(() => document.querySelector<HTMLVideoElement>('video#picture')?.paused);
  expect(await paused()).toBe(true);
  await expect(page.locator('#rate')).toHaveText('0');
  // Those on their way still come; after them, the page asks for none.
  const inFlight = await results.count();
  await page.selectOption('#point', { index: 1 });
  await page.selectOption('#point', 'auto');
  expect((await results.count()) - inFlight).toBeLessThanOrEqual(4);
  await page.click('#pause');
  await results.next({ count: 5 });
  expect(await paused()).toBe(false);
});

test('the camera can be stopped, and started again', async ({ page, edge, results }) => {
  await open(page, edge);
  await results.take({ count: 1 });
  const track = await page.evaluateHandle(() => {
    const stream = document.querySelector<HTMLVideoElement>('video#picture')?.srcObject;
    return stream instanceof MediaStream ? stream.getVideoTracks()[0] : undefined;
  });
  expect(await track.evaluate((it) => it?.readyState)).toBe('live');
  await page.getByRole('button', { name: 'Stop camera' }).click();
  expect(await track.evaluate((it) => it?.readyState)).toBe('ended');
  await expect(page.locator('#source-detail')).toHaveText('The camera is off.');
  await expect(page.locator('#label')).toHaveText('No picture');
  for (const figure of ['#latency', '#bytes', '#rate']) await expect(page.locator(figure)).toHaveText('–');
  await page.getByRole('button', { name: 'Camera', exact: true }).click();
  await results.next({ count: 3 });
});

test('the camera used last is asked for again', async ({ page, edge, results }) => {
  await open(page, edge);
  await results.take({ count: 1 });
  const used = await page.evaluate(() => localStorage.getItem('camera'));
  expect(used).toBeTruthy();
  await page.addInitScript(() => {
    const { mediaDevices } = navigator;
    const ask = mediaDevices.getUserMedia.bind(mediaDevices);
    mediaDevices.getUserMedia = (wish) => {
      document.documentElement.dataset.wish = JSON.stringify(wish);
      return ask(wish);
    };
  });
  await page.reload();
  await results.take({ count: 1 });
  expect(await page.evaluate(() => JSON.parse(document.documentElement.dataset.wish ?? '{}'))).toMatchObject({
    video: { deviceId: { ideal: used } },
  });
});

test('several files are shown in turn, and one that is none does not keep the others back', async ({
  page,
  edge,
  results,
}) => {
  await open(page, edge, { source: 'none' });
  const none = { name: 'none.png', mimeType: 'image/png', buffer: Buffer.from('no picture') };
  await page.setInputFiles('#file', [await picture(page, 'first.png'), none, await picture(page, 'third.png')]);
  await results.take({});
  await expect(page.locator('#source-detail')).toHaveText('1 of 3: first.png');
  await page.click('#next');
  await expect(page.locator('#error')).toHaveText(/none\.png cannot be read/);
  await expect(page.locator('#source-detail')).toHaveText(/^2 of 3:/);
  await page.click('#next');
  await expect(page.locator('#source-detail')).toHaveText('3 of 3: third.png');
  await expect(page.locator('#picture')).toHaveAccessibleName('third.png');
  await page.click('#previous');
  await page.click('#previous');
  await expect(page.locator('#picture')).toHaveAccessibleName('first.png');
  // By itself.
  await expect(page.locator('#error')).toHaveText(/none\.png cannot be read/);
  await expect(page.locator('#picture')).toHaveAccessibleName('third.png', { timeout: 15_000 });
});

test('one video after the other is shown without an error', async ({ page, edge, results }) => {
  await open(page, edge, { source: 'none' });
  const clip = await page.evaluate(recordClip);
  const errors = await errorsOf(page);
  for (let video = 0; video < 12; video += 1) {
    const name = `${video}.webm`;
    await page.setInputFiles('#file', { name, mimeType: 'video/webm', buffer: Buffer.from(clip) });
    await expect(page.locator('#source-detail')).toHaveText(name);
    await results.next();
  }
  expect(await errors()).toEqual([]);
});

test('a picture can be pasted', async ({ page, edge, results }) => {
  await open(page, edge, { source: 'none' });
  const { buffer } = await picture(page, 'pasted.png');
  await page.evaluate(
    (bytes) => {
      const clipboardData = new DataTransfer();
      clipboardData.items.add(new File([new Uint8Array(bytes)], 'pasted.png', { type: 'image/png' }));
      document.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true }));
    },
    [...buffer],
  );
  await results.take({});
  await expect(page.locator('#picture')).toHaveAccessibleName('pasted.png');
});

test.describe('a picture by its address', () => {
  const ADDRESS = 'https://pictures.example/picture.png';
  test.use({ expected: [/Failed to load resource/] });

  test('is shown, or refused with the way out', async ({ page, edge, results }) => {
    await open(page, edge, { source: 'none' });
    const { buffer } = await picture(page, 'picture.png');
    await page.route(ADDRESS, (route) => route.fulfill({ body: buffer, contentType: 'image/png' }));
    await page.fill('#address', ADDRESS);
    await page.getByRole('button', { name: 'Open' }).click();
    await results.take({});
    await expect(page.locator('#picture')).toHaveAccessibleName(ADDRESS);

    const missing = 'https://pictures.example/missing.png';
    await page.route(missing, (route) => route.fulfill({ status: 404 }));
    await page.fill('#address', missing);
    await page.keyboard.press('Enter');
    await expect(page.locator('#error')).toHaveText(/does not let other pages read it.*Save the picture/);
    await expect(page.locator('#picture')).toHaveAccessibleName(ADDRESS);
  });
});

test.describe('an address that the page must not load from', () => {
  test.use({ expected: [/Content Security Policy/] });

  test('is refused with that reason', async ({ page, edge }) => {
    await open(page, edge, { source: 'none' });
    await page.fill('#address', 'http://pictures.example/picture.png');
    await page.getByRole('button', { name: 'Open' }).click();
    await expect(page.locator('#error')).toHaveText(/may only load pictures by HTTPS/);
  });
});

test('a file that is neither picture nor video is told so', async ({ page, edge }) => {
  await open(page, edge, { source: 'none' });
  const file = { name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from('no picture') };
  await page.setInputFiles('#file', file);
  await expect(page.locator('#error')).toHaveText(/notes\.txt is neither a picture nor a video/);
});

test('a HEIC picture that the browser does not read is told with the way out', async ({ page, edge }) => {
  await open(page, edge, { source: 'none' });
  const file = { name: 'IMG_0001.HEIC', mimeType: 'image/heic', buffer: Buffer.from('no picture') };
  await page.setInputFiles('#file', file);
  await expect(page.locator('#error')).toHaveText(/IMG_0001\.HEIC.*share it as JPEG/);
});

test('a file says that it is being opened', async ({ page, edge }) => {
  // As a very large picture would take.
  await page.addInitScript(() => {
    globalThis.createImageBitmap = () => new Promise(() => {});
  });
  await open(page, edge, { source: 'none' });
  await page.setInputFiles('#file', await picture(page, 'large.png'));
  await expect(page.locator('#source-detail')).toHaveText('Opening large.png …');
});
