import { element, setText } from '../dom.js';
import type { StartSource } from '../options.js';
import { messageOf, type Problems } from '../problems.js';
import { type Camera, type CameraWish, listCameras, openCamera } from '../sources/camera.js';
import { openFile } from '../sources/file.js';
import { openSample } from '../sources/sample.js';
import type { Source } from '../sources/source.js';
import { acceptDrops } from './drop.js';

type Kind = 'camera' | 'sample' | 'file';

/** The controls by which people say what is looked at. */
export class SourceControls {
  readonly #problems: Problems;
  readonly #onSource: (source: Source | undefined) => void;
  readonly #file = element('file', HTMLInputElement);
  readonly #device = element('device', HTMLSelectElement);
  readonly #choice = element('camera-choice', HTMLElement);
  readonly #detail = element('source-detail', HTMLElement);
  #camera: Camera | undefined;
  #shown: Source | undefined;
  /** Counts what was asked for: what comes after something newer was asked for is not wanted any more. */
  #asked = 0;

  constructor(problems: Problems, onSource: (source: Source | undefined) => void) {
    this.#problems = problems;
    this.#onSource = onSource;
    element('sample', HTMLElement).onclick = () => this.start('sample');
    element('camera', HTMLElement).onclick = () => this.start('camera');
    element('flip', HTMLElement).onclick = () => this.#flip();
    this.#device.onchange = () => this.#openCamera({ device: this.#device.value });
    // So that the same file can be chosen again.
    this.#file.onclick = () => {
      this.#file.value = '';
    };
    this.#file.onchange = () => this.#openFile(this.#file.files?.[0]);
    acceptDrops((file) => this.#openFile(file));
    navigator.mediaDevices?.addEventListener('devicechange', () => this.#list());
  }

  /** Opens what the page starts with. */
  start(source: StartSource): void {
    if (source === 'camera') this.#openCamera({});
    if (source === 'sample') this.#open('sample', async () => openSample());
  }

  #openFile(file: File | undefined): void {
    if (file) this.#open('file', () => openFile(file));
  }

  async #openCamera(wish: CameraWish): Promise<void> {
    // Many devices cannot run two cameras at a time.
    if (this.#camera) this.#show(undefined, 'camera');
    this.#camera = undefined;
    const camera = await this.#open('camera', () => openCamera(wish, () => this.#lost()));
    if (camera) this.#camera = camera;
    await this.#list();
  }

  /** Opens a source; the one before is shown until it is there, and on if it cannot be had. */
  async #open<Opened extends Source>(kind: Kind, open: () => Promise<Opened>): Promise<Opened | undefined> {
    this.#asked += 1;
    const asked = this.#asked;
    try {
      if (kind === 'camera') setText(this.#detail, 'Waiting for the camera…');
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
    if (this.#shown) setText(this.#detail, this.#shown.name);
    else this.#show(undefined);
    this.#problems.show('source', messageOf(thrown));
  }

  #show(source: Source | undefined, kind?: Kind): void {
    this.#shown = source;
    for (const it of ['sample', 'camera'] as const) element(it, HTMLElement).ariaPressed = `${it === kind}`;
    this.#file.parentElement?.classList.toggle('pressed', kind === 'file');
    this.#choice.hidden = kind !== 'camera' || this.#device.options.length < 2;
    setText(this.#detail, source?.name ?? '');
    this.#onSource(source);
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
