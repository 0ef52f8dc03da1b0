// Writes src/sizes.ts: how large the binaries are. Servers tell only how large they are while compressed.

import { stat, writeFile } from 'node:fs/promises';

const PACKAGE = new URL('../', import.meta.url);
const FLAVOURS = ['relaxed', 'simd'];

async function entry(name) {
  const { size } = await stat(new URL(`wasm/${name}/split_client_bg.wasm`, PACKAGE));
  return `  ${name}: ${size},\n`;
}

const entries = await Promise.all(FLAVOURS.map(entry));
const text = `/** Bytes of each binary. */\nexport const SIZES = {\n${entries.join('')}};\n`;
await writeFile(new URL('src/sizes.ts', PACKAGE), text);
