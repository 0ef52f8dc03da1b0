import { html } from '../dom.js';
import { play, type Source, SourceError, silentVideo } from './source.js';

/** Which camera. */
export interface CameraWish {
  device?: string;
  facing?: 'user' | 'environment';
}

/** A running camera. */
export interface Camera extends Source {
  /** Id of its device. */
  device: string;
  /** Where it looks, where the browser knows. */
  facing: string | undefined;
}

/** More would be thrown away: networks look at far fewer pixels. */
const SIZE = { width: { ideal: 640 }, height: { ideal: 480 } };

/** Where the camera that was used last is kept for the next visit. */
const REMEMBERED = 'camera';

/** Keeps which camera is used. A browser that keeps nothing forgets it. */
export function rememberCamera(device: string): void {
  try {
    localStorage.setItem(REMEMBERED, device);
  } catch {
    // The next visit starts with the browser's own choice.
  }
}

function remembered(): string | undefined {
  try {
    return localStorage.getItem(REMEMBERED) ?? undefined;
  } catch {
    return undefined;
  }
}

/** Starts a camera, the one used last if none is named; `onLost` is called if it goes away. */
export async function openCamera({ device, facing }: CameraWish, onLost: () => void): Promise<Camera> {
  if (!navigator.mediaDevices) {
    throw new SourceError('The camera works only over HTTPS or on localhost: open this page there.');
  }
  const last = facing === undefined ? remembered() : undefined;
  const which =
    device !== undefined
      ? { deviceId: { exact: device } }
      : // One that is not there any more is no reason to refuse.
        { facingMode: facing ?? 'environment', ...(last && { deviceId: { ideal: last } }) };
  const stream = await navigator.mediaDevices
    .getUserMedia({ video: { ...SIZE, ...which } })
    .catch((thrown) => Promise.reject(new SourceError(refusal(thrown), { cause: thrown })));
  const [track] = stream.getVideoTracks();
  if (!track) throw new SourceError(NONE);
  track.addEventListener('ended', onLost);
  const video = silentVideo();
  video.srcObject = stream;
  play(video);
  const { deviceId = '', facingMode } = track.getSettings();
  return {
    name: track.label || 'Camera',
    element: video,
    frames: 'MediaStreamTrackProcessor' in globalThis ? track : undefined,
    still: false,
    device: deviceId,
    facing: facingMode,
    mirrored: looksAtUser(facingMode),
    pause: () => {
      // The camera keeps running, but delivers black pictures, or none: asking for it again might ask the user again.
      video.pause();
      track.enabled = false;
    },
    resume: () => {
      track.enabled = true;
      play(video);
    },
    close: () => {
      track.removeEventListener('ended', onLost);
      for (const it of stream.getTracks()) it.stop();
      video.srcObject = null;
    },
  };
}

/** People know themselves from mirrors. A laptop's camera looks at its user, but browsers tell that on phones only. */
function looksAtUser(facing: string | undefined): boolean {
  return facing ? facing === 'user' : matchMedia('(hover: hover) and (pointer: fine)').matches;
}

/** Fills the choice of cameras. Browsers name them only after one was allowed. Returns how many there are. */
export async function listCameras(select: HTMLSelectElement, used: string): Promise<number> {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  const cameras = devices.filter((it) => it.kind === 'videoinput');
  const option = ({ deviceId, label }: MediaDeviceInfo, at: number) =>
    html('option', { value: deviceId, selected: deviceId === used }, label || `Camera ${at + 1}`);
  select.replaceChildren(...cameras.map(option));
  return cameras.length;
}

const NONE = 'There is no camera: connect one and press Camera again, or choose Sample or a file.';

/** What `getUserMedia` throws, for people. */
function refusal(thrown: unknown): string {
  switch ((thrown as Partial<DOMException> | null)?.name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return 'The camera was refused. Allow it in the browser’s settings for this site and press Camera again, or choose Sample or a file.';
    case 'NotFoundError':
    case 'OverconstrainedError':
      return NONE;
    case 'NotReadableError':
    case 'AbortError':
      return 'The camera cannot be used now: close other programs that use it and press Camera again.';
    default:
      return `The camera cannot be started: ${(thrown as Error | null)?.message ?? thrown}. Choose Sample or a file.`;
  }
}
