import { asSplitError, SplitError } from './errors.js';
import type { FrameSource, StreamSource } from './types.js';

/** Pictures as they come. */
export interface Feed {
  /** The next picture, none once there are no more. */
  next(): Promise<FrameSource | undefined>;
  /** Ends it: whoever waits for a picture gets none. */
  close(): void;
}

/** What some browsers have for reading a camera without a `<video>`; not in TypeScript's library. */
declare const MediaStreamTrackProcessor:
  | (new (init: {
      track: MediaStreamTrack;
    }) => { readable: ReadableStream<VideoFrame> })
  | undefined;

/** The pictures of a camera, a video or a canvas. */
export function feed(source: StreamSource): Feed {
  try {
    return open(source);
  } catch (thrown) {
    const { message } = asSplitError(thrown);
    throw new SplitError('source-not-ready', `no pictures can be taken of the source: ${message}`, { cause: thrown });
  }
}

function open(source: StreamSource): Feed {
  if (!(source instanceof MediaStreamTrack))
    return source instanceof HTMLVideoElement ? ofVideo(source) : ofCanvas(source);
  return typeof MediaStreamTrackProcessor === 'function'
    ? ofReadable(new MediaStreamTrackProcessor({ track: source }).readable)
    : ofTrack(source);
}

/** The browser keeps only the newest picture for whoever reads slower than the camera writes. */
function ofReadable(readable: ReadableStream<VideoFrame>): Feed {
  const reader = readable.getReader();
  return {
    next: async () => (await reader.read()).value,
    close: () => {
      // One that has failed already needs no end.
      reader.cancel().catch(() => undefined);
    },
  };
}

/** A video that no one sees, for browsers that show a camera's pictures only there. */
function ofTrack(track: MediaStreamTrack): Feed {
  const video = document.createElement('video');
  video.muted = true;
  video.playsInline = true;
  video.srcObject = new MediaStream([track]);
  const inner = ofVideo(video);
  const end = () => inner.close();
  track.addEventListener('ended', end);
  // A camera that cannot be played ends the stream.
  video.play().catch(end);
  return {
    next: () => (track.readyState === 'ended' ? Promise.resolve(undefined) : inner.next()),
    close: () => {
      track.removeEventListener('ended', end);
      inner.close();
      video.srcObject = null;
    },
  };
}

/** Every picture that the video shows, until its end. */
function ofVideo(video: HTMLVideoElement): Feed {
  // A browser that does not tell when a picture is new is asked each time the page is drawn.
  const callback = 'requestVideoFrameCallback' in video ? byPicture(video) : byDrawing;
  const inner = ofCallback(video, callback, video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA);
  const end = () => inner.close();
  video.addEventListener('ended', end);
  // One that is over does not say so again.
  if (video.ended) end();
  return {
    next: () => inner.next(),
    close: () => {
      video.removeEventListener('ended', end);
      inner.close();
    },
  };
}

/** What the canvas holds each time the page is drawn. */
function ofCanvas(canvas: HTMLCanvasElement | OffscreenCanvas): Feed {
  return ofCallback(canvas, byDrawing);
}

interface Callback {
  request(shown: () => void): number;
  cancel(handle: number): void;
}

const byDrawing: Callback = {
  request: (shown) => requestAnimationFrame(shown),
  cancel: (handle) => cancelAnimationFrame(handle),
};

function byPicture(video: HTMLVideoElement): Callback {
  return {
    request: (shown) => video.requestVideoFrameCallback(shown),
    cancel: (handle) => video.cancelVideoFrameCallback(handle),
  };
}

/** `isNew`: whether the source shows a picture already, of which it will not tell any more. */
function ofCallback(source: FrameSource, { request, cancel }: Callback, isNew = false): Feed {
  let closed = false;
  let tell = () => {};
  const watch = () =>
    request(() => {
      isNew = true;
      tell();
    });
  // Also while nobody waits: whoever comes later gets at once what is shown then.
  let handle = watch();
  const change = () =>
    new Promise<void>((resolve) => {
      tell = resolve;
    });
  return {
    next: async () => {
      if (!isNew && !closed) await change();
      if (closed) return undefined;
      isNew = false;
      handle = watch();
      return source;
    },
    close: () => {
      closed = true;
      cancel(handle);
      tell();
    },
  };
}
