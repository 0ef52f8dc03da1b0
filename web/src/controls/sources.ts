import type { Series } from 'split-inference';

import { element, setText } from '../dom.js';
import type { Start } from '../options.js';
import { messageOf, type Problems } from '../problems.js';
import { type Album, albumOf } from '../sources/albums.js';
import { type Camera, type CameraWish, listCameras, openCamera, rememberCamera } from '../sources/camera.js';
import { openAddress, openFile } from '../sources/file.js';
import { openSample } from '../sources/sample.js';
import { openSlides } from '../sources/slides.js';
import type { Source } from '../sources/source.js';
import { acceptDrops, acceptPastes } from './drop.js';
import { SampleControls } from './samples.js';

type Kind = 'camera' | 'sample' | 'file';

/** How long each of several pictures is shown. */
const TURN_MS = 4000;

/** What the controls tell. */
export interface SourceListener {
  /** This is looked at from now on. */
  source(source: Source | undefined): void;
  /** Whether what is looked at stands still at the user's wish. */
  paused(isPaused: boolean): void;
}

/** The controls by which people say what is looked at. */
export class SourceControls {
  readonly #problems: Problems;
  readonly #listener: SourceListener;
  readonly #file = element('file', HTMLInputElement);
  readonly #device = element('device', HTMLSelectElement);
  readonly #choice = element('camera-choice', HTMLElement);
  readonly #turns = element('turns', HTMLElement);
  readonly #detail = element('source-detail', HTMLElement);
  readonly #pause = element('pause', HTMLElement);
  readonly #samples = new SampleControls((place) => this.#openSample(place));
  /** The pictures that are the sample, once the series is known; without any, scenes are drawn. */
  #album: Promise<Album | undefined>;
  #setAlbum: (album: Album | undefined) => void = () => undefined;
  #camera: Camera | undefined;
  #kind: Kind | undefined;
  #shown: Source | undefined;
  #isPaused = false;
  /** The picture of the sample that was chosen. */
  #place: number | undefined;
  /** Files that are shown in turn, and which of them is. */
  #files: File[] = [];
  #turn = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Counts what was asked for: what comes after something newer was asked for is not wanted any more. */
  #asked = 0;

