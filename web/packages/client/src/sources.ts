import { asSplitError, SplitError } from './errors.js';
import type { FrameSource } from './types.js';

/** A picture that can go to the web worker. */
export type Picture = VideoFrame | ImageBitmap | ImageData;

/** Takes the picture that the source shows now. Nothing is copied on this thread where the browser can hand over a reference. */
export async function grab(source: FrameSource): Promise<Picture> {
  if (isPicture(source)) return source;
  try {
    return await capture(source);
  } catch (thrown) {
    const { message } = asSplitError(thrown);
    throw new SplitError('source-not-ready', `no picture can be taken of the source: ${message}`, { cause: thrown });
  }
}

/** Frees a picture that nobody will look at. */
export function discard(picture: FrameSource): void {
  if (typeof VideoFrame === 'function' && picture instanceof VideoFrame) picture.close();
  if (picture instanceof ImageBitmap) picture.close();
}

/** What moves to the other thread together with the picture. Pixels are copied: they stay the caller's. */
export function transferables(picture: Picture): Transferable[] {
  return picture instanceof ImageData ? [] : [picture];
}

function isPicture(source: FrameSource): source is Picture {
  const frame = typeof VideoFrame === 'function' && source instanceof VideoFrame;
  return frame || source instanceof ImageBitmap || source instanceof ImageData;
}

async function capture(source: Exclude<FrameSource, Picture>): Promise<Picture> {
  if (!(source instanceof HTMLVideoElement)) return createImageBitmap(source);
  if (source.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) throw new Error('the video has not loaded a frame yet');
  // Its own time is not used, but a browser may insist on one.
  const timestamp = Math.round(source.currentTime * 1e6);
  return typeof VideoFrame === 'function' ? new VideoFrame(source, { timestamp }) : createImageBitmap(source);
}
