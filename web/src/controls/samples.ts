import { element, html } from '../dom.js';
import { type Album, addressOf } from '../sources/albums.js';

/** The sample pictures to choose from. */
export class SampleControls {
  readonly #list = element('samples', HTMLElement);
  readonly #notice = element('sample-notice', HTMLElement);
  readonly #onChoose: (place: number) => void;
  /** What is shown, and whether its pictures were asked for. */
  #album: Album | undefined;
  #isLoaded = false;

  /** `onChoose` is told the place of a picture in the album. */
  constructor(onChoose: (place: number) => void) {
    this.#onChoose = onChoose;
  }

  /** Shows buttons for an album's pictures; their pictures come later, so as not to delay the network's download. */
  show(album: Album | undefined): void {
    if (album === this.#album) return;
    this.#album = album;
    this.#isLoaded = false;
    this.#list.hidden = !album;
    this.#notice.hidden = !album;
    if (!album) return;
    this.#list.replaceChildren(...album.pictures.map(({ label }, place) => this.#button(label, place)));
    const { owner, name, licence } = album;
    const text = html('a', { href: addressOf(album, licence.file) }, licence.name);
    this.#notice.replaceChildren(`Sample pictures: ${name}, ${owner}, `, text, '.');
  }

  /** Loads what the buttons show. */
  load(): void {
    if (this.#isLoaded || !this.#album) return;
    this.#isLoaded = true;
    for (const [place, image] of [...this.#list.querySelectorAll('img')].entries()) {
      image.src = addressOf(this.#album, this.#album.pictures[place]?.file ?? '');
    }
  }

  /** Marks the picture that is looked at, if one is. */
  mark(place: number | undefined): void {
    for (const [at, button] of [...this.#list.querySelectorAll('button')].entries()) {
      button.ariaCurrent = at === place ? 'true' : null;
    }
  }

  #button(label: string, place: number): Node {
    const image = html('img', { alt: '', width: 64, height: 64, loading: 'lazy', decoding: 'async' });
    const button = html(
      'button',
      { type: 'button', onclick: () => this.#onChoose(place) },
      image,
      html('span', {}, label),
    );
    return html('li', {}, button);
  }
}
