import { withExample } from '../src/example.js';
import { expect, test } from '../src/fixtures.js';

/** Calls that make no sense, as a page may make them by mistake, with the codes of the errors that tell so. */
const CALLS: Record<string, string> = {
  "connect({ url: '' })": 'url-invalid',
  "connect({ url: 'localhost:8080' })": 'url-invalid',
  "connect({ url: '127.0.0.1:8080/edge' })": 'url-invalid',
  "connect({ url: 'https://' })": 'url-invalid',
  "connect({ url: 'ftp://edge.example/' })": 'url-invalid',
  'connect({ url: 5 })': 'url-invalid',
  'connect({ url: null })': 'url-invalid',
  'connect(null)': 'argument-invalid',
  'connect({ token: 5 })': 'argument-invalid',
  "connect({ pixels: 'yes' })": 'argument-invalid',
  'connect({ onProgress: {} })': 'argument-invalid',
  "connect({ signal: 'now' })": 'argument-invalid',
  'connect({ goal: null })': 'goal-invalid',
  "connect({ goal: { kind: 'lowestLatency' } })": 'goal-invalid',
  "connect({ goal: { kind: 'fixed', point: 9999 } })": 'no-such-point',
  "connect({ goal: { kind: 'fixed', point: -1 } })": 'no-such-point',
  "connect({ goal: { kind: 'fixed', point: 1e300 } })": 'no-such-point',
  'client.setGoal(null)': 'goal-invalid',
  'client.setGoal({})': 'goal-invalid',
  "client.setGoal('85')": 'goal-invalid',
  "client.setGoal({ kind: 'lowestLatency', atLeast: NaN })": 'goal-invalid',
  "client.setGoal({ kind: 'lowestLatency', atLeast: '85' })": 'goal-invalid',
  "client.setGoal({ kind: 'lowestLatency', atLeast: 85, among: 'cloud' })": 'goal-invalid',
  "client.setGoal({ kind: 'highestAccuracy', atMost: Infinity })": 'goal-invalid',
  "client.setGoal({ kind: 'fixed', point: 0.5 })": 'goal-invalid',
  "client.setGoal({ kind: 'fixed', point: -1 })": 'no-such-point',
  'client.setThrottle(null)': 'throttle-invalid',
  "client.setThrottle({ device: '5' })": 'throttle-invalid',
  'client.setThrottle({ device: null })': 'throttle-invalid',
  'client.setThrottle({ link: 5 })': 'throttle-invalid',
  'client.setThrottle({ link: { bytesPerSecond: 9e9 } })': 'throttle-invalid',
  "client.on('results', () => {})": 'argument-invalid',
  "client.on('state')": 'argument-invalid',
  'client.infer()': 'source-invalid',
  "client.infer('picture.png')": 'source-invalid',
  'client.infer(document.body)': 'source-invalid',
  'client.infer(new ImageData(9, 9), null)': 'argument-invalid',
  "client.infer(new ImageData(9, 9), { signal: 'now' })": 'argument-invalid',
  'client.infer(made.detached)': 'source-invalid',
  'client.infer(made.closed)': 'source-invalid',
  'client.infer(made.closedFrame)': 'source-invalid',
  "client.infer(document.createElement('video'))": 'source-not-ready',
  "client.infer(document.createElement('img'))": 'source-not-ready',
  'client.infer(made.empty)': 'source-not-ready',
  'client.stream().next()': 'source-invalid',
  'client.stream(made.media).next()': 'source-invalid',
  'client.stream(made.audio).next()': 'source-invalid',
  'client.stream(new ImageData(9, 9)).next()': 'source-invalid',
  "client.stream(made.canvas, { signal: 'now' }).next()": 'argument-invalid',
};

// The calls are given as text.
test.use({ bypassCSP: true });

test('calls that make no sense are refused with an error that says why', async ({ page, series }) => {
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const told = await page.evaluate(async (calls) => {
      const { SplitClient, SplitError } = await import('/split-inference/dist/index.js' as string);
      const client = await SplitClient.connect();
      const connect = (options: unknown) => SplitClient.connect(options);
      const canvas = document.createElement('canvas');
      canvas.getContext('2d')?.fillRect(0, 0, 9, 9);
      const empty = document.createElement('canvas');
      empty.width = 0;
      const [detached, closed] = [new ImageData(9, 9), await createImageBitmap(canvas)];
      structuredClone(detached.data.buffer, { transfer: [detached.data.buffer] });
      closed.close();
      const closedFrame = new VideoFrame(canvas, { timestamp: 0 });
      closedFrame.close();
      const media = canvas.captureStream();
      const [audio] = new AudioContext().createMediaStreamDestination().stream.getAudioTracks();
      const made = { canvas, empty, detached, closed, closedFrame, media, audio };
      const told: Record<string, string> = {};
      for (const call of calls) {
        try {
          await new Function('client', 'connect', 'made', `return ${call}`)(client, connect, made);
          told[call] = 'nothing';
        } catch (thrown) {
          told[call] = thrown instanceof SplitError ? (thrown as { code: string }).code : `${thrown}`;
        }
      }
      client.close();
      return told;
    }, Object.keys(CALLS));
    expect(told).toEqual(CALLS);
  });
});

test('what is unusual but makes sense is taken', async ({ page, series }) => {
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const { host } = new URL(url);
    const results = await page.evaluate(async (host) => {
      const { SplitClient } = await import('/split-inference/dist/index.js' as string);
      const results: number[] = [];
      for (const url of [`ws://${host}`, `http://user:password@${host}/`, new URL(`http://${host}?query#fragment`)]) {
        const client = await SplitClient.connect({ url });
        const frame = document.createElement('iframe');
        document.body.append(frame);
        const Inner = (frame.contentWindow as unknown as { ImageData: typeof ImageData }).ImageData;
        results.push((await client.infer(new Inner(40, 40))).probability);
        client.close();
      }
      return results;
    }, host);
    for (const it of results) expect(it).toBeGreaterThan(0);
    expect(results).toHaveLength(3);
  });
});

test('a goal may be an object of a framework, and hold more than is asked for', async ({ page, series }) => {
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const points = await page.evaluate(async () => {
      const { SplitClient } = await import('/split-inference/dist/index.js' as string);
      const reactive = (point: number) => new Proxy({ kind: 'fixed', point, change: () => {} }, {});
      const client = await SplitClient.connect({ goal: reactive(0) });
      const isSending: number[] = client.series.points.flatMap(({ split, index }: { split: string; index: number }) =>
        split === 'input' ? [index] : [],
      );
      const [first = 0, second = 0] = isSending;
      const points: number[] = [];
      for (const wanted of [second, first]) {
        client.setGoal(reactive(wanted));
        // Another one stands in for a point that sends while the link is still being measured.
        let point: number | undefined;
        for (let frame = 0; frame < 50 && point !== wanted; frame += 1) {
          point = (await client.infer(new ImageData(32, 32))).point as number;
        }
        points.push(point ?? -1);
      }
      client.close();
      return { points, expected: [second, first] };
    });
    expect(points.points).toEqual(points.expected);
  });
});

test('a track that has ended is a stream without pictures', async ({ page, series }) => {
  await withExample(series, async ({ url }) => {
    await page.goto(url);
    const ended = await page.evaluate(async () => {
      const { SplitClient } = await import('/split-inference/dist/index.js' as string);
      const client = await SplitClient.connect();
      const [track] = document.createElement('canvas').captureStream().getVideoTracks();
      track?.stop();
      const { done } = await client.stream(track).next();
      client.close();
      return done;
    });
    expect(ended).toBe(true);
  });
});
