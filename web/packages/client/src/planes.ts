import type { Downscaler } from '../wasm/simd/split_client.js';
import { cover } from './cover.js';

/** Not in TypeScript's library: how a frame is to be turned when it is shown. */
type Turned = VideoFrame & { rotation?: number; flip?: boolean };

/** Matrices whose arithmetic is known, of BT.709 and BT.601. */
const MATRICES: readonly (string | null)[] = ['bt709', 'smpte170m', 'bt470bg'];

/** Scales frames from the planes in which cameras deliver them: drawn on a canvas, all of a frame would become pixels first. */
export class PlaneScaler {
  readonly #downscaler: Downscaler;
  readonly #width: number;
  readonly #height: number;
  #buffer = new Uint8Array();

  constructor(downscaler: Downscaler, width: number, height: number) {
    this.#downscaler = downscaler;
    this.#width = width;
    this.#height = height;
  }

  /** The pixels of the frame's middle; none for frames that have other planes, or are to be turned, or are hardly larger than the target. */
  async scale(frame: VideoFrame): Promise<ImageData | undefined> {
    const { format } = frame;
    const { matrix, fullRange } = frame.colorSpace;
    // What names no matrix is BT.601, unless it is special otherwise.
    const isKnown = MATRICES.includes(matrix) || (matrix === null && !fullRange);
    const rect = this.#middle(frame);
    if ((format !== 'I420' && format !== 'NV12') || !isKnown || isTurned(frame) || !rect) return undefined;
    const planes = await this.#copy(frame, rect);
    if (!planes) return undefined;
    const { width, height } = rect;
    const pixels = this.#downscaler.run(planes, width, height, format, matrix ?? '', fullRange ?? false);
    return new ImageData(new Uint8ClampedArray(pixels), this.#width, this.#height);
  }

  /** The part that is looked at, in whole samples of colour; none if a pixel would have less than one. */
  #middle({ visibleRect }: VideoFrame): DOMRectReadOnly | undefined {
    if (!visibleRect) return undefined;
    const { x, y, width, height } = cover(visibleRect.width, visibleRect.height, this.#width, this.#height);
    const [w, h] = [even(width), even(height)];
    if (w < 2 * this.#width || h < 2 * this.#height) return undefined;
    return new DOMRectReadOnly(even(visibleRect.x + x), even(visibleRect.y + y), w, h);
  }

  /** None for frames that cannot be copied: they may still be drawn. */
  async #copy(frame: VideoFrame, rect: DOMRectReadOnly): Promise<Uint8Array | undefined> {
    try {
      const bytes = frame.allocationSize({ rect });
      if (this.#buffer.length < bytes) this.#buffer = new Uint8Array(bytes);
      const planes = this.#buffer.subarray(0, bytes);
      await frame.copyTo(planes, { rect });
      return planes;
    } catch {
      return undefined;
    }
  }
}

/** Whether the frame is shown otherwise than its samples lie. */
function isTurned(frame: Turned): boolean {
  const { visibleRect, displayWidth, displayHeight, rotation = 0, flip = false } = frame;
  return rotation !== 0 || flip || visibleRect?.width !== displayWidth || visibleRect.height !== displayHeight;
}

function even(value: number): number {
  return 2 * Math.floor(value / 2);
}
