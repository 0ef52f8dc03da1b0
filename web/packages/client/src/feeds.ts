import { kindOf, shown } from './arguments.js';
import { grab, invalid, type Picture, unavailable } from './sources.js';
import type { StreamSource } from './types.js';

/** A picture that was taken when the source showed it. */
export interface Taken {
  picture: Promise<Picture>;
}

/** Pictures as they come. */
export interface Feed {
  /** The next picture, none once there are no more. */
  next(): Promise<Taken | undefined>;
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
    throw unavailable(thrown);
  }
}

function open(source: StreamSource): Feed {
  switch (kindOf(source)) {
    case 'HTMLVideoElement':
      return ofVideo(source as HTMLVideoElement);
    case 'HTMLCanvasElement':
    case 'OffscreenCanvas':
      return ofCanvas(source as HTMLCanvasElement);
    case 'MediaStream':
      throw invalid('a MediaStream may have several tracks: give the one that is meant, stream.getVideoTracks()[0]');
    default:
      // Browsers have several kinds of tracks: those of cameras, of canvases, of tabs.
      if (/MediaStreamTrack$/.test(kindOf(source))) return ofTrack(source as MediaStreamTrack);
      throw invalid(`${shown(source)} is no MediaStreamTrack, canvas or <video>`);
  }
}

const EMPTY: Feed = { next: async () => undefined, close: () => undefined };

function ofTrack(track: MediaStreamTrack): Feed {
  if (track.kind !== 'video') throw invalid(`the track is one of ${track.kind}`);
  if (track.readyState === 'ended') return EMPTY;
  return typeof MediaStreamTrackProcessor === 'function'
    ? ofReadable(new MediaStreamTrackProcessor({ track }).readable)
    : ofHiddenVideo(track);
}

/** The browser keeps only the newest picture for whoever reads slower than the camera writes. */
function ofReadable(readable: ReadableStream<VideoFrame>): Feed {
  const reader = readable.getReader();
  return {
    next: async () => {
      const { value } = await reader.read();
      return value && { picture: Promise.resolve(value) };
    },
    close: () => {
      // One that has failed already needs no end.
      reader.cancel().catch(() => undefined);
    },
  };
}

/** A video that no one sees, for browsers that show a camera's pictures only there. */
function ofHiddenVideo(track: MediaStreamTrack): Feed {
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
    next: () => inner.next(),
    close: () => {
      track.removeEventListener('ended', end);
      inner.close();
      video.srcObject = null;
    },
  };
}

/** Every picture that the video shows, until its end. */
function ofVideo(video: HTMLVideoElement): Feed {
  let closed = video.ended;
  /** Whether it shows a picture that was not taken. Of the one that it shows already it will not tell. */
  let isNew = hasPicture(video);
  let wake = () => {};
  const shows = () => {
    isNew = true;
    wake();
  };
  // A browser that does not tell when a picture is new is asked each time the page is drawn.
  const tells = 'requestVideoFrameCallback' in video;
  // Also while nobody waits: whoever comes later gets at once what is shown then.
  const watch = () => (tells ? video.requestVideoFrameCallback(shows) : requestAnimationFrame(shows));
  let handle = watch();
  const close = () => {
    closed = true;
    if (tells) video.cancelVideoFrameCallback(handle);
    else cancelAnimationFrame(handle);
    video.removeEventListener('ended', close);
    video.removeEventListener('emptied', empty);
    wake();
  };
  // What it showed is gone; it may show something else later.
  const empty = () => {
    isNew = false;
  };
  video.addEventListener('ended', close);
  video.addEventListener('emptied', empty);
  return {
    next: async () => {
      while (!isNew && !closed) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      if (closed) return undefined;
      isNew = false;
      handle = watch();
      return { picture: grab(video) };
    },
    close,
  };
}

/** Whether the video shows something: it may have loaded a picture that it has never shown, and which therefore cannot be taken. */
function hasPicture(video: HTMLVideoElement): boolean {
  if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return false;
  try {
    if (typeof VideoFrame === 'function') new VideoFrame(video, { timestamp: 0 }).close();
    return true;
  } catch {
    return false;
  }
}

/** What the canvas holds when the page has drawn it: many canvases are empty again once they were shown. */
function ofCanvas(canvas: HTMLCanvasElement | OffscreenCanvas): Feed {
  let closed = false;
  let end = () => {};
  let [timer, handle] = [0, 0];
  return {
    next: () =>
      new Promise((resolve) => {
        if (closed) return resolve(undefined);
        end = () => resolve(undefined);
        // Asked for in a task of its own, so that the page, which asks while it draws, has its turn before.
        timer = setTimeout(() => {
          handle = requestAnimationFrame(() => resolve({ picture: grab(canvas) }));
        }) as unknown as number;
      }),
    close: () => {
      closed = true;
      clearTimeout(timer);
      cancelAnimationFrame(handle);
      end();
    },
  };
}
