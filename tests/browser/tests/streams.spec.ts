import { expect, test } from '@playwright/test';

import { PACKAGE } from '../src/places.js';

test('a stream leaves out what a later picture has overtaken', async () => {
  const { answers } = await import(`${PACKAGE}/dist/streams.js`);
  const order = [1, 0, 3, 2, 4];
  expect(await streamed(answers, order)).toEqual([1, 3, 4]);
  expect(await streamed(answers, [0, 1, 2, 3, 4])).toEqual([0, 1, 2, 3, 4]);
});

type Answers = typeof import('../../../web/packages/client/src/streams.js').answers;

/** Frames of the answers that come out of a stream if they arrive in this order. */
async function streamed(answers: Answers, arrivals: number[]): Promise<number[]> {
  const waiting: ((result: { frame: number }) => void)[] = [];
  let pictures = 0;
  const feed = {
    next: async () => (pictures++ < arrivals.length ? {} : undefined),
    close: () => {},
  };
  const inference = {
    infer: () =>
      new Promise((resolve) => {
        waiting.push(resolve);
        if (waiting.length === arrivals.length) for (const frame of arrivals) waiting[frame]?.({ frame });
      }),
    free: async () => {},
  };
  const frames: number[] = [];
  for await (const { frame } of answers(feed as never, inference as never)) frames.push(frame);
  return frames;
}
