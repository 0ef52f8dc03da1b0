import { defineConfig } from '@playwright/test';

import { CLIP } from './src/places.js';

const executablePath = process.env.CHROMIUM;

export default defineConfig<object, { kind: string }>({
  projects: [
    { name: 'page', testDir: 'tests' },
    // What needs the proxies of deploy/.
    ...['nginx', 'caddy'].map((kind) => ({ name: `deploy-${kind}`, testDir: 'deploy', use: { kind } })),
  ],
  globalSetup: './src/setup.ts',
  // Latencies are part of what is tested: no test runs beside another.
  workers: 1,
  retries: 0,
  forbidOnly: true,
  timeout: 60_000,
  reporter: [['list'], ['./src/summary.ts']],
  use: {
    browserName: 'chromium',
    permissions: ['camera'],
    launchOptions: {
      ...(executablePath ? { executablePath } : {}),
      args: ['--use-fake-device-for-media-stream', `--use-file-for-fake-video-capture=${CLIP}`],
    },
    screenshot: 'only-on-failure',
  },
});
