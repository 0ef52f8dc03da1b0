/** The difference between what the network saw of a source and what the browser draws of it, in levels, of each kind of source. */
export type Differences = Record<string, number>;

/** A video of four corners of other colours, lying on its side, as phones record it. Works in browsers that record MP4. */
export async function recordClip(): Promise<string> {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [320, 180];
  const context = canvas.getContext('2d') as CanvasRenderingContext2D;
  const recorder = new MediaRecorder(canvas.captureStream(), { mimeType: 'video/mp4;codecs=vp9' });
  const parts: Blob[] = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.start();
  const squares = [
    ['#206080', 0, 0, 320, 180],
    ['#e04020', 0, 0, 120, 70],
    ['#40e060', 200, 0, 120, 70],
    ['#f0f0f0', 0, 110, 120, 70],
  ] as const;
  for (let frame = 0; frame < 10; frame += 1) {
    for (const [colour, x, y, width, height] of squares) {
      context.fillStyle = colour;
      context.fillRect(x, y, width, height);
    }
    context.fillRect(frame, 90, 1, 1);
    await new Promise(requestAnimationFrame);
  }
  await new Promise((resolve) => {
    recorder.onstop = resolve;
    recorder.stop();
  });
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  turn(bytes);
  return btoa(Array.from(bytes, (it) => String.fromCharCode(it)).join(''));

  /** Writes a turn by 90° into the matrix of the track's header: ISO/IEC 14496-12, section 8.3.2. */
  function turn(bytes: Uint8Array): void {
    const name = bytes.findIndex((_, at) => String.fromCharCode(...bytes.subarray(at, at + 4)) === 'tkhd');
    const isLong = bytes[name + 4] === 1;
    const matrix = name + (isLong ? 56 : 44);
    const view = new DataView(bytes.buffer);
    const height = view.getInt32(matrix + 40);
    for (const [at, value] of [0, 65536, 0, -65536, 0, 0, height, 0, 1 << 30].entries())
      view.setInt32(matrix + 4 * at, value);
  }
}

