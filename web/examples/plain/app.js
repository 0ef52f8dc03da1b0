import { SplitClient } from './split-inference/dist/index.js';

const [start, file, video, label] = ['start', 'file', 'video', 'label'].map((it) => document.getElementById(it));
const show = ({ label: name, probability, timings }) => {
  label.textContent = `${name}, ${Math.round(probability * 100)} %, in ${timings.total.toFixed(1)} ms`;
};
const tell = (error) => {
  label.textContent = error.message;
};

try {
  const client = await SplitClient.connect();
  label.textContent = 'Ready';
  file.onchange = () =>
    createImageBitmap(file.files[0])
      .then((it) => client.infer(it))
      .then(show, tell);
  start.onclick = async () => {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
      await video.play();
      for await (const result of client.stream(video)) show(result);
    } catch (error) {
      tell(error);
    }
  };
} catch (error) {
  tell(error);
}
