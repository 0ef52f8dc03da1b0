// Writes NAME.br beside every file of the built page that brotli makes smaller, so that no server has to compress at its start.

import { readdir, readFile, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { brotliCompress, constants } from 'node:zlib';

const FOLDER = new URL('../dist/', import.meta.url);
const COMPRESSED = /\.(css|html|js|json|svg|wasm)$/;
/** Below this many bytes, compression saves no packet. */
const MIN_BYTES = 1024;

const compress = promisify(brotliCompress);

async function write(path) {
  const plain = await readFile(path);
  if (plain.length < MIN_BYTES) return;
  const params = { [constants.BROTLI_PARAM_SIZE_HINT]: plain.length };
  await writeFile(`${path}.br`, await compress(plain, { params }));
}

const entries = await readdir(FOLDER, { recursive: true, withFileTypes: true });
const files = entries.filter((it) => it.isFile() && COMPRESSED.test(it.name));
await Promise.all(files.map((it) => write(`${it.parentPath}/${it.name}`)));
