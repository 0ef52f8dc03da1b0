import { withExample } from '../src/example.js';
import { FIREFOX, withFirefox } from '../src/firefox.js';
import { expect, test } from '../src/fixtures.js';
import { type Differences, differences, recordClip } from '../src/seen.js';

/** Chromium's own arithmetic of BT.709 is that coarse; of everything else, two levels are seen. */
const TOLERANCE = 5;

function expectSeen(found: Differences): void {
  const off = Object.entries(found).filter(([, levels]) => !(levels <= TOLERANCE));
  expect(Object.fromEntries(off)).toEqual({});
  expect(Object.keys(found).length).toBeGreaterThan(50);
}

test('the network sees of every source what the browser draws of it', async ({ page, series }) => {
  test.slow();
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const clip = await page.evaluate(recordClip);
    expectSeen(await page.evaluate(differences, clip));
    if (FIREFOX) {
      await withFirefox(async (page) => {
        await page.goto(url);
        expectSeen(await page.evaluate(differences, clip));
      });
    }
  });
});

test('a canvas that is empty once it was shown is seen while it is drawn', async ({ page, series }) => {
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const reds = await page.evaluate(async () => {
      const { SplitClient } = await import('/split-inference/dist/index.js' as string);
      const client = await SplitClient.connect({ pixels: true });
      const canvas = document.createElement('canvas');
      document.body.append(canvas);
      const context = canvas.getContext('webgl') as WebGLRenderingContext;
      const draw = () => {
        context.clearColor(1, 0, 0, 1);
        context.clear(context.COLOR_BUFFER_BIT);
        requestAnimationFrame(draw);
      };
      draw();
      const reds: number[] = [];
      for await (const { pixels } of client.stream(canvas)) {
        reds.push(pixels.data[0]);
        if (reds.length === 12) break;
      }
      client.close();
      return reds;
    });
    expect(reds).toEqual(new Array(12).fill(255));
  });
});

test('a picture of another origin is told with what its server has to answer', async ({ page, series }) => {
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const picture = await page.screenshot();
    await page.route('https://elsewhere.example/**', (route) =>
      route.fulfill({ contentType: 'image/png', body: picture }),
    );
    const error = await page.evaluate(async () => {
      const { SplitClient } = await import('/split-inference/dist/index.js' as string);
      const client = await SplitClient.connect();
      const image = document.createElement('img');
      image.src = 'https://elsewhere.example/picture.png';
      await image.decode();
      const asked = client.infer(image).catch(({ code, message }: Error & { code: string }) => ({ code, message }));
      const error = await asked;
      client.close();
      return error;
    });
    expect(error).toMatchObject({
      code: 'source-invalid',
      message: expect.stringMatching(/another origin.*crossOrigin.*Access-Control-Allow-Origin/),
    });
  });
});
