import { type Album, addressOf } from './albums.js';
import { drawn, pictureOf } from './drawn.js';
import { type Source, SourceError } from './source.js';

/** Side of the square that they are shown in: that of most pictures. */
const SIDE = 348;
/** How long each picture is shown. */
const PICTURE_MS = 4000;
/** They move like a phone in a hand does: by at most this part of their size, once around in this time. */
const SWAY = 0.03;
const SWAY_MS = 5000;

/** Which pictures of an album are shown. */
export interface Showing {
  /** The first one. */
  first: number;
  /** Whether that one stays. */
  stays: boolean;
  /** Called with the place of every later one when it is shown. */
  onPicture: (place: number) => void;
}

/** Shows an album, one picture after the other. Without motion for those who prefer that. */
export async function openSlides(album: Album, { first, stays, onPicture }: Showing): Promise<Source> {
  const { pictures } = album;
  let shown = { place: first, image: await load(album, first) };
  let since = performance.now();
  let coming: typeof shown | undefined;
  let retry: ReturnType<typeof setTimeout> | undefined;

  const fetchNext = async (place: number) => {
    try {
      coming = { place, image: await load(album, place) };
    } catch {
      // Without a connection the one that is there stays.
      retry = setTimeout(fetchNext, PICTURE_MS, (place + 1) % pictures.length);
    }
  };
  const turn = (now: number) => {
    if (!coming || now - since < PICTURE_MS) return;
    shown = coming;
    coming = undefined;
    since = now;
    onPicture(shown.place);
    fetchNext((shown.place + 1) % pictures.length);
  };
  if (!stays) fetchNext((first + 1) % pictures.length);
  const name = stays ? `${pictures[first]?.label}, from the ${album.name}` : `Pictures of the ${album.name}`;
  const slides = drawn(name, SIDE, (context, now, isCalm) => {
    turn(now);
    paint(context, shown.image, isCalm ? 0 : (2 * Math.PI * now) / SWAY_MS);
  });
  return {
    ...slides,
    credited: true,
    picture: async (number) => {
      const image = await load(album, number % pictures.length);
      return pictureOf(SIDE, (context) => paint(context, image, number));
    },
    close: () => {
      slides.close();
      clearTimeout(retry);
    },
  };
}

/** Fills the canvas with the middle of a picture, moved to where it is at this angle of its way around. */
function paint(context: CanvasRenderingContext2D, image: HTMLImageElement, angle: number): void {
  const scale = ((1 + 2 * SWAY) * SIDE) / Math.min(image.naturalWidth, image.naturalHeight);
  const [width, height] = [scale * image.naturalWidth, scale * image.naturalHeight];
  const left = (SIDE - width) / 2 + SWAY * SIDE * Math.sin(angle);
  const top = (SIDE - height) / 2 + (SWAY / 2) * SIDE * Math.sin(2 * angle);
  context.drawImage(image, left, top, width, height);
}

async function load(album: Album, place: number): Promise<HTMLImageElement> {
  const image = new Image();
  image.src = addressOf(album, album.pictures[place]?.file ?? '');
  try {
    await image.decode();
    return image;
  } catch (cause) {
    const advice = 'check that the edge worker runs, then press Sample again, or choose Camera or a file';
    throw new SourceError(`The sample pictures cannot be loaded: ${advice}.`, { cause });
  }
}
