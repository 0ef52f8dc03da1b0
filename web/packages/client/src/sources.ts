import { kindOf, shown } from './arguments.js';
import { asSplitError, SplitError } from './errors.js';
import type { FrameSource } from './types.js';

/** A picture that can go to the web worker. */
export type Picture = VideoFrame | ImageBitmap | ImageData;

/** Why pictures of other origins cannot be used, and what to do. */
const TAINTED =
  'it is of another origin, which does not let this page read it: set its crossOrigin to "anonymous" and let its server answer with Access-Control-Allow-Origin';

/** Takes the picture that the source shows now. Nothing is copied on this thread where the browser can hand over a reference. */
export async function grab(source: FrameSource): Promise<Picture> {
  try {
    return await capture(source);
  } catch (thrown) {
    throw unavailable(thrown);
  }
}

/** Why no picture can be had, by whether waiting helps. */
export function unavailable(thrown: unknown): SplitError {
  if (thrown instanceof SplitError) return thrown;
  const { message } = asSplitError(thrown);
  if (thrown instanceof DOMException && thrown.name === 'SecurityError') return invalid(TAINTED, thrown);
  return new SplitError('source-not-ready', `no picture can be taken of the source: ${message}`, { cause: thrown });
}

/** Why a picture could not be handed to the web worker. */
export function notTransferable(picture: Picture, cause: unknown): SplitError {
  const isTainted = kindOf(picture) === 'ImageBitmap' && (picture as ImageBitmap).width > 0;
  return invalid(isTainted ? TAINTED : 'it is closed, or was given away', cause);
}

/** A source that never gives a picture. */
export function invalid(why: string, cause?: unknown): SplitError {
  return new SplitError('source-invalid', `no picture can be taken of the source: ${why}`, { cause });
}

/** Frees a picture that nobody will look at. */
export function discard(picture: Picture): void {
  if ('close' in picture) picture.close();
}

/** What moves to the other thread together with the picture. Pixels are copied: they stay the caller's. */
export function transferables(picture: Picture): Transferable[] {
  return 'close' in picture ? [picture] : [];
}

function capture(source: FrameSource): Picture | Promise<Picture> {
  switch (kindOf(source)) {
    case 'VideoFrame': {
      const frame = source as VideoFrame;
      if (frame.displayWidth === 0 || frame.format === null) throw invalid('the frame is closed');
      return frame;
    }
    case 'ImageBitmap': {
      const bitmap = source as ImageBitmap;
      if (bitmap.width === 0) throw invalid('the bitmap is closed');
      return bitmap;
    }
    case 'ImageData': {
      const pixels = source as ImageData;
      if (pixels.data.length === 0) throw invalid('its pixels were given away');
      return pixels;
    }
    case 'HTMLVideoElement':
      return captureVideo(source as HTMLVideoElement);
    case 'HTMLImageElement':
    case 'HTMLCanvasElement':
    case 'OffscreenCanvas':
      return createImageBitmap(source as HTMLImageElement);
    default:
      throw invalid(`${shown(source)} is no VideoFrame, ImageBitmap, ImageData, canvas, <video> or <img>`);
  }
}

function captureVideo(video: HTMLVideoElement): Picture {
  if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) throw new Error('the video has not loaded a frame yet');
  const hasFrames = typeof VideoFrame === 'function';
  // Frames that cannot say how they are to be turned lie as they were recorded. Cameras deliver them upright.
  if (!hasFrames || (!('rotation' in VideoFrame.prototype) && !video.srcObject)) return drawVideo(video);
  // Its own time is not used, but a browser may insist on one.
  return new VideoFrame(video, { timestamp: Math.round(video.currentTime * 1e6) });
}

function drawVideo(video: HTMLVideoElement): ImageBitmap {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  const context = canvas.getContext('2d', { alpha: false });
  context?.drawImage(video, 0, 0);
  return canvas.transferToImageBitmap();
}
