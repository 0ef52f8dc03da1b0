import type { Downscaler } from '../wasm/simd/split_client.js';
import { cover } from './cover.js';
import { SplitError } from './errors.js';
import { PlaneScaler } from './planes.js';
import { discard, type Picture } from './sources.js';

/** Brings pictures of any size to the network's. */
export class FrameCanvas {
  readonly #canvas: OffscreenCanvas;
  readonly #context: OffscreenCanvasRenderingContext2D;
  readonly #planes: PlaneScaler;

  constructor(width: number, height: number, downscaler: Downscaler) {
    this.#canvas = new OffscreenCanvas(width, height);
    this.#planes = new PlaneScaler(downscaler, width, height);
    // Read back every time: kept in memory, so that no frame waits for the graphics processor and all that is drawn is scaled by the same code.
    const context = this.#canvas.getContext('2d', { alpha: false, willReadFrequently: true });
    if (!context) throw new SplitError('no-worker', 'this browser cannot draw in a web worker');
    context.imageSmoothingQuality = 'high';
    this.#context = context;
  }

  /** The pixels of the picture's middle. The picture is closed. */
  async read(source: Picture): Promise<ImageData> {
    try {
      if ('data' in source) return this.#readData(source);
      if (!('displayWidth' in source)) return this.#draw(source, source.width, source.height);
      const pixels = await this.#planes.scale(source);
      return pixels ?? (await this.#drawFrame(source));
    } finally {
      discard(source);
    }
  }

  /** Pixels of the network's size, as an image file. */
  async encode(pixels: ImageData, type: string, quality: number): Promise<Uint8Array> {
    this.#context.putImageData(pixels, 0, 0);
    const blob = await this.#canvas.convertToBlob({ type, quality });
    return new Uint8Array(await blob.arrayBuffer());
  }

  #readData(source: ImageData): ImageData {
    const { width, height } = this.#canvas;
    if (source.width !== width || source.height !== height) return this.#drawData(source);
    this.#context.putImageData(source, 0, 0);
    return this.#context.getImageData(0, 0, width, height);
  }

  /** Chromium draws a frame itself without smoothing, a bitmap of it like every other picture. */
  async #drawFrame(source: VideoFrame): Promise<ImageData> {
    const bitmap = await createImageBitmap(source);
    try {
      return this.#draw(bitmap, bitmap.width, bitmap.height);
    } finally {
      bitmap.close();
    }
  }

  #drawData(source: ImageData): ImageData {
    const whole = new OffscreenCanvas(source.width, source.height);
    whole.getContext('2d', { willReadFrequently: true })?.putImageData(source, 0, 0);
    return this.#draw(whole, source.width, source.height);
  }

  #draw(source: CanvasImageSource, width: number, height: number): ImageData {
    const to = this.#canvas;
    if (width === 0 || height === 0) throw new SplitError('source-not-ready', 'the picture is empty');
    const from = cover(width, height, to.width, to.height);
    // What is transparent would otherwise show the frame before.
    this.#context.fillRect(0, 0, to.width, to.height);
    this.#context.drawImage(source, from.x, from.y, from.width, from.height, 0, 0, to.width, to.height);
    return this.#context.getImageData(0, 0, to.width, to.height);
  }
}

/** Whether this browser writes image files of this type: those that cannot quietly write PNG instead. */
export async function writes(type: string): Promise<boolean> {
  const canvas = new OffscreenCanvas(1, 1);
  canvas.getContext('2d');
  const blob = await canvas.convertToBlob({ type, quality: 0.5 });
  return blob.type === type;
}
