import { execFile } from 'node:child_process';
import { cp, mkdir, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import { promisify } from 'node:util';

import { nodeResolve } from '@rollup/plugin-node-resolve';
import * as esbuild from 'esbuild';
import { rollup } from 'rollup';
import * as vite from 'vite';
import webpack from 'webpack';

import { PACKAGE, place } from './places.js';

/** What Vite has to be told in either case; see the package's README. */
const VITE: vite.InlineConfig = {
  configFile: false,
  logLevel: 'error',
  base: './',
  worker: { format: 'es' },
  optimizeDeps: { exclude: ['split-inference'] },
};

/** Makes the folder of a page that uses the package: as installed from a file, or only linked to. */
export async function writeApp(app: string, { linked = false } = {}): Promise<void> {
  await cp(place('tests/bundlers'), app, { recursive: true });
  await writeFile(join(app, 'package.json'), JSON.stringify({ name: 'app', private: true, type: 'module' }));
  await mkdir(join(app, 'node_modules'), { recursive: true });
  const installed = join(app, 'node_modules/split-inference');
  if (linked) await symlink(PACKAGE, installed);
  else await copyPackage(installed);
}

/** The package's files. */
export async function copyPackage(to: string): Promise<void> {
  for (const part of ['package.json', 'dist', 'wasm'])
    await cp(join(PACKAGE, part), join(to, part), { recursive: true });
}

/** Bundlers by name; each writes a page of `app` into `out`. */
export const BUNDLERS: Record<string, (app: string, out: string) => Promise<void>> = {
  Vite: async (app, out) => {
    await vite.build({ ...VITE, root: app, build: { outDir: out, emptyOutDir: true, target: 'es2022' } });
  },
  'webpack 5': async (app, out) => {
    const configuration: webpack.Configuration = {
      mode: 'production',
      context: app,
      entry: './main.js',
      experiments: { outputModule: true },
      output: { path: out, filename: 'main.js', module: true },
    };
    await new Promise<void>((resolve, reject) =>
      webpack(configuration, (error, stats) => {
        if (error || stats?.hasErrors()) reject(error ?? new Error(stats?.toString()));
        else resolve();
      }),
    );
    await cp(join(app, 'index.html'), join(out, 'index.html'));
  },
  Parcel: async (app, out) => {
    const parcel = createRequire(import.meta.url).resolve('parcel/lib/bin.js');
    const options = ['--dist-dir', out, '--no-cache', '--no-source-maps', '--public-url', './'];
    await promisify(execFile)(process.execPath, [parcel, 'build', 'index.html', ...options], { cwd: app });
  },
};

/** Those that leave web workers out: the package's files are put beside the page, whose `base` says where. */
export const BUNDLERS_WITH_BASE: typeof BUNDLERS = {
  Rollup: async (app, out) => {
    const bundle = await rollup({ input: join(app, 'main.js'), plugins: [nodeResolve()] });
    await bundle.write({ dir: out, format: 'es' });
    await bundle.close();
    await cp(join(app, 'index.html'), join(out, 'index.html'));
  },
  esbuild: async (app, out) => {
    await esbuild.build({ entryPoints: [join(app, 'main.js')], bundle: true, format: 'esm', outdir: out });
    await cp(join(app, 'index.html'), join(out, 'index.html'));
  },
};

/** Vite's development server, which also has to be allowed to read a package that is only linked to. */
export async function develop(app: string): Promise<{ url: string; close: () => Promise<void> }> {
  const fs = { allow: [app, PACKAGE] };
  const server = await vite.createServer({ ...VITE, root: app, server: { host: '127.0.0.1', port: 0, fs } });
  await server.listen();
  return { url: server.resolvedUrls?.local[0] ?? '', close: () => server.close() };
}

const TYPES: Record<string, string> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.wasm': 'application/wasm',
};

/** Serves the files of a folder to pages of every origin. */
export async function serve(folder: string): Promise<{ url: string; close: () => Promise<void> }> {
  const { readFile } = await import('node:fs/promises');
  const server: Server = createServer(async ({ url = '' }, response) => {
    const { pathname } = new URL(url, 'http://localhost');
    const file = pathname.endsWith('/') ? `${pathname}index.html` : pathname;
    try {
      const body = await readFile(join(folder, file));
      response.setHeader('Content-Type', TYPES[extname(file)] ?? 'application/octet-stream');
      response.setHeader('Access-Control-Allow-Origin', '*');
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return {
    url,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
