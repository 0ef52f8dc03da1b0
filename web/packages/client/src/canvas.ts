import { SplitError } from './errors.js';

/** The part of a picture that is looked at. */
export interface Rectangle {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** The largest part in the middle of a picture that has the proportions of the network's input: nothing is squeezed. */
export function cover(width: number, height: number, targetWidth: number, targetHeight: number): Rectangle {
  const scale = Math.min(width / targetWidth, height / targetHeight);
  const [w, h] = [targetWidth * scale, targetHeight * scale];
  return { x: (width - w) / 2, y: (height - h) / 2, width: w, height: h };
}

/** Brings pictures of any size to the network's. */
export class FrameCanvas {
  readonly #canvas: OffscreenCanvas;
  readonly #context: OffscreenCanvasRenderingContext2D;

  constructor(width: number, height: number) {
    this.#canvas = new OffscreenCanvas(width, height);
    // Read back every time: kept in memory, so that no frame waits for the graphics processor and all sources are scaled by the same code.
    const context = this.#canvas.getContext('2d', { alpha: false, willReadFrequently: true });
    if (!context) throw new SplitError('no-worker', 'this browser cannot draw in a web worker');
    context.imageSmoothingQuality = 'high';
    this.#context = context;
  }

  /** Draws the middle of the picture and gives its pixels. The picture is closed. */
  draw(source: VideoFrame | ImageBitmap | ImageData): ImageData {
    const { width, height } = this.#canvas;
    if ('data' in source) {
      if (source.width !== width || source.height !== height) return this.#drawData(source);
      this.#context.putImageData(source, 0, 0);
      return this.#context.getImageData(0, 0, width, height);
    }
    try {
      const [w, h] =
        'displayWidth' in source ? [source.displayWidth, source.displayHeight] : [source.width, source.height];
      return this.#drawImage(source, w, h);
    } finally {
      source.close();
    }
  }

  /** The picture drawn last, as an image file. */
  async encode(type: string, quality: number): Promise<Uint8Array> {
    const blob = await this.#canvas.convertToBlob({ type, quality });
    return new Uint8Array(await blob.arrayBuffer());
  }

  #drawData(source: ImageData): ImageData {
    const whole = new OffscreenCanvas(source.width, source.height);
    whole.getContext('2d', { willReadFrequently: true })?.putImageData(source, 0, 0);
    return this.#drawImage(whole, source.width, source.height);
  }

  #drawImage(source: CanvasImageSource, width: number, height: number): ImageData {
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
