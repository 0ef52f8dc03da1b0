import { play, type Source, SourceError, silentVideo } from './source.js';

/** Larger pictures are scaled down to this many pixels a side: what is shown needs no more. */
const LONGEST_SIDE = 1280;

/** Opens an image or video file. */
export async function openFile(file: File): Promise<Source> {
  if (file.type.startsWith('video/')) return openVideo(file);
  if (file.type.startsWith('image/')) return openImage(file);
  // Systems do not know every type: what opens is right.
  return openImage(file).catch(() => openVideo(file));
}

async function openImage(file: File): Promise<Source> {
  const bitmap = await createImageBitmap(file).catch((cause) => Promise.reject(unreadable(file, 'picture', cause)));
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext('2d', { alpha: false })?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const nothing = () => undefined;
  return { name: file.name, element: canvas, still: true, pause: nothing, resume: nothing, close: nothing };
}

async function openVideo(file: File): Promise<Source> {
  const video = silentVideo();
  const url = URL.createObjectURL(file);
  video.loop = true;
  try {
    await loaded(video, url);
  } catch (cause) {
    URL.revokeObjectURL(url);
    throw unreadable(file, 'video', cause);
  }
  play(video);
  return {
    name: file.name,
    element: video,
    still: false,
    pause: () => video.pause(),
    resume: () => play(video),
    close: () => {
      video.pause();
      video.removeAttribute('src');
      video.load();
      URL.revokeObjectURL(url);
    },
  };
}

function loaded(video: HTMLVideoElement, url: string): Promise<void> {
  return new Promise((resolve, reject) => {
    video.onloadeddata = () => (video.videoWidth > 0 ? resolve() : reject(new Error('there is only sound in it')));
    video.onerror = () => reject(new Error(video.error?.message));
    video.src = url;
  });
}

function unreadable({ name }: File, kind: 'picture' | 'video', cause: unknown): SourceError {
  const kinds = kind === 'picture' ? 'a JPEG, PNG or WebP picture' : 'an MP4 or WebM video';
  return new SourceError(`The file ${name} cannot be read as a ${kind}: choose ${kinds}.`, { cause });
}
