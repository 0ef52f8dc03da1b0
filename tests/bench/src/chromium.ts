import { type Browser, chromium } from 'playwright-core';

/** Starts Chromium with a clip for a camera. */
export async function launch(clip: string): Promise<Browser> {
  const executablePath = process.env.CHROMIUM;
  return chromium.launch({
    ...(executablePath ? { executablePath } : {}),
    args: [
      '--use-fake-ui-for-media-stream',
      '--use-fake-device-for-media-stream',
      `--use-file-for-fake-video-capture=${clip}`,
      // Memory is measured when it is asked for, not at the next idle moment.
      '--enable-blink-features=ForceEagerMeasureMemory',
    ],
  });
}
