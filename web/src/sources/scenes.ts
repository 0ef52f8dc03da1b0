/** Side of the square that scenes are drawn on. */
export const SIDE = 320;

/** Draws a scene at a time, in seconds. */
export type Scene = (context: CanvasRenderingContext2D, seconds: number) => void;

/** What the sample shows, one after the other. */
export const SCENES: readonly Scene[] = [ship, airplane, automobile];

function ship(context: CanvasRenderingContext2D, seconds: number): void {
  gradient(context, 0, 200, '#9cc4e8', '#e3edf4');
  gradient(context, 190, SIDE, '#3f7ba6', '#1d4c72');
  context.save();
  context.translate(40 + 14 * Math.sin(seconds * 0.7), 4 * Math.sin(seconds * 1.9));
  shape(context, '#7d2a26', [0, 180, 240, 180, 210, 232, 30, 232]);
  shape(context, '#e9e6df', [42, 150, 190, 150, 190, 180, 42, 180]);
  shape(context, '#f6f4ef', [70, 122, 160, 122, 160, 150, 70, 150]);
  shape(context, '#2c3440', [100, 84, 124, 84, 124, 122, 100, 122]);
  shape(context, '#c8502e', [100, 84, 124, 84, 124, 96, 100, 96]);
  for (let at = 0; at < 5; at += 1) disc(context, '#34495e', 60 + 28 * at, 165, 5);
  context.restore();
  waves(context, seconds);
}

function airplane(context: CanvasRenderingContext2D, seconds: number): void {
  gradient(context, 0, SIDE, '#5f9bd6', '#d5e6f5');
  for (const [left, top, size] of [
    [40, 80, 1],
    [210, 240, 1.3],
    [130, 290, 0.9],
  ] as const) {
    cloud(context, ((left - 30 * seconds) % 440) + (left < 30 * seconds ? 440 : 0) - 80, top, size);
  }
  context.save();
  context.translate(160, 160 + 6 * Math.sin(seconds * 1.3));
  context.rotate(-0.12 + 0.04 * Math.sin(seconds));
  shape(context, '#8d97a5', [-20, -8, 30, -8, -30, -78, -52, -78]);
  ellipse(context, '#f3f5f8', 0, 0, 128, 19);
  shape(context, '#d9dee6', [-128, -2, -92, -8, -118, -58, -142, -58]);
  shape(context, '#b4bdc9', [-14, 4, 44, 4, -34, 88, -62, 88]);
  shape(context, '#2b3a4d', [104, -9, 118, -4, 98, -3, 96, -9]);
  for (let at = 0; at < 9; at += 1) disc(context, '#5d6f86', -66 + 18 * at, -4, 3.2);
  context.restore();
}

function automobile(context: CanvasRenderingContext2D, seconds: number): void {
  gradient(context, 0, 190, '#a9cbe6', '#eef3f6');
  gradient(context, 180, 225, '#7fa267', '#5f8a4d');
  gradient(context, 222, SIDE, '#5b5f66', '#44474d');
  for (let at = 0; at < 5; at += 1) {
    const left = ((at * 90 - 120 * seconds) % 450) + (at * 90 < 120 * seconds ? 450 : 0) - 90;
    shape(context, '#d9d9d2', [left, 284, left + 46, 284, left + 40, 292, left - 6, 292]);
  }
  context.save();
  context.translate(30, 1.5 * Math.sin(seconds * 9));
  shape(context, '#b3261e', [4, 196, 40, 178, 84, 138, 176, 138, 214, 176, 254, 186, 258, 232, 4, 232]);
  shape(context, '#22303f', [66, 176, 92, 148, 124, 148, 124, 176]);
  shape(context, '#22303f', [134, 176, 134, 148, 170, 148, 196, 176]);
  shape(context, '#f5d76e', [244, 192, 256, 194, 257, 206, 246, 204]);
  for (const left of [62, 204]) {
    disc(context, '#1b1d20', left, 232, 28);
    disc(context, '#b9bec6', left, 232, 13);
  }
  context.restore();
}

function gradient(context: CanvasRenderingContext2D, top: number, bottom: number, from: string, to: string): void {
  const fill = context.createLinearGradient(0, top, 0, bottom);
  fill.addColorStop(0, from);
  fill.addColorStop(1, to);
  context.fillStyle = fill;
  context.fillRect(0, top, SIDE, bottom - top);
}

/** A polygon through points `x, y, x, y, …`. */
function shape(context: CanvasRenderingContext2D, fill: string, points: number[]): void {
  context.fillStyle = fill;
  context.beginPath();
  for (let at = 0; at + 1 < points.length; at += 2) context.lineTo(points[at] ?? 0, points[at + 1] ?? 0);
  context.closePath();
  context.fill();
}

function disc(context: CanvasRenderingContext2D, fill: string, x: number, y: number, radius: number): void {
  ellipse(context, fill, x, y, radius, radius);
}

function ellipse(context: CanvasRenderingContext2D, fill: string, x: number, y: number, rx: number, ry: number): void {
  context.fillStyle = fill;
  context.beginPath();
  context.ellipse(x, y, rx, ry, 0, 0, 2 * Math.PI);
  context.fill();
}

function cloud(context: CanvasRenderingContext2D, x: number, y: number, size: number): void {
  for (const [dx, dy, radius] of [
    [0, 0, 20],
    [24, -9, 25],
    [52, 0, 19],
  ] as const) {
    disc(context, '#ffffffd0', x + dx * size, y + dy * size, radius * size);
  }
}

function waves(context: CanvasRenderingContext2D, seconds: number): void {
  context.fillStyle = '#2a628d';
  context.beginPath();
  context.moveTo(0, SIDE);
  for (let x = 0; x <= SIDE; x += 8) context.lineTo(x, 224 + 5 * Math.sin(x / 22 + seconds * 1.6));
  context.lineTo(SIDE, SIDE);
  context.fill();
}
