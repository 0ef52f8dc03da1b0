import { play, type Source, SourceError, silentVideo } from './source.js';

/** Larger pictures are scaled down to this many pixels a side: what is shown needs no more. */
const LONGEST_SIDE = 1280;

/** Opens an image or video file. */
export async function openFile(file: File): Promise<Source> {
  if (file.type.startsWith('video/')) return openVideo(file);
  if (isHeic(file))
    return openImage(file).catch((cause) => Promise.reject(new SourceError(heicAdvice(file), { cause })));
  if (file.type.startsWith('image/')) return openImage(file);
  // Systems do not know every type: what opens is right.
  return openImage(file).catch(() =>
    openVideo(file).catch((cause) => {
      throw new SourceError(`${file.name} is neither a picture nor a video that this browser can read.`, { cause });
    }),
  );
}

/** Opens the picture at an address, if its server lets other pages read it. */
export async function openAddress(url: string): Promise<Source> {
  const image = new Image();
  let isForbidden = false;
  const forbid = ({ blockedURI }: SecurityPolicyViolationEvent) => {
    isForbidden ||= new URL(url, document.baseURI).href.startsWith(blockedURI);
  };
  document.addEventListener('securitypolicyviolation', forbid);
  image.crossOrigin = 'anonymous';
  image.src = url;
  try {
    await image.decode();
    return still(url, await createImageBitmap(image));
  } catch (cause) {
    // Browsers tell in a task of its own.
    await new Promise((resolve) => setTimeout(resolve));
    const why = isForbidden
      ? 'this page may only load pictures by HTTPS'
      : 'there is none, or its server does not let other pages read it';
    throw new SourceError(`No picture can be loaded from ${url}: ${why}. Save the picture and choose it with File.`, {
      cause,
    });
  } finally {
    document.removeEventListener('securitypolicyviolation', forbid);
  }
}

async function openImage(file: File): Promise<Source> {
  const bitmap = await createImageBitmap(file).catch((cause) => Promise.reject(unreadable(file, 'picture', cause)));
  return still(file.name, bitmap);
}

function still(name: string, bitmap: ImageBitmap): Source {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  // What is transparent stays so: which background it gets is the series' to say.
  const context = canvas.getContext('2d');
  // Otherwise pixels would be skipped that the network is to see its part of.
  if (context) context.imageSmoothingQuality = 'high';
  context?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const nothing = () => undefined;
  return { name, element: canvas, still: true, pause: nothing, resume: nothing, close: nothing };
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

/** What iPhones take pictures as; most browsers do not read it. */
function isHeic({ name, type }: File): boolean {
  return /^image\/hei[cf]/.test(type) || /\.hei[cf]$/i.test(name);
}

function heicAdvice({ name }: File): string {
  const formats = 'in Settings, Camera, Formats choose Most Compatible';
  return `This browser does not read HEIC pictures such as ${name}: share it as JPEG, open this page in Safari, or, on the iPhone, ${formats} before taking pictures.`;
}

function unreadable({ name }: File, kind: 'picture' | 'video', cause: unknown): SourceError {
  const kinds = kind === 'picture' ? 'a JPEG, PNG or WebP picture' : 'an MP4 or WebM video';
  return new SourceError(`The file ${name} cannot be read as a ${kind}: choose ${kinds}.`, { cause });
}
