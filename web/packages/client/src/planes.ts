import type { Pictures } from '../wasm/simd/split_client.js';

/** Not in TypeScript's library: how a frame is to be turned when it is shown. */
type Turned = VideoFrame & { rotation?: number; flip?: boolean };

/** Matrices whose arithmetic is known, of BT.709 and BT.601. */
const MATRICES: readonly (string | null)[] = ['bt709', 'smpte170m', 'bt470bg'];
/** Colours that browsers take for those of the screen, to two levels. All others they convert. */
const PRIMARIES: readonly (string | null)[] = ['bt709', 'smpte170m', 'bt470bg', null];
const TRANSFERS: readonly (string | null)[] = ['bt709', 'smpte170m', 'iec61966-2-1', null];

/** Scales frames from the planes in which cameras deliver them: drawn on a canvas, all of a frame would become pixels first. */
export class PlaneScaler {
  readonly #pictures: Pictures;
  #buffer = new Uint8Array();

  constructor(pictures: Pictures) {
    this.#pictures = pictures;
  }

  /** Makes the network's pixels of a frame; false for frames that have other planes, or are to be turned or stretched. */
  async scale(frame: VideoFrame): Promise<boolean> {
    const { format } = frame;
    const { matrix, fullRange } = frame.colorSpace;
    const rect = this.#seen(frame);
    if ((format !== 'I420' && format !== 'NV12') || !isKnown(frame.colorSpace) || isTurned(frame) || !rect) {
      return false;
    }
    const planes = await this.#copy(frame, rect);
    if (!planes) return false;
    const { width, height } = rect;
    this.#pictures.planes(planes, width, height, format, matrix ?? '', fullRange ?? false);
    return true;
  }

  /** The part that the network sees, and as much beside it as makes whole samples of colour; none where they lie askew. */
  #seen({ visibleRect }: VideoFrame): DOMRectReadOnly | undefined {
    if (!visibleRect) return undefined;
    const { x, y, width, height } = visibleRect;
    if ([x, y, width, height].some((it) => it % 2 !== 0) || width === 0 || height === 0) return undefined;
    const [rows = 0, columns = 0] = this.#pictures.margins(width, height);
    return new DOMRectReadOnly(x + columns, y + rows, width - 2 * columns, height - 2 * rows);
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

/** Whether browsers show these colours by arithmetic that is known. */
function isKnown({ matrix, primaries, transfer, fullRange }: VideoColorSpace): boolean {
  // What names no matrix is BT.601, unless it is special otherwise.
  const isMatrix = MATRICES.includes(matrix) || (matrix === null && !fullRange);
  return isMatrix && PRIMARIES.includes(primaries) && TRANSFERS.includes(transfer);
}

/** Whether the frame is shown otherwise than its samples lie. */
export function isTurned(frame: Turned): boolean {
  const { visibleRect, displayWidth, displayHeight, rotation = 0, flip = false } = frame;
  return rotation !== 0 || flip || visibleRect?.width !== displayWidth || visibleRect.height !== displayHeight;
}
