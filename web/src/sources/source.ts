/** Something whose pictures are recognised. */
export interface Source {
  /** What it is, for people. */
  name: string;
  /** Whether the page says elsewhere what it is. */
  credited?: boolean;
  /** Shows it. */
  element: HTMLCanvasElement | HTMLVideoElement;
  /** Where its frames come from, if they can be had without waiting for the page to be painted. */
  frames?: MediaStreamTrack | undefined;
  /** Whether it is one picture that does not change. */
  still: boolean;
  /** Whether it is shown as in a mirror; what is recognised is not. */
  mirrored?: boolean;
  /** Another of its pictures for each number, where they need not be waited for. */
  picture?: (number: number) => Promise<ImageBitmap>;
  /** Stops what costs work while nobody looks. */
  pause(): void;
  /** Goes on after a pause. */
  resume(): void;
  /** Frees what it holds. */
  close(): void;
}

/** Why a source cannot be had, with what to do. */
export class SourceError extends Error {
  override readonly name = 'SourceError';
}

/** A video that shows what it is given by itself, without sound. */
export function silentVideo(): HTMLVideoElement {
  const video = document.createElement('video');
  video.muted = true;
  video.playsInline = true;
  video.disablePictureInPicture = true;
  return video;
}

/** Plays on; a browser that refuses shows the picture that it has. */
export function play(video: HTMLVideoElement): void {
  video.play().catch(() => undefined);
}