/** Shows sources of every kind to the network, with a page of the example open. `clip` is what {@link recordClip} gave. */
export async function differences(clip: string): Promise<Differences> {
  const { SplitClient } = await import('/split-inference/dist/index.js' as string);
  const client = await SplitClient.connect({ pixels: true });
  const { width: columns, height: rows } = client.series;
  const found: Differences = {};
  const look = async (name: string, source: CanvasImageSource & object, width: number, height: number) => {
    const expected = reduced(drawn(source, width, height), width, height);
    const { data } = (await client.infer(source)).pixels;
    found[name] = Math.max(...expected.map((it, at) => Math.abs(it - (data[at] ?? Number.NaN))));
  };
  const bt709 = { matrix: 'bt709', primaries: 'bt709', transfer: 'bt709', fullRange: false } as const;
  for (const [name, frame] of frames()) await look(name, frame, frame.displayWidth, frame.displayHeight);
  for (const [width, height] of sizes()) {
    const canvas = card(width, height);
    await look(`canvas ${width}×${height}`, canvas, width, height);
    await look(`bitmap ${width}×${height}`, await createImageBitmap(canvas), width, height);
  }
  const video = await opened(clip);
  await look('a video on its side', video, video.videoWidth, video.videoHeight);
  client.close();
  return found;

  /** Sizes around those where a pixel more or less is cut away. */
  function sizes(): [number, number][] {
    const sides = [2 * columns + 1, 2 * columns + 2, 4 * columns + 3];
    return sides.flatMap((width) => sides.map((height): [number, number] => [width, height]));
  }

  function frames(): [string, VideoFrame][] {
    const made: [string, VideoFrame][] = [];
    const add = (name: string, init: object, ...size: [number, number]) => {
      for (const format of ['I420', 'NV12'] as const) {
        try {
          made.push([`${format} ${name}`, planes(format, init, ...size)]);
        } catch {
          // Not every browser makes frames of odd sizes or of all colours.
        }
      }
    };
    for (const rotation of [0, 90, 180, 270]) {
      for (const flip of [false, true])
        add(`turned by ${rotation}, ${flip}`, { rotation, flip, colorSpace: bt709 }, 240, 180);
    }
    add(
      'of which a part is visible',
      { visibleRect: { x: 30, y: 20, width: 150, height: 80 }, colorSpace: bt709 },
      240,
      180,
    );
    add('stretched', { displayWidth: 360, displayHeight: 180, colorSpace: bt709 }, 240, 180);
    for (const [width, height] of sizes()) add(`${width}×${height}`, { colorSpace: bt709 }, width, height);
    for (const colours of [
      { primaries: 'smpte432' },
      { primaries: 'bt2020' },
      { primaries: 'smpte170m', transfer: 'smpte170m' },
      { primaries: 'bt2020', transfer: 'pq' },
      { primaries: 'bt2020', transfer: 'hlg', matrix: 'bt2020-ncl' },
      { transfer: 'iec61966-2-1', fullRange: true },
      { transfer: 'linear' },
      { matrix: 'smpte170m' },
      { matrix: null, primaries: null, transfer: null, fullRange: null },
    ]) {
      add(JSON.stringify(colours), { colorSpace: { ...bt709, ...colours } }, 240, 180);
    }
    add('of high definition without a name', {}, 1280, 720);
    for (const rotation of [0, 90]) {
      const { data } = (card(133, 99).getContext('2d') as OffscreenCanvasRenderingContext2D).getImageData(
        0,
        0,
        133,
        99,
      );
      const init = { format: 'RGBX', codedWidth: 133, codedHeight: 99, timestamp: 0, rotation } as const;
      made.push([`RGBX turned by ${rotation}`, new VideoFrame(data, init)]);
    }
    return made;
  }

  /** Brightness that grows to the right and colours that change downwards, within what every range allows. */
  function planes(format: 'I420' | 'NV12', init: object, width: number, height: number): VideoFrame {
    const [halfWidth, halfHeight] = [Math.ceil(width / 2), Math.ceil(height / 2)];
    const y = Array.from({ length: width * height }, (_, at) => 60 + (120 * (at % width)) / width);
    const row = (at: number) => Math.floor(at / halfWidth) / halfHeight;
    const u = Array.from({ length: halfWidth * halfHeight }, (_, at) => 110 + 30 * row(at));
    const v = u.map((_, at) => 150 - 30 * row(at));
    const colour = format === 'I420' ? [...u, ...v] : u.flatMap((it, at) => [it, v[at] ?? 0]);
    const data = Uint8Array.from([...y, ...colour]);
    return new VideoFrame(data, { format, codedWidth: width, codedHeight: height, timestamp: 0, ...init });
  }

  /** Stripes of colours that tell where they lie. */
  function card(width: number, height: number): OffscreenCanvas {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext('2d') as OffscreenCanvasRenderingContext2D;
    context.fillStyle = 'teal';
    context.fillRect(0, 0, width, height);
    for (let x = 0; x < width; x += 7) {
      context.fillStyle = `hsl(${x}, 80%, ${20 + (40 * x) / width}%)`;
      context.fillRect(x, x / 5, 7, height);
    }
    return canvas;
  }

  async function opened(base64: string): Promise<HTMLVideoElement> {
    const video = document.createElement('video');
    video.muted = true;
    const bytes = Uint8Array.from(atob(base64), (it) => it.charCodeAt(0));
    video.src = URL.createObjectURL(new Blob([bytes], { type: 'video/mp4' }));
    document.body.append(video);
    const shown = new Promise((resolve) => video.requestVideoFrameCallback(resolve));
    await video.play();
    await shown;
    video.pause();
    return video;
  }

  function drawn(source: CanvasImageSource, width: number, height: number): Uint8ClampedArray {
    const context = new OffscreenCanvas(width, height).getContext('2d') as OffscreenCanvasRenderingContext2D;
    context.fillRect(0, 0, width, height);
    context.drawImage(source, 0, 0);
    return context.getImageData(0, 0, width, height).data;
  }

  /** The middle, each pixel the mean of what it covers. */
  function reduced(rgba: Uint8ClampedArray, width: number, height: number): number[] {
    const scale = Math.min(width / columns, height / rows);
    const [left, top] = [(width - scale * columns) / 2, (height - scale * rows) / 2];
    const across = Array.from({ length: columns }, (_, at) => weights(left + at * scale, scale, width));
    const down = Array.from({ length: rows }, (_, at) => weights(top + at * scale, scale, height));
    return down.flatMap((ys) => across.flatMap((xs) => mean(rgba, width, xs, ys)));
  }

  function mean(rgba: Uint8ClampedArray, width: number, xs: [number, number][], ys: [number, number][]): number[] {
    const sums = [0, 0, 0, 0];
    let total = 0;
    for (const [y, high] of ys) {
      for (const [x, wide] of xs) {
        total += high * wide;
        for (const channel of [0, 1, 2, 3])
          sums[channel] = (sums[channel] ?? 0) + high * wide * (rgba[4 * (y * width + x) + channel] ?? 0);
      }
    }
    return sums.map((it) => it / total);
  }

  /** The pixels that a stretch covers, and how much of each. */
  function weights(from: number, length: number, limit: number): [number, number][] {
    const found: [number, number][] = [];
    for (let at = Math.floor(from); at < Math.min(limit, from + length - 1e-9); at += 1) {
      found.push([at, Math.min(at + 1, from + length) - Math.max(at, from)]);
    }
    return found;
  }
}
