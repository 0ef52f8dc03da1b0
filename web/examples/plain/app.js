import { SplitClient } from './split-inference/dist/index.js';

const [start, file, video, label] = ['start', 'file', 'video', 'label'].map((it) => document.getElementById(it));
const show = ({ label: name, probability, timings }) => {
  label.textContent = `${name}, ${Math.round(probability * 100)} %, in ${timings.total.toFixed(1)} ms`;
};
const attempt = async (work) => {
  try {
    await work();
  } catch (error) {
    label.textContent = error.message;
  }
};

attempt(async () => {
  const client = await SplitClient.connect();
  label.textContent = 'Ready';
  file.onchange = () => attempt(async () => show(await client.infer(await createImageBitmap(file.files[0]))));
  start.onclick = () =>
    attempt(async () => {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
      await video.play();
      for await (const result of client.stream(video)) show(result);
    });
});
