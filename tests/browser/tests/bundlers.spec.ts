import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Page } from '@playwright/test';

import { BUNDLERS, BUNDLERS_WITH_BASE, copyPackage, develop, serve, writeApp } from '../src/bundle.js';
import { startEdge } from '../src/edge.js';
import { expect, test } from '../src/fixtures.js';

// No page asks for this file on purpose.
test.use({ expected: [/favicon|Failed to load resource.*404/] });

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'bundlers-')));
  try {
    await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Opens a page that uses an edge worker of another origin; it must get a label from there. */
async function expectLabel(page: Page, url: string, series: string, base?: string): Promise<void> {
  const edge = await startEdge(series, { args: ['--allow-origin', new URL(url).origin] });
  try {
    const address = new URL(url);
    address.searchParams.set('edge', edge.url);
    if (base) address.searchParams.set('base', base);
    await page.goto(address.href);
    await expect(page).toHaveTitle(/^recognised .*, connected$/, { timeout: 30_000 });
  } finally {
    await page.goto('about:blank');
    await edge.kill();
  }
}

for (const [name, bundle] of Object.entries({ ...BUNDLERS, ...BUNDLERS_WITH_BASE })) {
  test(`a page built with ${name} gets a label`, async ({ page, series }) => {
    await withFolder(async (folder) => {
      const [app, out] = [join(folder, 'app'), join(folder, 'out')];
      await writeApp(app);
      await mkdir(out);
      await bundle(app, out);
      const base = name in BUNDLERS_WITH_BASE ? 'split-inference' : undefined;
      if (base) await copyPackage(join(out, base));
      const server = await serve(out);
      try {
        await expectLabel(page, server.url, series.folder, base);
      } finally {
        await server.close();
      }
    });
  });
}

for (const linked of [false, true]) {
  test(`a page in Vite's development server gets a label, package linked: ${linked}`, async ({ page, series }) => {
    await withFolder(async (folder) => {
      await writeApp(folder, { linked });
      const server = await develop(folder);
      try {
        await expectLabel(page, server.url, series.folder);
      } finally {
        await server.close();
      }
    });
  });
}

test('a page that has the package from another origin gets a label, in a web worker, too', async ({ page, series }) => {
  await withFolder(async (folder) => {
    await copyPackage(join(folder, 'package'));
    const files = await serve(folder);
    const script = `${files.url}package/dist/index.js`;
    const main = `
      import { SplitClient } from '${script}';
      const url = new URL(location.href).searchParams.get('edge');
      const client = await SplitClient.connect({ url });
      const { label } = await client.infer(new ImageData(32, 32));
      const text = 'recognised ' + label + ', ' + client.state;
      if (self.document) document.title = text; else postMessage(text);
    `;
    const inWorker = `
      const worker = new Worker('./main.js' + location.search, { type: 'module' });
      worker.onmessage = ({ data }) => { document.title = data; };
      worker.onerror = ({ message }) => { document.title = 'failed: ' + message; };
    `;
    const page1 = '<!doctype html><title>loading</title><script type="module" src="./main.js"></script>';
    await mkdir(join(folder, 'page/worker'), { recursive: true });
    await writeFile(join(folder, 'page/index.html'), page1);
    await writeFile(join(folder, 'page/main.js'), main);
    await writeFile(
      join(folder, 'page/worker/index.html'),
      `<!doctype html><title>loading</title><script>${inWorker}</script>`,
    );
    await writeFile(join(folder, 'page/worker/main.js'), main);
    const server = await serve(join(folder, 'page'));
    try {
      await expectLabel(page, server.url, series.folder);
      await expectLabel(page, `${server.url}worker/`, series.folder);
    } finally {
      await server.close();
      await files.close();
    }
  });
});