  constructor(problems: Problems, listener: SourceListener) {
    this.#problems = problems;
    this.#listener = listener;
    this.#album = new Promise((resolve) => {
      this.#setAlbum = resolve;
    });
    element('sample', HTMLElement).onclick = () => this.begin({ source: 'sample' });
    element('camera', HTMLElement).onclick = () => (this.#camera ? this.#stop() : this.begin({ source: 'camera' }));
    element('flip', HTMLElement).onclick = () => this.#flip();
    element('previous', HTMLElement).onclick = () => this.#go(-1);
    element('next', HTMLElement).onclick = () => this.#go(1);
    this.#pause.onclick = () => this.#setPaused(!this.#isPaused);
    this.#device.onchange = () => this.#openCamera({ device: this.#device.value });
    // So that the same file can be chosen again.
    this.#file.onclick = () => {
      this.#file.value = '';
    };
    this.#file.onchange = () => this.#openFiles([...(this.#file.files ?? [])]);
    const address = element('address', HTMLInputElement);
    element('address-form', HTMLFormElement).onsubmit = (event) => {
      event.preventDefault();
      this.#openAddress(address.value);
    };
    acceptDrops((files) => this.#openFiles(files));
    acceptPastes(
      (files) => this.#openFiles(files),
      (url) => this.#openAddress(url),
    );
    navigator.mediaDevices?.addEventListener('devicechange', () => this.#list());
  }

  /** Opens what the page starts with. */
  begin({ source, picture }: Start): void {
    this.#files = [];
    if (source === 'camera') this.#openCamera({});
    if (source === 'sample') this.#openSample(picture);
  }

  /** What is shown, for a link; files cannot be linked to. */
  get start(): Start | undefined {
    const kind = this.#kind;
    return kind === 'camera' || kind === 'sample' ? { source: kind, picture: this.#place } : undefined;
  }

  /** Shows the sample of a series instead of another's. */
  know(series: Series): void {
    const album = albumOf(series);
    this.#setAlbum(album);
    this.#album = Promise.resolve(album);
    this.#samples.show(album);
    if (this.#kind === 'sample') this.#openSample(this.#place);
  }

  /** Loads what can wait until there is a result. */
  load(): void {
    this.#samples.load();
  }

  /** Opens the sample, or one picture of it. */
  async #openSample(place?: number): Promise<void> {
    this.#files = [];
    this.#place = place;
    let first = 0;
    const onPicture = (it: number) => this.#samples.mark(it);
    const opened = await this.#open('sample', async () => {
      const album = await this.#album;
      // A link may be of another album.
      const stays = place !== undefined && album?.pictures[place] !== undefined;
      first = stays ? place : 0;
      return album ? openSlides(album, { first, stays, onPicture }) : openSample();
    });
    if (opened) onPicture(first);
  }

  #openFiles(files: File[]): void {
    if (files.length === 0) return;
    this.#files = files;
    this.#turn = 0;
    this.#openTurn();
  }

  async #openTurn(): Promise<void> {
    const file = this.#files[this.#turn];
    if (!file) return;
    const files = this.#files;
    await this.#open('file', () => openFile(file), file.name);
    // One that cannot be shown does not keep the others back.
    if (files === this.#files && files.length > 1) this.#waitForTurn();
  }

  #waitForTurn(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => (this.#isPaused ? this.#waitForTurn() : this.#go(1)), TURN_MS);
  }

  #go(step: number): void {
    if (this.#files.length === 0) return;
    this.#turn = (this.#turn + step + this.#files.length) % this.#files.length;
    this.#openTurn();
  }

  #openAddress(url: string): void {
    this.#files = [];
    this.#open('file', () => openAddress(url), url);
  }

  async #openCamera(wish: CameraWish): Promise<void> {
    // Many devices cannot run two cameras at a time.
    if (this.#camera) this.#show(undefined, 'camera');
    this.#camera = undefined;
    const camera = await this.#open('camera', () => openCamera(wish, () => this.#lost()));
    if (camera) {
      this.#camera = camera;
      rememberCamera(camera.device);
    }
    this.#nameCamera();
    await this.#list();
  }

  /** Opens a source; the one before is shown until it is there, and on if it cannot be had. */
  async #open<Opened extends Source>(
    kind: Kind,
    open: () => Promise<Opened>,
    name?: string,
  ): Promise<Opened | undefined> {
    clearTimeout(this.#timer);
    this.#asked += 1;
    const asked = this.#asked;
    try {
      if (kind === 'camera') setText(this.#detail, 'Waiting for the camera…');
      if (kind === 'sample') setText(this.#detail, 'The sample is shown once the network is known.');
      if (name !== undefined) setText(this.#detail, `Opening ${name} …`);
      const source = await open();
      if (asked === this.#asked) {
        if (kind !== 'camera') this.#camera = undefined;
        this.#problems.clear('source');
        this.#show(source, kind);
        return source;
      }
      source.close();
    } catch (thrown) {
      if (asked === this.#asked) this.#refuse(thrown);
    }
    return undefined;
  }

  /** Says why a source cannot be had. */
  #refuse(thrown: unknown): void {
    const several = this.#files.length > 1;
    if (this.#shown) setText(this.#detail, several ? `${this.#turnText()}cannot be shown` : detailOf(this.#shown));
    else this.#show(undefined);
    this.#problems.show('source', messageOf(thrown));
  }

  #show(source: Source | undefined, kind?: Kind): void {
    this.#shown = source;
    this.#kind = kind;
    if (kind !== 'sample') this.#samples.mark(undefined);
    for (const it of ['sample', 'camera'] as const) element(it, HTMLElement).ariaPressed = `${it === kind}`;
    this.#file.parentElement?.classList.toggle('pressed', kind === 'file');
    this.#choice.hidden = kind !== 'camera' || this.#device.options.length < 2;
    this.#nameCamera();
    const several = kind === 'file' && this.#files.length > 1;
    this.#turns.hidden = !several;
    const place = several ? this.#turnText() : '';
    setText(this.#detail, source ? place + detailOf(source) : '');
    this.#listener.source(source);
    // Another picture of several does not end a pause by itself; anything else is looked at at once.
    this.#pause.hidden = !source || (source.still && !several);
    if (!several) this.#setPaused(false);
  }

  #turnText(): string {
    return `${this.#turn + 1} of ${this.#files.length}: `;
  }

  #setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused;
    this.#pause.ariaPressed = `${isPaused}`;
    this.#listener.paused(isPaused);
  }

  /** The camera's button is also the one that stops it. */
  #nameCamera(): void {
    setText(element('camera', HTMLElement), this.#camera && this.#shown === this.#camera ? 'Stop camera' : 'Camera');
  }

  #stop(): void {
    this.#camera = undefined;
    this.#show(undefined);
    setText(this.#detail, 'The camera is off.');
  }

  async #list(): Promise<void> {
    const camera = this.#camera;
    if (!camera) return;
    const count = await listCameras(this.#device, camera.device);
    this.#choice.hidden = count < 2 || this.#camera !== camera;
  }

  /** To the other side, where the browser knows sides; to the next camera elsewhere. */
  #flip(): void {
    const { facing } = this.#camera ?? {};
    if (facing !== undefined && facing !== '') {
      this.#openCamera({ facing: facing === 'user' ? 'environment' : 'user' });
      return;
    }
    const next = this.#device.options[(this.#device.selectedIndex + 1) % this.#device.options.length];
    if (next) this.#openCamera({ device: next.value });
  }

  #lost(): void {
    this.#camera = undefined;
    this.#show(undefined);
    this.#problems.show('source', 'The camera is gone: connect it again and press Camera, or choose Sample or a file.');
  }
}

function detailOf({ name, credited = false }: Source): string {
  return credited ? '' : name;
}
