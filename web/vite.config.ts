import { defineConfig } from 'vite';

export default defineConfig({
  // Relative URLs, so that the page also works below a path of a reverse proxy.
  base: './',
  build: { target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  worker: { format: 'es' },
  server: { proxy: { '/v1': { target: 'http://127.0.0.1:8080', ws: true } } },
});
