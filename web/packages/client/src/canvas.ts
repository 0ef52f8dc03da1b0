import type { Pictures } from '../wasm/simd/split_client.js';
import { SplitError } from './errors.js';
import { isTurned, PlaneScaler } from './planes.js';
import { discard, type Picture } from './sources.js';

/** Pixels that are looked at at a time: large pictures are not held a second time as a whole. */
const STRIP_PIXELS = 1 << 20;

const BLOCKED =
  'this browser keeps pages from reading pictures, against fingerprinting (privacy.resistFingerprinting in Firefox): switch that off for this page, or use another browser';

/** Brings pictures of any size to the network's. The browser decodes and turns them upright; the rest is the rule that the trainer keeps to as well. */
export class FrameCanvas {
  readonly #pictures: Pictures;
  readonly #planes: PlaneScaler;
  /** For pixels of the network's size. */
  readonly #pixels: OffscreenCanvasRenderingContext2D;
  /** For a strip of a picture. */
  readonly #strip: OffscreenCanvasRenderingContext2D;

  constructor(pictures: Pictures) {
    this.#pictures = pictures;
    this.#planes = new PlaneScaler(pictures);
    this.#pixels = context(new OffscreenCanvas(1, 1), false);
    this.#strip = context(new OffscreenCanvas(1, 1), true);
  }

  /** Reads the picture into the pixels that the network sees. The picture is closed. */
  async read(source: Picture): Promise<void> {
    try {
      await this.#read(source);
    } finally {
      discard(source);
    }
  }

  /** Pixels as an image file. */
  async encode(pixels: ImageData, type?: string, quality?: number): Promise<Uint8Array> {
    const { canvas } = this.#pixels;
    resize(canvas, pixels.width, pixels.height);
    this.#pixels.putImageData(pixels, 0, 0);
    const blob = await canvas.convertToBlob({ ...(type && { type }), ...(quality !== undefined && { quality }) });
    return new Uint8Array(await blob.arrayBuffer());
  }

  async #read(source: Picture): Promise<void> {
    if ('data' in source) return this.#readData(source);
    if (!('displayWidth' in source)) return this.#draw(source, source.width, source.height);
    if (!(await this.#planes.scale(source))) await this.#drawFrame(source);
  }

  async #drawFrame(source: VideoFrame): Promise<void> {
    // Bitmaps keep what is transparent, but of frames that are to be turned, some browsers make them in the wrong shape.
    if (isTurned(source)) return this.#draw(source, source.displayWidth, source.displayHeight);
    const bitmap = await createImageBitmap(source);
    try {
      return await this.#draw(bitmap, bitmap.width, bitmap.height);
    } finally {
      bitmap.close();
    }
  }

  async #readData(source: ImageData): Promise<void> {
    const { data, width, height, colorSpace } = source;
    // Browsers without this property know no other colours.
    if ((colorSpace ?? 'srgb') !== 'srgb' || data.BYTES_PER_ELEMENT !== 1) {
      const bitmap = await createImageBitmap(source, { premultiplyAlpha: 'none' });
      return this.#draw(bitmap, width, height);
    }
    this.#push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), width, height);
  }

  /** Hands a picture's pixels over, strip by strip: WebAssembly never gives memory back. */
  #push(rgba: Uint8Array, width: number, height: number): void {
    this.#pictures.begin(width, height);
    const step = 4 * width * stripRows(width);
    for (let at = 0; at < rgba.length; at += step) this.#pictures.push(rgba.subarray(at, at + step));
  }

  /** Pixels without a canvas, for browsers that give none of those; not for frames that are to be turned. */
  async #copy(source: ImageBitmap | VideoFrame): Promise<void> {
    if (typeof VideoFrame !== 'function') throw new SplitError('canvas-blocked', BLOCKED);
    const frame = new VideoFrame(source, { timestamp: 0 });
    try {
      const { width = 0, height = 0 } = frame.visibleRect ?? {};
      if (isTurned(frame)) throw new SplitError('canvas-blocked', BLOCKED);
      const format = { format: 'RGBA' } as const;
      const rgba = new Uint8Array(frame.allocationSize(format));
      await frame.copyTo(rgba, format);
      this.#push(rgba, width, height);
    } finally {
      frame.close();
    }
  }

  /** Draws what the network sees of the picture, pixel by pixel, strip by strip. */
  async #draw(source: ImageBitmap | VideoFrame, wide: number, high: number): Promise<void> {
    if (wide === 0 || high === 0) throw new SplitError('source-not-ready', 'the picture is empty');
    if (!canReadCanvases()) return this.#copy(source);
    const [rows = 0, columns = 0] = this.#pictures.margins(wide, high);
    const [width, height] = [wide - 2 * columns, high - 2 * rows];
    const step = Math.min(height, stripRows(width));
    const { canvas } = this.#strip;
    resize(canvas, width, step);
    this.#strip.globalCompositeOperation = 'copy';
    this.#pictures.begin(width, height);
    for (let row = 0; row < height; row += step) {
      const count = Math.min(step, height - row);
      this.#strip.drawImage(source, columns, rows + row, width, count, 0, 0, width, count);
      const { data } = this.#strip.getImageData(0, 0, width, count);
      this.#pictures.push(new Uint8Array(data.buffer));
    }
  }
}

/** Whether canvases give the pixels that were drawn: against fingerprinting, some browsers give noise without a word. */
export function canReadCanvases(): boolean {
  readable ??= givesWhatWasDrawn();
  return readable;
}

let readable: boolean | undefined;

function givesWhatWasDrawn(): boolean {
  const side = 16;
  const pattern = context(new OffscreenCanvas(side, side), true);
  const expected = Array.from({ length: side * side }, (_, at) => [at, 255 - at, (7 * at) % 256, 255]);
  for (const [at, [red, green, blue]] of expected.entries()) {
    pattern.fillStyle = `rgb(${red}, ${green}, ${blue})`;
    pattern.fillRect(at % side, Math.floor(at / side), 1, 1);
  }
  const { data } = pattern.getImageData(0, 0, side, side);
  return expected.flat().every((it, at) => it === data[at]);
}

function stripRows(width: number): number {
  return Math.max(1, Math.floor(STRIP_PIXELS / width));
}

/** Setting a size clears the canvas, even if it stays the same. */
function resize(canvas: OffscreenCanvas, width: number, height: number): void {
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
}

/** Read back every time: kept in memory, so that no picture waits for the graphics processor. */
function context(canvas: OffscreenCanvas, alpha: boolean): OffscreenCanvasRenderingContext2D {
  const context = canvas.getContext('2d', { alpha, willReadFrequently: true });
  if (!context) throw new SplitError('no-worker', 'this browser cannot draw in a web worker');
  return context;
}

/** Whether this browser writes image files of this type: those that cannot quietly write PNG instead. */
export async function writes(type: string): Promise<boolean> {
  const canvas = new OffscreenCanvas(1, 1);
  canvas.getContext('2d');
  const blob = await canvas.convertToBlob({ type, quality: 0.5 });
  return blob.type === type;
}
