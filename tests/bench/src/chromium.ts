import { type Browser, type BrowserContext, chromium } from 'playwright-core';

const executablePath = process.env.CHROMIUM;
const executable = executablePath ? { executablePath } : {};

/** Starts Chromium with a clip for a camera. */
export async function launch(clip: string): Promise<Browser> {
  return chromium.launch({
    ...executable,
    args: [
      '--use-fake-ui-for-media-stream',
      '--use-fake-device-for-media-stream',
      `--use-file-for-fake-video-capture=${clip}`,
      // Memory is measured when it is asked for, not at the next idle moment.
      '--enable-blink-features=ForceEagerMeasureMemory',
    ],
  });
}

/** Starts Chromium with a fresh profile, as people browse: contexts of one browser are private windows, which do not keep what was compiled. */
export async function launchProfile(): Promise<BrowserContext> {
  return chromium.launchPersistentContext('', executable);
}
